/** @import {SharedClient} from "../live/shared-client.js" */
import { html } from "../../vendor/lit/index.js";
import { newKey } from "../keys.js";
import { Problem } from "../problem.js";
import { icon } from "./icon.js";
import { LightElement } from "./light-element.js";

/** Pause, resume, put on hold and stop of one run. Stop asks first, in place, and says what will happen. */
export class RunOrders extends LightElement {
  static properties = { runId: {}, agentName: {}, isHeld: { attribute: false }, mayHold: { attribute: false }, isEnded: { attribute: false }, only: {}, asks: { state: true }, problem: { state: true }, isSending: { state: true } };

  constructor() {
    super();
    /** @type {SharedClient|null} */
    this.client = null;
    this.runId = "";
    this.agentName = "";
    this.isHeld = false;
    /** It only costs money, and we could start it again. */
    this.mayHold = false;
    this.isEnded = false;
    /** "stop" shows that one alone */
    this.only = "";
    this.asks = false;
    this.problem = "";
    this.isSending = false;
  }

  /** @param {string} action */
  async order(action) {
    this.isSending = true;
    this.problem = "";
    try {
      const { event } = (await this.client?.api.order(this.runId, { action }, newKey())) ?? {};
      if (event) this.emit("event-applied", event);
      this.asks = false;
    } catch (error) {
      this.problem = Problem.from(error).message;
    }
    this.isSending = false;
  }

  async ask() {
    this.asks = true;
    await this.updateComplete;
    /** @type {HTMLButtonElement|null} */ (this.querySelector(".keep"))?.focus();
  }

  async keep() {
    this.asks = false;
    await this.updateComplete;
    /** @type {HTMLButtonElement|null} */ (this.querySelector(".stop"))?.focus();
  }

  /** @param {KeyboardEvent} event */
  pressed(event) {
    if (event.key === "Escape") {
      event.stopPropagation();
      void this.keep();
    }
  }

  render() {
    if (this.isEnded) return "";
    if (this.asks) {
      return html`<div class="ask" role="alertdialog" aria-label="Stop ${this.agentName}?" @keydown=${this.pressed}>
        <p>Stop ${this.agentName}? The current step is cut; what they have not read is kept for the next run.</p>
        ${this.problem ? html`<p class="bad" role="alert">${this.problem}</p>` : ""}
        <div><button class="keep" type="button" @click=${this.keep}>Keep working</button>
          <button class="danger" type="button" ?disabled=${this.isSending} @click=${() => this.order("stop")}>Stop ${this.agentName}</button></div>
      </div>`;
    }
    return html`${this.only === "stop"
        ? ""
        : html`<button class="ghost" type="button" ?disabled=${this.isSending} @click=${() => this.order(this.isHeld ? "resume" : "pause")}>
            ${icon(this.isHeld ? "play" : "pause")} ${this.isHeld ? "Resume" : "Pause"}</button>`}
      ${this.mayHold && this.only !== "stop"
        ? html`<button class="ghost" type="button" title="Ends their process until somebody writes to them; their work is kept" ?disabled=${this.isSending} @click=${() => this.order("checkpoint")}>${icon("hold")} Put on hold</button>`
        : ""}
      <button class="ghost stop" type="button" aria-label="Stop ${this.agentName}" @click=${this.ask}>${icon("stop")} Stop</button>
      ${this.problem ? html`<p class="bad" role="alert">${this.problem}</p>` : ""}`;
  }
}
customElements.define("run-orders", RunOrders);
