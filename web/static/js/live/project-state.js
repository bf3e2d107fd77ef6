/** @import {Agent, Feature, Hint, Pipeline, Project, Run} from "../types.js" */
/** @import {SharedClient} from "./shared-client.js" */
import { Problem } from "../problem.js";
import { ENDED, isSaid } from "../store/run-view.js";
import { Signal } from "./signal.js";

const RETRY_MS = 3_000;

/** A project's features and runs, with a live feed for each run that somebody could look at. */
export class ProjectState {
  /** @param {string} projectId @param {SharedClient} client */
  constructor(projectId, client) {
    this.projectId = projectId;
    this.client = client;
    this.signal = new Signal();
    /** @type {Project|null} */
    this.project = null;
    /** @type {Agent[]} */
    this.agents = [];
    /** @type {Feature[]} */
    this.features = [];
    /** @type {Map<string, Pipeline>} by feature id */
    this.pipelines = new Map();
    /** @type {Run[]} newest first */
    this.runs = [];
    /** @type {Map<string, () => void>} what ends the following of a run */
    this.followed = new Map();
    this.isLoaded = false;
    /** What went wrong with each of them; what is fetched after all takes only its own back. */
    this.problems = { project: "", runs: "", features: "" };
    this.isClosed = false;
    this.isLoadingRuns = false;
    this.isStale = false;
    this.retryMs = RETRY_MS;
    /** @type {Promise<void>|null} the one that fetches features and pipelines: an older answer must not replace a newer one */
    this.loadingFeatures = null;
    /** @type {Set<string>} features to be fetched, "" for all of them */
    this.dueFeatures = new Set();
    this.stopWatching = client.watch(projectId, (hint) => this.hinted(hint));
  }

  get problem() {
    return this.problems.project || this.problems.runs || this.problems.features;
  }

  /** @param {Hint} hint */
  hinted(hint) {
    if (hint.type !== "features") void this.loadRuns();
    if (hint.type !== "runs") void this.loadFeatures(hint.feature_id);
  }

  async load() {
    const { api } = this.client;
    try {
      [this.project, this.agents] = await Promise.all([api.project(this.projectId), api.agents(), this.loadFeatures()]);
      this.problems.project = "";
    } catch (error) {
      this.problems.project = Problem.from(error).message;
    }
    await this.loadRuns();
    this.isLoaded = !this.problem;
    this.signal.notify();
  }

  /** Fetch the runs; hints that come meanwhile are answered by one more fetch. */
  async loadRuns() {
    this.isStale = true;
    if (this.isLoadingRuns || this.isClosed) return;
    this.isLoadingRuns = true;
    while (this.isStale && !this.isClosed) {
      this.isStale = false;
      try {
        const runs = await this.client.api.runs(this.projectId);
        this.runs = runs.map((run) => ({ ...run, fetched_at: Date.now() }));
        if (this.runs.some((run) => !this.features.some((feature) => feature.id === run.feature_id))) {
          void this.loadFeatures();
        }
        this.followAll();
        this.problems.runs = "";
      } catch (error) {
        this.problems.runs = Problem.from(error).message;
      }
      this.signal.notify();
    }
    this.isLoadingRuns = false;
  }

  async fetchFeatures() {
    const { api } = this.client;
    const [features, pipelines] = await Promise.all([api.features(this.projectId), api.pipelines(this.projectId)]);
    this.features = features;
    this.pipelines = new Map(pipelines.map((one) => [one.feature_id, one]));
  }

  /** Fetch a feature's pipeline, or all there are; hints that come meanwhile are answered by one more fetch. Done when nothing is due. */
  async loadFeatures(featureId = "") {
    this.dueFeatures.add(featureId);
    if (!this.isClosed) await (this.loadingFeatures ??= this.fetchDue());
  }

  /** What fails is tried once more; after that it stays due until somebody asks for anything. */
  async fetchDue() {
    let hasFailed = false;
    while (this.dueFeatures.size && !this.isClosed) {
      const due = [...this.dueFeatures];
      this.dueFeatures.clear();
      try {
        if (due.every((id) => this.pipelines.has(id))) for (const id of due) this.put(await this.client.api.pipeline(id));
        else await this.fetchFeatures();
        this.problems.features = "";
        hasFailed = false;
      } catch (error) {
        for (const id of due) this.dueFeatures.add(id);
        this.problems.features = Problem.from(error).message;
        this.signal.notify();
        if (hasFailed) break;
        hasFailed = true;
        await new Promise((done) => setTimeout(done, this.retryMs));
      }
      this.signal.notify();
    }
    this.loadingFeatures = null;
  }

  /** What a request said of a pipeline. @param {Pipeline} line */
  put(line) {
    this.pipelines.set(line.feature_id, line);
    // whether a feature is done stands with those that wait for it too
    for (const other of this.pipelines.values()) {
      if (other.after.some((one) => one.feature_id === line.feature_id && one.done !== (line.state === "done"))) void this.loadFeatures(other.feature_id);
    }
    this.signal.notify();
  }

  followAll() {
    if (this.isClosed) return;
    for (const run of this.runs) {
      if (this.followed.has(run.id) || !this.shownRuns(run.feature_id, run.agent_id).includes(run)) continue;
      const feed = this.client.acquire(run.id);
      const stop = feed.signal.subscribe(() => this.signal.notify());
      this.followed.set(run.id, () => {
        stop();
        this.client.release(run.id);
      });
      feed.follow(run);
      void this.countUnread(run, feed);
    }
  }

  /** What the agent said since this person last looked. @param {Run} run @param {import("./run-feed.js").RunFeed} feed */
  async countUnread(run, feed) {
    const mark = this.client.readMarks.get(run.id) ?? 0;
    if (run.head <= mark) return;
    try {
      const page = await this.client.api.messages(run.id, { after: mark, limit: 100, kinds: ["message", "question"] });
      // Only counted: the events themselves come with the pages of the chat, without a hole between.
      for (const event of page.events) if (isSaid(event)) feed.view.said.add(event.seq);
      this.signal.notify();
    } catch {
      // the badge stays away until something new is said
    }
  }

  /**
   * What Mission Control shows of an agent: every run that goes on (a pipeline starts one beside another that is on
   * hold with a question), else the newest.
   * @param {string} featureId @param {string} agentId @returns {Run[]} newest first
   */
  shownRuns(featureId, agentId) {
    const mine = this.runs.filter((run) => run.feature_id === featureId && run.agent_id === agentId);
    const open = mine.filter((run) => {
      const view = this.client.feeds.get(run.id)?.feed.view; // ahead of the list
      return !ENDED.has(view?.statusSeq ? view.status : run.status);
    });
    return open.length ? open : mine.slice(0, 1);
  }

  close() {
    this.isClosed = true;
    this.stopWatching();
    for (const stop of this.followed.values()) stop();
    this.followed.clear();
  }
}
