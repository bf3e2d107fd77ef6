import { html } from "../../vendor/lit/index.js";
import { ROLE } from "../words.js";
import { LightElement, mascot } from "./light-element.js";
import "./markdown-text.js";

/** A message while it is being said. It is `aria-busy` until it ends, so a reader hears it once. */
export class StreamingMessage extends LightElement {
  static properties = { text: {}, name: {}, role_: { attribute: false }, agentId: {} };

  constructor() {
    super();
    this.text = "";
    this.name = "";
    this.role_ = "";
    this.agentId = "";
  }

  render() {
    return html`<article class="said is-open" aria-busy="true" aria-label="${this.name} is writing">
      <img class="avatar" src=${mascot(this.agentId)} alt="" width="36" height="36" />
      <div class="said-main">
        <header><strong>${this.name}</strong><span class="role">${ROLE[this.role_] ?? ""}</span><span class="muted">writing…</span></header>
        <markdown-text .text=${this.text} .isOpen=${true}></markdown-text>
      </div>
    </article>`;
  }
}
customElements.define("streaming-message", StreamingMessage);
