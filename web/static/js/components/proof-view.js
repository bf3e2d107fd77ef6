/** @import {Api} from "../api.js" */
import { html } from "../../vendor/lit/index.js";
import { Problem } from "../problem.js";
import { fullTime } from "../time.js";
import { LightElement } from "./light-element.js";

/** The exact text that was put before the model, with its step and its sha256: fetched when it is opened. */
export class ProofView extends LightElement {
  static properties = { runId: {}, messageId: {}, proof: { state: true }, problem: { state: true }, isOpen: { state: true } };

  constructor() {
    super();
    /** @type {Api|null} */
    this.api = null;
    this.runId = "";
    this.messageId = "";
    /** @type {any} */
    this.proof = null;
    this.problem = "";
    this.isOpen = false;
  }

  /** @param {Event} event */
  async toggled(event) {
    this.isOpen = /** @type {HTMLDetailsElement} */ (event.target).open;
    if (!this.isOpen || this.proof || !this.api) return;
    this.problem = "";
    try {
      this.proof = (await this.api.message(this.runId, this.messageId)).proof;
      if (!this.proof) this.problem = "There is no proof yet.";
    } catch (error) {
      this.problem = Problem.from(error).message;
    }
  }

  render() {
    const proof = this.proof;
    return html`<details class="proof" @toggle=${this.toggled}>
      <summary>What the model was given</summary>
      ${this.problem ? html`<p class="muted">${this.problem}</p>` : ""}
      ${proof
        ? html`<p class="muted">Step ${proof.step} · <time datetime=${proof.at}>${fullTime(proof.at)}</time></p>
            <pre tabindex="0">${proof.text}</pre>
            <p class="hash muted">sha256 <code>${proof.sha256}</code></p>`
        : ""}
    </details>`;
  }
}
customElements.define("proof-view", ProofView);
