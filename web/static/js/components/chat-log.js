/** @import {RunFeed} from "../live/run-feed.js" */
/** @import {SharedClient} from "../live/shared-client.js" */
/** @import {Event as LogEvent} from "../types.js" */
import { html } from "../../vendor/lit/index.js";
import { repeat } from "../../vendor/lit/directives/repeat.js";
import { isSaid } from "../store/run-view.js";
import { rows } from "../store/transcript.js";
import { clockTime, fullTime } from "../time.js";
import { orderWords, plural, statusWord } from "../words.js";
import { icon } from "./icon.js";
import { LightElement } from "./light-element.js";
import "./chat-message.js";
import "./outbox-message.js";
import "./question-card.js";
import "./step-group.js";
import "./streaming-message.js";

const NEAR_PX = 48;

/** The talk: history, what is being said, what is being sent. It follows only while it is at the bottom. */
export class ChatLog extends LightElement {
  static properties = { below: { state: true } };

  constructor() {
    super();
    /** @type {SharedClient} */
    this.client = /** @type {any} */ (null);
    /** @type {RunFeed} */
    this.feed = /** @type {any} */ (null);
    this.isPinned = true;
    this.topBefore = 0;
    this.below = 0;
    /** @type {number|null} the divider stands after this seq, fixed when the panel opened */
    this.dividerAfter = null;
    this.heightBefore = 0;
    this.oldestBefore = 0;
    this.observer = new ResizeObserver(() => this.settle());
    this.onVisible = () => this.markRead();
  }

  connectedCallback() {
    super.connectedCallback();
    this.dividerAfter = this.client.readMarks.get(this.feed.runId);
    this.watch(this.feed.signal);
    document.addEventListener("visibilitychange", this.onVisible);
    this.unwatch.push(() => document.removeEventListener("visibilitychange", this.onVisible), () => this.observer.disconnect());
  }

  get scroller() {
    return /** @type {HTMLElement} */ (this.querySelector(".chat-scroll"));
  }

  firstUpdated() {
    this.observer.observe(/** @type {Element} */ (this.querySelector(".chat-rows")));
    this.observer.observe(this.scroller);
  }

  willUpdate() {
    const scroller = this.scroller;
    this.heightBefore = scroller?.scrollHeight ?? 0;
  }

  updated() {
    const oldest = this.feed.view.ordered[0]?.seq ?? 0;
    if (!this.isPinned && this.oldestBefore && oldest < this.oldestBefore) {
      // older rows came in above: keep what is read where it is
      void this.rowsReady().then(() => (this.scroller.scrollTop += this.scroller.scrollHeight - this.heightBefore));
    }
    this.oldestBefore = oldest;
    this.settle();
  }

  async rowsReady() {
    await Promise.all([...this.querySelectorAll(".row > *")].map((row) => /** @type {any} */ (row).updateComplete));
  }

  /** Stay at the bottom, or count what came below. */
  settle() {
    const scroller = this.scroller;
    if (!scroller) return;
    if (this.isPinned) {
      scroller.scrollTop = scroller.scrollHeight;
      this.topBefore = scroller.scrollTop;
    }
    this.markRead();
  }

  scrolled() {
    const scroller = this.scroller;
    const isNear = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < NEAR_PX;
    // the event comes a frame late: what grew meanwhile is no reason to let go, only somebody's scrolling up is
    if (isNear) this.isPinned = true;
    else if (scroller.scrollTop < this.topBefore - 1) this.isPinned = false;
    this.topBefore = scroller.scrollTop;
    if (scroller.scrollTop < 200) void this.feed.loadOlder();
    this.markRead();
  }

  /** What is in view on a visible tab is read. */
  markRead() {
    if (!this.isConnected || this.feed.history !== "ready") return;
    const said = this.feed.view.ordered.filter(isSaid);
    if (document.visibilityState === "visible") {
      const edge = this.scroller.getBoundingClientRect().bottom;
      const seen = this.isPinned ? said.at(-1)?.seq : this.lastAbove(edge);
      if (seen) this.client.markRead(this.feed.runId, seen);
    }
    const mark = this.client.readMarks.get(this.feed.runId) ?? 0;
    this.below = this.isPinned ? 0 : said.filter((event) => event.seq > mark).length;
  }

  /** @param {number} edge @returns {number|undefined} */
  lastAbove(edge) {
    const all = [...this.querySelectorAll(".row[data-said]")];
    for (let i = all.length - 1; i >= 0; i--) {
      if (all[i].getBoundingClientRect().bottom <= edge + 1) return Number(/** @type {HTMLElement} */ (all[i]).dataset.said);
    }
    return undefined;
  }

  toBottom() {
    this.isPinned = true;
    this.settle();
  }

  render() {
    const { feed, client } = this;
    const { view } = feed;
    const list = rows(view.ordered);
    const agent = feed.run;
    const first = this.dividerAfter === null ? -1 : list.findIndex((row) => row.type === "event" && isSaid(row.event) && row.event.seq > Number(this.dividerAfter));
    const inLog = new Set(view.ordered.map((event) => client.outbox.entryOf(event, client.principal?.id)?.key));
    const outbox = client.outbox.of(feed.runId).filter((entry) => !inLog.has(entry.key));
    return html`
      <div class="chat-scroll" tabindex="0" role="log" aria-live="polite" aria-label="Conversation with ${agent?.agent_name ?? "the agent"}" @scroll=${this.scrolled}>
        <div class="chat-rows">
          ${feed.history === "error" ? html`<p class="error-note" role="alert">${feed.problem?.message} <button class="link" type="button" @click=${() => { feed.history = "idle"; void feed.load(); }}>Try again</button></p>` : ""}
          ${feed.history === "loading" || feed.isLoadingOlder ? html`<p class="line muted">Loading…</p>` : ""}
          ${feed.history === "ready" && !feed.hasOlder && list.length > 0 ? html`<p class="line muted">The beginning of this run</p>` : ""}
          ${feed.history === "ready" && list.every((row) => row.type === "event" && row.event.kind === "status") && !outbox.length
            ? html`<div class="empty"><p>Nobody has said anything yet.</p></div>` : ""}
          ${repeat(list, (row) => row.key, (row, index) => html`
            ${index === first ? html`<p class="divider" role="separator"><span>New</span></p>` : ""}
            ${row.type === "steps"
              ? html`<div class="row"><step-group .row=${row} .stamp=${row.steps.map((s) => s.finished?.seq ?? (s.isCut ? "cut" : 0)).join()}></step-group></div>`
              : html`<div class="row" data-kind=${row.event.kind} data-seq=${row.event.seq} data-said=${isSaid(row.event) ? row.event.seq : ""}>${this.renderEvent(row.event)}</div>`}`)}
          ${repeat(view.openTexts, (open) => open.id, (open) => html`<div class="row"><streaming-message .text=${open.text} .name=${agent?.agent_name ?? ""} .role_=${agent?.role ?? ""} .agentId=${agent?.agent_id ?? ""}></streaming-message></div>`)}
          ${repeat(outbox, (entry) => entry.key, (entry) => html`<div class="row"><outbox-message .entry=${entry} .client=${client}></outbox-message></div>`)}
        </div>
      </div>
      ${this.below > 0 ? html`<button class="pill" type="button" @click=${this.toBottom}>${icon("down")} ${plural(this.below, "new message")}</button>` : ""}`;
  }

  /** @param {LogEvent} event */
  renderEvent(event) {
    const { client, feed } = this;
    const { view } = feed;
    const time = html`<time datetime=${event.at} title=${fullTime(event.at)}>${clockTime(event.at)}</time>`;
    switch (event.kind) {
      case "message": {
        const { state, version, receipt, nudges } = view.message(event);
        return html`<chat-message .event=${event} .view=${view} .client=${client}
          .stamp="${state} ${version} ${receipt?.seq ?? 0} ${nudges.length} ${view.isEnded} ${client.principal?.id ?? ""}"></chat-message>`;
      }
      case "question":
        return html`<question-card .event=${event} .view=${view} .client=${client} .stamp="${view.answers.get(event.id)?.seq ?? 0} ${view.isEnded}"></question-card>`;
      case "order":
        return html`<p class="line">${event.sender.name} ${orderWords(event.body.action, event.body.every_steps)} · ${time}</p>`;
      case "status":
        return html`<p class="line muted">${statusWord(event.body.status, event.body.phase)}${event.body.detail ? html`: ${event.body.detail}` : ""} · ${time}</p>`;
      case "notice":
        // a nudge stands on its messages' way; where none of them is here, as a line
        if (event.body.about === "nudge" && event.body.ids?.some((/** @type {string} */ id) => view.byId.get(id)?.kind === "message")) return "";
        return html`<p class="line muted">${this.renderNotice(event.body)} · ${time}</p>`;
      case "error":
        return html`<div class="error-note"><p><strong>${event.body.summary}</strong> ${time}</p>
          ${event.body.detail ? html`<details open><summary>Detail</summary><pre tabindex="0">${event.body.detail}</pre></details>` : ""}</div>`;
      default:
        return "";
    }
  }

  /** What was moved names a run: its id becomes the way there. @param {{text: string, moved_to?: {run_id: string}|null, moved_from?: {run_id: string}|null}} body */
  renderNotice({ text, moved_to, moved_from }) {
    const runId = (moved_to ?? moved_from)?.run_id ?? "";
    const at = runId ? text.indexOf(`run ${runId}`) : -1;
    if (at < 0) return text;
    return html`${text.slice(0, at)}<button class="link" type="button" @click=${() => this.emit("open-run", { runId })}>run</button>${text.slice(at + `run ${runId}`.length)}`;
  }
}
customElements.define("chat-log", ChatLog);
