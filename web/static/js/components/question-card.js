/** @import {SharedClient} from "../live/shared-client.js" */
/** @import {RunView} from "../store/run-view.js" */
/** @import {Event as LogEvent} from "../types.js" */
import { html } from "../../vendor/lit/index.js";
import { Problem } from "../problem.js";
import { clockTime, fullTime } from "../time.js";
import { LightElement } from "./light-element.js";
import "./markdown-text.js";

/** A question with its options as buttons and room for free text; once it is answered it says by whom and when. */
export class QuestionCard extends LightElement {
  static properties = { event: { attribute: false }, stamp: {}, isSending: { state: true }, note: { state: true } };

  constructor() {
    super();
    /** @type {SharedClient|null} */
    this.client = null;
    /** @type {RunView|null} */
    this.view = null;
    /** @type {LogEvent|null} */
    this.event = null;
    this.stamp = "";
    this.isSending = false;
    this.note = "";
  }

  render() {
    const event = this.event;
    if (!event || !this.view) return "";
    const answer = this.view.answers.get(event.id);
    const isDead = !answer && this.view.isEnded;
    const { text, options, allow_text: allowsText } = event.body;
    return html`<section class="question" data-state=${answer ? "answered" : isDead ? "dead" : "open"} aria-label="Question from ${event.sender.name}">
      <p class="question-head">${event.sender.name} asks <time datetime=${event.at} title=${fullTime(event.at)}>${clockTime(event.at)}</time></p>
      <markdown-text .text=${text}></markdown-text>
      ${answer || isDead ? this.renderClosed(answer, options) : this.renderOpen(options, allowsText)}
      ${this.note ? html`<p class="note" role="status">${this.note}</p>` : ""}
    </section>`;
  }

  /** @param {{value: string, label: string}[]} options @param {boolean} allowsText */
  renderOpen(options, allowsText) {
    return html`<div class="options">
        ${options.map((option) => html`<button type="button" class="option" ?disabled=${this.isSending} @click=${() => this.answer({ value: option.value })}>${option.label}</button>`)}
      </div>
      ${allowsText
        ? html`<form class="free" @submit=${this.submit}>
            <input name="text" aria-label="Answer in your own words" placeholder=${options.length ? "or in your own words" : "Your answer"} maxlength="32768" autocomplete="off" ?disabled=${this.isSending} />
            <button type="submit" ?disabled=${this.isSending}>Answer</button>
          </form>`
        : ""}`;
  }

  /** @param {LogEvent|undefined} answer @param {{value: string, label: string}[]} options */
  renderClosed(answer, options) {
    const chosen = answer?.body.value;
    const words = answer?.body.outcome === "cancelled" ? "was not answered: the question was taken back"
      : answer ? `answered “${options.find((option) => option.value === chosen)?.label ?? answer.body.text ?? chosen}”` : "";
    return html`<div class="options">
        ${options.map((option) => html`<span class="option is-dead ${option.value === chosen ? "is-chosen" : ""}">${option.value === chosen ? "✓ " : ""}${option.label}</span>`)}
      </div>
      <p class="muted answered">
        ${answer ? html`<strong>${answer.sender.name}</strong> ${words} <time datetime=${answer.at} title=${fullTime(answer.at)}>${clockTime(answer.at)}</time>` : "The run ended without an answer."}
      </p>`;
  }

  /** @param {SubmitEvent} event */
  submit(event) {
    event.preventDefault();
    const form = /** @type {HTMLFormElement} */ (event.target);
    const text = String(new FormData(form).get("text") ?? "").trim();
    if (text) void this.answer({ text });
  }

  /** @param {{value?: string, text?: string}} body */
  async answer(body) {
    if (!this.event || !this.client) return;
    this.isSending = true;
    this.note = "";
    try {
      const { event } = await this.client.api.answer(this.event.run_id, this.event.id, body);
      this.emit("event-applied", event);
    } catch (error) {
      const problem = Problem.from(error);
      const standing = problem.currentState?.answer ?? problem.currentState?.event ?? problem.currentState;
      if (problem.code === "already_answered" && standing?.kind === "answer") {
        this.emit("event-applied", standing);
        this.note = "Somebody was faster: this is the answer that stands.";
      } else {
        this.note = problem.message;
      }
    } finally {
      this.isSending = false;
    }
  }
}
customElements.define("question-card", QuestionCard);
