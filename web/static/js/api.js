/** @import {Run, Page, Event, Agent, Project, Feature, Pipeline, Snapshot, Anchor, Mode} from "./types.js" */
import { Problem } from "./problem.js";

/** Everything the page asks of the server over HTTP; each call resolves to parsed JSON or throws a Problem. */
export class Api {
  /**
   * @param {string} [base] origin of the server, "" for this page's own
   * @param {{fetch?: typeof fetch, timeoutMs?: number, onUnauthenticated?: () => void}} [options]
   */
  constructor(base = "", { fetch: fetcher = (...args) => fetch(...args), timeoutMs = 15_000, onUnauthenticated } = {}) {
    this.base = base;
    this.fetch = fetcher;
    this.timeoutMs = timeoutMs;
    this.onUnauthenticated = onUnauthenticated;
  }

  /**
   * @param {string} method @param {string} path
   * @param {{body?: any, key?: string, ifMatch?: string}} [options] `key` is the Idempotency-Key
   * @returns {Promise<{data: any, status: number, etag: string|null}>}
   */
  async request(method, path, { body, key, ifMatch } = {}) {
    /** @type {Record<string, string>} */
    const headers = { Accept: "application/json" };
    if (method !== "GET") headers["Content-Type"] = "application/json";
    if (key) headers["Idempotency-Key"] = key;
    if (ifMatch) headers["If-Match"] = ifMatch;
    let response;
    try {
      response = await this.fetch(this.base + path, {
        method,
        headers,
        body: method === "GET" ? undefined : JSON.stringify(body ?? {}),
        credentials: "same-origin",
        signal: AbortSignal.timeout(this.timeoutMs),
      });
    } catch (error) {
      throw Problem.from(error);
    }
    const text = await response.text().catch(() => "");
    let data = null;
    try {
      data = text ? JSON.parse(text) : null;
    } catch {
      data = null;
    }
    if (!response.ok) {
      const problem = new Problem({ status: response.status, title: response.statusText, ...(data ?? {}) });
      if (problem.status === 401 && this.onUnauthenticated) this.onUnauthenticated();
      throw problem;
    }
    return { data, status: response.status, etag: response.headers.get("ETag") };
  }

  /** @param {string} path */
  async get(path) {
    return (await this.request("GET", path)).data;
  }

  // --- who speaks ---
  session() {
    return this.get("/api/session");
  }
  /** @param {string} name */
  async signIn(name) {
    return (await this.request("POST", "/api/session", { body: { name } })).data;
  }
  async signOut() {
    await this.request("DELETE", "/api/session");
  }

  // --- what is being built ---
  /** @returns {Promise<Agent[]>} */
  async agents() {
    return (await this.get("/api/agents")).agents;
  }
  /** @returns {Promise<Project[]>} */
  async projects() {
    return (await this.get("/api/projects")).projects;
  }
  /** @param {string} id @returns {Promise<Project>} */
  async project(id) {
    const data = await this.get(`/api/projects/${encodeURIComponent(id)}`);
    return data.project ?? data;
  }
  /** @param {string} name @param {string} key @returns {Promise<Project>} */
  async createProject(name, key) {
    const { data } = await this.request("POST", "/api/projects", { body: { name }, key });
    return data.project ?? data;
  }
  /** @param {string} projectId @returns {Promise<Feature[]>} */
  async features(projectId) {
    return (await this.get(`/api/projects/${encodeURIComponent(projectId)}/features`)).features;
  }
  /** @param {string} projectId @param {{name: string, description: string, after?: string[]}} body @param {string} key @returns {Promise<Feature>} */
  async createFeature(projectId, body, key) {
    const { data } = await this.request("POST", `/api/projects/${encodeURIComponent(projectId)}/features`, { body, key });
    return data.feature ?? data;
  }
  /** @param {string} projectId @returns {Promise<Pipeline[]>} one for each feature */
  async pipelines(projectId) {
    return (await this.get(`/api/projects/${encodeURIComponent(projectId)}/pipelines`)).pipelines;
  }
  /** @param {string} featureId @returns {Promise<Pipeline>} */
  pipeline(featureId) {
    return this.get(`/api/features/${encodeURIComponent(featureId)}/pipeline`);
  }
  /**
   * @param {string} featureId @param {"start"|"skip"|"restart"|"after"} what
   * @param {any} body @param {string} key
   * @returns {Promise<Pipeline>}
   */
  async steer(featureId, what, body, key) {
    const feature = `/api/features/${encodeURIComponent(featureId)}`;
    if (what === "after") return (await this.request("PUT", `${feature}/after`, { body })).data;
    const path = `${feature}/pipeline${what === "start" ? "" : `/${what}`}`;
    return (await this.request("POST", path, { body, key })).data;
  }
  /** @param {string} featureId @returns {Promise<Run[]>} */
  async featureRuns(featureId) {
    return (await this.get(`/api/agent-runs?feature_id=${encodeURIComponent(featureId)}`)).runs;
  }
  /** @param {string} projectId @returns {Promise<Run[]>} */
  async runs(projectId) {
    return (await this.get(`/api/agent-runs?project_id=${encodeURIComponent(projectId)}`)).runs;
  }
  /** @param {{feature_id: string, agent_id: string, start: "launch"|"attach"}} body @param {string} key */
  async createRun(body, key) {
    return (await this.request("POST", "/api/agent-runs", { body, key })).data;
  }

  // --- one run ---
  /** @param {string} runId */
  path(runId) {
    return `/api/agent-runs/${encodeURIComponent(runId)}`;
  }
  /** @param {string} runId @returns {Promise<{run: Run, snapshot: Snapshot}>} */
  run(runId) {
    return this.get(this.path(runId));
  }
  /**
   * @param {string} runId
   * @param {{after?: number, before?: number, limit?: number, kinds?: string[]}} [query]
   * @returns {Promise<Page>}
   */
  messages(runId, { after, before, limit, kinds } = {}) {
    const query = new URLSearchParams();
    if (after !== undefined) query.set("after", String(after));
    if (before !== undefined) query.set("before", String(before));
    if (limit !== undefined) query.set("limit", String(limit));
    for (const kind of kinds ?? []) query.append("kind", kind);
    return this.get(`${this.path(runId)}/messages?${query}`);
  }
  /**
   * @param {string} runId @param {{text: string, mode?: Mode, reply_to?: string, anchor?: Anchor}} body @param {string} key
   * @returns {Promise<{event: Event}>}
   */
  async postMessage(runId, body, key) {
    return (await this.request("POST", `${this.path(runId)}/messages`, { body, key })).data;
  }
  /** @param {string} runId @param {string} id */
  message(runId, id) {
    return this.get(`${this.path(runId)}/messages/${encodeURIComponent(id)}`);
  }
  /** @param {string} runId @param {string} id @param {{text?: string, mode?: Mode}} body @param {number} version */
  async editMessage(runId, id, body, version) {
    const path = `${this.path(runId)}/messages/${encodeURIComponent(id)}`;
    return (await this.request("PATCH", path, { body, ifMatch: `"v${version}"` })).data;
  }
  /** @param {string} runId @param {string} id */
  async cancelMessage(runId, id) {
    return (await this.request("DELETE", `${this.path(runId)}/messages/${encodeURIComponent(id)}`)).data;
  }
  /** @param {string} runId @param {{action: string, every_steps?: number, reason?: string}} body @param {string} key */
  async order(runId, body, key) {
    return (await this.request("POST", `${this.path(runId)}/orders`, { body, key })).data;
  }
  /** @param {string} runId @param {string} questionId @param {{value?: string, text?: string}} body */
  async answer(runId, questionId, body) {
    const path = `${this.path(runId)}/questions/${encodeURIComponent(questionId)}/answer`;
    return (await this.request("POST", path, { body })).data;
  }
}
