/** @import {SharedClient} from "../live/shared-client.js" */
/** @import {ProjectState} from "../live/project-state.js" */
/** @import {Line} from "../store/log-lines.js" */
import { html } from "../../vendor/lit/index.js";
import { BLOCK, LogLines } from "../store/log-lines.js";
import { ENDED } from "../store/run-view.js";
import { plural } from "../words.js";
import { icon } from "./icon.js";
import { LightElement } from "./light-element.js";
import { LogBlock } from "./log-block.js";

const MAX_RUNS = 16;
/** Pages of each run that are fetched at most to find something: 10,000 chunks. */
const MAX_PAGES = 100;

/** The real log of a project's runs: follow, filter, quote, download. */
export class LogViewer extends LightElement {
  static properties = { isFollowing: { state: true }, wraps: { state: true }, filter: { state: true }, shownCount: { state: true }, isLoading: { state: true }, hasFailed: { state: true } };

  constructor() {
    super();
    /** @type {SharedClient} */
    this.client = /** @type {any} */ (null);
    /** @type {ProjectState} */
    this.state = /** @type {any} */ (null);
    this.log = new LogLines();
    /** @type {Map<string, {oldest: number, hasOlder: boolean, stop: () => void}>} */
    this.sources = new Map();
    this.isFollowing = true;
    this.wraps = false;
    /** @type {{agents: Set<string>|null, feature: string, level: string, text: string}} */
    this.filter = { agents: null, feature: "", level: "", text: "" };
    /** @type {Line[]} */
    this.shown = [];
    this.shownCount = 0;
    this.isLoading = false;
    this.hasFailed = false;
    /** @type {Promise<void>|null} */
    this.loading = null;
    /** @type {Line[]|null} new lines since the last drawing; null: draw all anew */
    this.fresh = [];
    this.isDrawing = false;
    this.target = decodeURIComponent(location.hash.slice(1));
  }

  connectedCallback() {
    super.connectedCallback();
    this.watch(this.state.signal);
    this.unwatch.push(this.state.signal.subscribe(() => void this.join()));
    void this.join();
  }

  disconnectedCallback() {
    super.disconnectedCallback();
    for (const source of this.sources.values()) source.stop();
    this.sources.clear();
  }

  get scroller() {
    return /** @type {HTMLElement} */ (this.querySelector(".log-scroll"));
  }

  get names() {
    return Object.fromEntries(this.state.agents.map((agent) => [agent.id, agent.name]));
  }

  get hasOlder() {
    return [...this.sources.values()].some((source) => source.hasOlder);
  }

  /** Take in the runs that are not here yet, those that go on first: newest page, then live. */
  async join() {
    const wanted = [...this.state.runs].sort((a, b) => Number(ENDED.has(a.status)) - Number(ENDED.has(b.status)));
    const runs = wanted.slice(0, MAX_RUNS).filter((run) => !this.sources.has(run.id));
    await Promise.all(runs.map(async (run) => {
      const feed = this.client.acquire(run.id);
      const hear = (/** @type {any} */ event) => this.took(this.log.apply(event, run.agent_id));
      const start = () => void this.page(run.id, run.agent_id, feed);
      const gap = () => {
        this.log.forget(run.id);
        this.redraw();
        start();
      };
      feed.logListeners.add(hear);
      feed.gapListeners.add(gap);
      const source = { oldest: 0, hasOlder: false, stop: () => {
        feed.logListeners.delete(hear);
        feed.gapListeners.delete(gap);
        this.client.release(run.id);
      } };
      this.sources.set(run.id, source);
      feed.follow(run);
      await this.page(run.id, run.agent_id, feed);
    }));
    if (runs.length && this.target) void this.find(this.target);
  }

  /** @param {string} runId @param {string} agent @param {import("../live/run-feed.js").RunFeed} feed @param {number} [before] */
  async page(runId, agent, feed, before) {
    const source = this.sources.get(runId);
    if (!source) return;
    try {
      const page = await feed.logPage(before);
      for (const event of page.events) this.took(this.log.apply(event, agent));
      source.oldest = page.events[0]?.seq ?? source.oldest;
      source.hasOlder = page.has_more && page.events.length > 0;
    } catch {
      source.hasOlder = true;
      this.hasFailed = true;
    }
  }

  /** The next older page of every run. */
  older() {
    this.loading ??= this.loadOlder().finally(() => { this.loading = null; });
    return this.loading;
  }

  /** Older pages until it is there, or there are no more, or one does not come. @param {() => boolean} isThere */
  async olderUntil(isThere) {
    for (let page = 0; page < MAX_PAGES && this.isConnected && this.hasOlder && !isThere(); page++) {
      await this.older();
      if (this.hasFailed) return;
    }
  }

  /** @private */
  async loadOlder() {
    const due = [...this.sources].filter(([, source]) => source.hasOlder);
    if (!due.length) return;
    this.isLoading = true;
    this.hasFailed = false;
    const scroller = this.scroller;
    const fromBottom = scroller.scrollHeight - scroller.scrollTop;
    await Promise.all(due.map(([runId, source]) => {
      const run = this.state.runs.find((known) => known.id === runId);
      const feed = this.client.feeds.get(runId)?.feed;
      return run && feed ? this.page(runId, run.agent_id, feed, source.oldest || undefined) : undefined;
    }));
    this.draw();
    scroller.scrollTop = scroller.scrollHeight - fromBottom;
    this.isLoading = false;
  }

  /** @param {Line[]} lines */
  took(lines) {
    if (!lines.length) return;
    const isAtEnd = this.log.lines.at(-1) === lines.at(-1);
    if (!isAtEnd) this.fresh = null;
    else if (this.fresh) this.fresh.push(...lines);
    this.schedule();
  }

  redraw() {
    this.fresh = null;
    this.schedule();
  }

  schedule() {
    if (this.isDrawing) return;
    this.isDrawing = true;
    requestAnimationFrame(() => this.draw());
  }

  /** @param {Line[]} lines @returns {Line[]} */
  choose(lines) {
    const { agents, feature, level, text } = this.filter;
    const ofFeature = feature ? new Set(this.state.runs.filter((run) => run.feature_id === feature).map((run) => run.id)) : null;
    const chosen = new LogLines();
    chosen.lines = lines;
    const found = chosen.filtered({ agents, level, text });
    return ofFeature ? found.filter((line) => ofFeature.has(line.runId)) : found;
  }

  draw() {
    this.isDrawing = false;
    const host = this.querySelector(".log-blocks");
    if (!host) return;
    let lines;
    if (this.fresh) {
      lines = this.choose(this.fresh);
      for (const line of lines) this.shown.push(line); // a spread of fifty thousand overflows the stack
    } else {
      host.replaceChildren();
      this.shown = [...this.choose(this.log.lines)];
      lines = this.shown;
    }
    this.fresh = [];
    const names = this.names;
    let block = /** @type {LogBlock|null} */ (host.lastElementChild);
    for (let i = 0; i < lines.length; ) {
      if (!block || block.isFull) {
        block = new LogBlock();
        host.append(block);
      }
      const room = BLOCK - block.lines.length;
      block.append(lines.slice(i, i + room), names);
      i += room;
    }
    this.shownCount = this.shown.length;
    if (this.isFollowing) this.toBottom();
  }

  toBottom() {
    this.scroller.scrollTop = this.scroller.scrollHeight;
  }

  scrolled() {
    const scroller = this.scroller;
    const isAtBottom = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 30;
    // Going up pauses by itself; the button follows again.
    if (!isAtBottom && this.lastTop !== undefined && scroller.scrollTop < this.lastTop - 4) this.isFollowing = false;
    this.lastTop = scroller.scrollTop;
    if (scroller.scrollTop < 100 && !this.isFollowing) void this.older();
  }

  /** @param {Partial<typeof this.filter>} change */
  setFilter(change) {
    this.filter = { ...this.filter, ...change };
    this.fresh = null;
    this.draw();
    // what is looked for may be older than what is here
    if (this.filter.agents?.size !== 0) void this.olderUntil(() => this.shownCount > 0);
  }

  /** @param {string} agentId */
  toggleAgent(agentId) {
    const all = this.state.agents.map((agent) => agent.id);
    const now = this.filter.agents ?? new Set(all);
    const next = new Set(now);
    if (next.has(agentId)) next.delete(agentId);
    else next.add(agentId);
    this.setFilter({ agents: next.size === all.length ? null : next });
  }

  /** @param {MouseEvent} event */
  clicked(event) {
    const target = /** @type {HTMLElement} */ (event.target);
    const open = target.closest("[data-open]");
    if (open) {
      this.emit("open-run", { runId: /** @type {HTMLElement} */ (open).dataset.open, opener: open });
      return;
    }
    const link = /** @type {HTMLAnchorElement|null} */ (target.closest(".log-number"));
    if (link) {
      event.preventDefault();
      history.replaceState(history.state, "", link.hash + "");
      this.goTo(link.hash.slice(1));
      return;
    }
    if (String(getSelection() ?? "").length) return; // selecting text to copy is no click
    const line = /** @type {HTMLElement|null} */ (target.closest(".log-line"));
    const known = line && this.shown.find((one) => one.key === line.dataset.key);
    if (known) {
      this.emit("quote-line", { runId: known.runId, opener: target.closest("button"), anchor: { seq: known.seq, line: known.line, quote: known.bare.slice(0, 2000) } });
    }
  }

  /** Show a line of a link, fetched if need be. @param {string} id */
  async find(id) {
    this.draw();
    await this.olderUntil(() => this.querySelector(`#${CSS.escape(id)}`) !== null);
    this.goTo(id);
  }

  /** @param {string} id */
  goTo(id) {
    requestAnimationFrame(() => {
      const line = this.querySelector(`#${CSS.escape(id)}`);
      if (!line) return;
      this.isFollowing = false;
      this.querySelector(".log-line.is-target")?.classList.remove("is-target");
      line.classList.add("is-target");
      line.scrollIntoView({ block: "center" });
    });
  }

  async download() {
    await this.olderUntil(() => false);
    const names = this.names;
    const text = this.shown.map((line) => `${line.at} ${names[line.agent] ?? line.agent} ${line.number} ${line.bare}\n`).join("");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
    link.download = `${(this.state.project?.name ?? "omakase").replace(/[^\p{L}\p{N}]+/gu, "-").toLowerCase()}.log`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }

  render() {
    const { agents, level, text, feature } = this.filter;
    return html`<section class="logs">
      <h1 class="visually-hidden">Log</h1>
      <div class="log-bar" role="toolbar" aria-label="Log">
        <button class="ghost" type="button" aria-pressed=${this.isFollowing} @click=${() => { this.isFollowing = !this.isFollowing; if (this.isFollowing) this.toBottom(); }}>
          ${icon(this.isFollowing ? "pause" : "down")} ${this.isFollowing ? "Pause" : "Follow"}</button>
        <button class="ghost" type="button" aria-pressed=${this.wraps} @click=${() => (this.wraps = !this.wraps)}>${icon("wrap")} Wrap</button>
        <span class="chips" role="group" aria-label="Agents">${this.state.agents.map((agent) => html`<button class="chip" type="button" data-agent=${agent.id} aria-pressed=${!agents || agents.has(agent.id)} @click=${() => this.toggleAgent(agent.id)}>${agent.name}</button>`)}</span>
        ${this.state.features.length > 1
          ? html`<select aria-label="Feature" @change=${(/** @type {Event} */ e) => this.setFilter({ feature: /** @type {HTMLSelectElement} */ (e.target).value })}>
              <option value="">All features</option>${this.state.features.map((one) => html`<option value=${one.id} ?selected=${one.id === feature}>${one.name}</option>`)}</select>`
          : ""}
        <select aria-label="Level or stream" @change=${(/** @type {Event} */ e) => this.setFilter({ level: /** @type {HTMLSelectElement} */ (e.target).value })}>
          ${[["", "All lines"], ["error", "Errors"], ["warning", "Warnings"], ["info", "Info"], ["debug", "Debug"], ["stdout", "stdout"], ["stderr", "stderr"]].map(([value, label]) => html`<option value=${value} ?selected=${value === level}>${label}</option>`)}</select>
        <input type="search" aria-label="Find in the log" placeholder="Find" .value=${text} @input=${(/** @type {Event} */ e) => this.setFilter({ text: /** @type {HTMLInputElement} */ (e.target).value })} />
        <span class="muted log-count">${plural(this.shownCount, "line")}</span>
        <button class="ghost" type="button" @click=${this.download}>${icon("download")} Download</button>
      </div>
      <div class="log-scroll ${this.wraps ? "wraps" : ""}" tabindex="0" role="region" aria-label="Log lines" @scroll=${this.scrolled} @click=${this.clicked}>
        ${this.isLoading ? html`<p class="muted log-note">Loading older lines…</p>` : ""}
        <div class="log-blocks"></div>
        ${this.hasFailed ? html`<p class="error-note" role="alert">Some lines could not be fetched. <button class="link" type="button" @click=${() => void this.older()}>Try again</button></p>` : ""}
        ${this.state.isLoaded && !this.shownCount && !this.isLoading && !this.hasFailed ? html`<p class="muted log-note">${this.log.lines.length ? "No line matches." : "Nothing has been logged yet."}</p>` : ""}
      </div>
    </section>`;
  }
}
/** @type {number|undefined} */
LogViewer.prototype.lastTop = undefined;
customElements.define("log-viewer", LogViewer);
