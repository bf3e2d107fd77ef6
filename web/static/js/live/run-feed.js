/** @import {Event, Run, Snapshot} from "../types.js" */
/** @import {Api} from "../api.js" */
/** @import {Line} from "../store/log-lines.js" */
import { Problem } from "../problem.js";
import { ENDED, RunView } from "../store/run-view.js";
import { Signal } from "./signal.js";

const TALK_KINDS = ["message", "question", "answer", "order", "status", "step", "error", "notice", "receipt"];
const PAGE = 80;
const LOG_PAGE = 100;

/**
 * One run, kept true: history by pages over HTTP, everything after it over the socket. `cursor` is the last
 * `seq` up to which nothing of the live part is missing; after a reconnect only what follows it is asked for.
 */
export class RunFeed {
  /**
   * @param {string} runId
   * @param {{api: Api, subscribe: (feed: RunFeed) => void, signal?: Signal}} options
   */
  constructor(runId, { api, subscribe, signal = new Signal() }) {
    this.runId = runId;
    this.api = api;
    this.subscribeLive = subscribe;
    this.signal = signal;
    this.view = new RunView(runId);
    /** @type {Run|null} */
    this.run = null;
    /** @type {number|null} */
    this.cursor = null;
    /** @type {string|null} */
    this.epoch = null;
    this.isLive = false;
    this.isResubscribing = false;
    /** @type {"idle"|"loading"|"ready"|"error"} */
    this.history = "idle";
    this.hasOlder = false;
    /** The first `seq` of the pages; single older events may be here too (an open question). */
    this.oldest = 0;
    this.isLoadingOlder = false;
    /** @type {Problem|null} */
    this.problem = null;
    /** @type {Set<(event: Event) => void>} */
    this.logListeners = new Set();
    /** @type {Set<() => void>} */
    this.gapListeners = new Set();
  }

  /** Follow from what a list of runs says, without any history. @param {Run} run */
  follow(run) {
    this.run = run;
    if (this.cursor !== null || this.history === "loading") return;
    if (this.view.statusSeq === 0) {
      this.view.status = run.status;
      this.view.phase = run.phase;
    }
    if (ENDED.has(run.status) && !run.head) return; // long over: nothing more will come, and its number is not kept
    this.cursor = run.head;
    this.subscribeLive(this);
  }

  /** Load the newest page of the talk, then follow after its head. */
  async load() {
    if (this.history === "loading" || this.history === "ready") return;
    this.history = "loading";
    this.signal.notify();
    try {
      const [page, { run, snapshot }] = await Promise.all([
        this.api.messages(this.runId, { limit: PAGE, kinds: TALK_KINDS }),
        this.api.run(this.runId),
      ]);
      if (this.view.epoch && page.epoch && this.view.epoch !== page.epoch) this.view.reset();
      this.view.epoch = page.epoch ?? this.view.epoch;
      for (const event of page.events) this.view.apply(event);
      this.run = run;
      this.view.applySnapshot(snapshot);
      this.oldest = page.events[0]?.seq ?? 0;
      this.hasOlder = page.has_more;
      this.history = "ready";
      this.problem = null;
      if (this.cursor === null) {
        this.cursor = page.head;
        this.epoch = page.epoch;
        this.subscribeLive(this);
      }
    } catch (error) {
      this.problem = Problem.from(error);
      this.history = "error";
    }
    this.signal.notify();
  }

  /** The page before the oldest event that is here. */
  async loadOlder() {
    if (!this.hasOlder || this.isLoadingOlder || this.history !== "ready") return;
    this.isLoadingOlder = true;
    this.signal.notify();
    try {
      const page = await this.api.messages(this.runId, { before: this.oldest, limit: PAGE, kinds: TALK_KINDS });
      for (const event of page.events) this.view.apply(event);
      this.oldest = page.events[0]?.seq ?? this.oldest;
      this.hasOlder = page.has_more && page.events.length > 0;
    } catch {
      // the same scroll asks again
    }
    this.isLoadingOlder = false;
    this.signal.notify();
  }

  /** @param {number} [before] @returns {Promise<{events: Event[], has_more: boolean}>} a page of log chunks */
  logPage(before) {
    return this.api.messages(this.runId, { before, limit: LOG_PAGE, kinds: ["log"] });
  }

  /** A frame of the socket that names this run. @param {any} frame */
  heard(frame) {
    if (frame.type === "event") this.event(frame.event);
    else if (frame.type === "delta") this.delta(frame);
    else if (frame.type === "subscribed") this.subscribed(frame);
    else if (frame.type === "refused") this.problem = new Problem(frame.problem);
    this.signal.notify();
  }

  /** @param {Event} event */
  event(event) {
    if (this.epoch && event.epoch !== this.epoch) return;
    if (event.kind === "log") for (const listener of this.logListeners) listener(event);
    this.view.apply(event);
    if (this.cursor === null || event.seq === this.cursor + 1) this.cursor = event.seq;
    else if (event.seq > this.cursor + 1) this.resubscribe();
  }

  /** @param {{message_id: string, offset: number, text: string}} frame */
  delta({ message_id: id, offset, text }) {
    if (!this.view.applyDelta(id, offset, text)) this.resubscribe();
  }

  /** @param {{resume: "ok"|"gap", epoch: string, head: number, snapshot: Snapshot}} frame */
  subscribed(frame) {
    this.isLive = true;
    this.isResubscribing = false;
    if (frame.resume === "gap") {
      this.view.reset();
      this.cursor = frame.head;
      this.epoch = frame.epoch;
      this.view.epoch = frame.epoch;
      this.view.applySnapshot(frame.snapshot);
      for (const listener of this.gapListeners) listener();
      // The socket sends nothing before the head after a gap is told: start from a fresh page.
      if (this.history === "ready" || this.history === "loading") {
        this.history = "idle";
        this.cursor = null;
        void this.load();
      } else {
        this.subscribeLive(this);
      }
      return;
    }
    this.epoch = frame.epoch;
    this.view.epoch ??= frame.epoch;
    this.cursor ??= frame.head;
    this.view.applySnapshot(frame.snapshot);
  }

  /** An event or a piece of text is missing: ask again for what follows the cursor. */
  resubscribe() {
    if (this.isResubscribing) return;
    this.isResubscribing = true;
    this.subscribeLive(this);
  }

  /** An event that an HTTP reply brought before the socket did. @param {Event} event */
  applied(event) {
    this.view.apply(event);
    this.signal.notify();
  }
}
