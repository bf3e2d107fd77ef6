/** @import {SharedClient} from "../live/shared-client.js" */
/** @import {RunView} from "../store/run-view.js" */
/** @import {Event as LogEvent} from "../types.js" */
import { html } from "../../vendor/lit/index.js";
import { Problem } from "../problem.js";
import { clockTime, fullTime } from "../time.js";
import { MODES, ROLE, seconds } from "../words.js";
import { icon } from "./icon.js";
import { LightElement, mascot } from "./light-element.js";
import { copy } from "./markdown-text.js";
import "./proof-view.js";
import "./receipt-ticks.js";

const QUEUED = new Set(["accepted", "stored"]);

/** One message: an agent's on the paper, a person's in a bubble with its receipt, its edit and its proof. */
export class ChatMessage extends LightElement {
  // `stamp` changes exactly when the message does, so a stream elsewhere never renders it again.
  static properties = { event: { attribute: false }, stamp: {}, isEditing: { state: true }, note: { state: true } };

  constructor() {
    super();
    /** @type {SharedClient|null} */
    this.client = null;
    /** @type {RunView|null} */
    this.view = null;
    /** @type {LogEvent|null} */
    this.event = null;
    this.stamp = "";
    this.isEditing = false;
    this.note = "";
  }

  render() {
    const event = this.event;
    if (!event || !this.view) return "";
    return event.sender.kind === "person" ? this.renderPerson(event) : this.renderAgent(event);
  }

  /** @param {LogEvent} event */
  renderAgent(event) {
    const { sender, body } = event;
    return html`<article class="said" aria-label="${sender.name} said">
      <img class="avatar" src=${mascot(sender.id.replace(/^agent[_:]/, "") in { miso: 1, nori: 1, koji: 1, toro: 1 } ? sender.id : sender.name.toLowerCase())} alt="" width="36" height="36" />
      <div class="said-main">
        <header><strong>${sender.name}</strong><span class="role">${ROLE[sender.role ?? ""] ?? "System"}</span>
          <time datetime=${event.at} title=${fullTime(event.at)}>${clockTime(event.at)}</time>
          <button class="quiet copy" type="button" aria-label="Copy message" @click=${() => this.copied(body.text)}>${icon("copy")}</button></header>
        <markdown-text .text=${body.text}></markdown-text>
        ${this.note ? html`<p class="note" role="status">${this.note}</p>` : ""}
      </div>
    </article>`;
  }

  /** @param {LogEvent} event */
  renderPerson(event) {
    const message = /** @type {RunView} */ (this.view).message(event);
    const isMine = this.client?.principal?.id === event.sender.id;
    // what was handed out once may have been read, also when it was given back
    const canChange = isMine && QUEUED.has(message.state) && !message.receipt?.attempt && !this.view?.isEnded;
    const anchor = event.body.anchor;
    return html`<article class="mine ${message.state === "cancelled" ? "is-cancelled" : ""}" aria-label="${event.sender.name} wrote">
      ${isMine ? "" : html`<header><strong>${event.sender.name}</strong></header>`}
      <div class="bubble">
        ${anchor ? html`<blockquote class="anchor">${anchor.quote}</blockquote>` : ""}
        ${this.isEditing ? this.renderEditor(message.text) : html`<p class="plain">${message.text}</p>`}
      </div>
      <footer>
        ${message.mode !== "steer" ? html`<span class="mode" data-mode=${message.mode}>${MODES[message.mode]?.label}</span>` : ""}
        ${message.isEdited ? html`<span class="muted">edited</span>` : ""}
        <receipt-ticks .state=${message.state} .receipt=${message.receipt} .at=${event.at}></receipt-ticks>
        ${canChange && !this.isEditing
          ? html`<button class="link" type="button" @click=${this.edit}>Edit</button><button class="link" type="button" @click=${this.cancel}>Cancel</button>`
          : ""}
        ${message.state === "undelivered" && isMine
          ? html`<button class="link" type="button" @click=${() => this.emit("resend-message", { text: message.text, anchor })}>Send to the next run</button>`
          : ""}
      </footer>
      ${message.nudges.map((nudge) => this.renderNudge(nudge))}
      ${message.state === "in_context" ? html`<proof-view .api=${this.client?.api} .runId=${event.run_id} .messageId=${event.id}></proof-view>` : ""}
      ${this.note ? html`<p class="note" role="status">${this.note}</p>` : ""}
    </article>`;
  }

  /** What was tried to make the agent look, and the Celery task that tried it. @param {LogEvent} nudge */
  renderNudge({ at, body }) {
    const { flowerUrl } = this.client ?? {};
    const task = flowerUrl && body.task_id ? `${flowerUrl}/task/${encodeURIComponent(body.task_id)}` : "";
    return html`<p class="nudge" data-failure=${body.failure ?? ""}>${body.failure ? "Nudge failed" : "Nudged"} · ${seconds(body.duration_ms ?? 0)} ·
      <time datetime=${at} title=${fullTime(at)}>${clockTime(at)}</time>
      ${task ? html` · <a href=${task} target="_blank" rel="noopener noreferrer">Celery task</a>` : ""}
      <span class="why">${body.text}</span></p>`;
  }

  /** @param {string} text */
  renderEditor(text) {
    return html`<form class="edit" @submit=${this.save} @keydown=${this.editKey}>
      <textarea aria-label="Edit message" rows="2" maxlength="32768" .value=${text}></textarea>
      <div><button class="small" type="submit">Save</button><button class="link" type="button" @click=${this.endEdit}>Keep as it was</button></div>
    </form>`;
  }

  async edit() {
    this.note = "";
    this.isEditing = true;
    await this.updateComplete;
    const area = this.querySelector("textarea");
    area?.focus();
    area?.setSelectionRange(area.value.length, area.value.length);
  }

  endEdit() {
    this.isEditing = false;
    this.emit("focus-composer");
  }

  /** @param {KeyboardEvent} event */
  editKey(event) {
    if (event.key === "Escape") {
      event.stopPropagation();
      this.endEdit();
    } else if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      void this.save(event);
    }
  }

  /** @param {Event} event */
  async save(event) {
    event.preventDefault();
    if (!this.event || !this.view || !this.client) return;
    const text = this.querySelector("textarea")?.value.trim() ?? "";
    const { version, text: before } = this.view.message(this.event);
    if (!text || text === before) return this.endEdit();
    try {
      const { event: edited } = await this.client.api.editMessage(this.event.run_id, this.event.id, { text }, version);
      this.emit("event-applied", edited);
      this.endEdit();
    } catch (error) {
      this.note = explain(Problem.from(error));
      if (Problem.from(error).code === "already_taken") this.isEditing = false;
    }
  }

  async cancel() {
    if (!this.event || !this.client) return;
    try {
      await this.client.api.cancelMessage(this.event.run_id, this.event.id);
    } catch (error) {
      this.note = explain(Problem.from(error));
    }
  }

  /** @param {string} text */
  async copied(text) {
    this.note = (await copy(text)) ? "Copied." : "This browser does not allow copying from here.";
    setTimeout(() => (this.note = ""), 2000);
  }
}
customElements.define("chat-message", ChatMessage);

/** @param {Problem} problem */
function explain(problem) {
  if (problem.code === "already_taken") return "Too late: the agent has taken it.";
  if (problem.code === "stale_version") return "It was changed somewhere else in the meantime; have a look and save again.";
  return problem.message;
}
