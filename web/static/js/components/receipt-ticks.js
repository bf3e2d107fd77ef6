import { html } from "../../vendor/lit/index.js";
import { clockTime, fullTime } from "../time.js";
import { RECEIPT } from "../words.js";
import { LightElement } from "./light-element.js";

const STEPS = ["sending", "accepted", "stored", "leased", "in_context"];

/** How far a message has come: pips, a word and the time. Announced only when it failed. */
export class ReceiptTicks extends LightElement {
  static properties = { state: {}, receipt: { attribute: false }, at: {} };

  constructor() {
    super();
    this.state = "accepted";
    /** @type {any} */
    this.receipt = null;
    this.at = "";
  }

  render() {
    const { label, hint } = RECEIPT[this.state] ?? { label: this.state, hint: "" };
    const reached = STEPS.indexOf(this.state);
    const times = this.receipt?.times ?? {};
    const at = times[this.state] ?? this.at;
    const step = this.state === "in_context" && this.receipt?.step != null ? ` · step ${this.receipt.step}` : "";
    const again = this.state === "leased" && this.receipt?.attempt > 1 ? ` · attempt ${this.receipt.attempt}` : "";
    const story = STEPS.filter((name) => times[name]).map((name) => `${RECEIPT[name].label} ${fullTime(times[name])}`);
    return html`<span class="ticks" data-state=${this.state} title=${[hint, ...story].join("\n")}>
      ${reached > 0
        ? html`<span class="pips" aria-hidden="true">${STEPS.slice(1).map((name, i) => html`<i class=${i + 1 <= reached ? "on" : ""}></i>`)}</span>`
        : ""}
      <span class="ticks-word">${label}${step}${again}</span>
      ${at ? html`<time datetime=${at}>${clockTime(at)}</time>` : ""}
    </span>`;
  }
}
customElements.define("receipt-ticks", ReceiptTicks);
