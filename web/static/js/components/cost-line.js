/** @import {Run} from "../types.js" */
import { html } from "../../vendor/lit/index.js";
import { costWords } from "../cost-words.js";
import { LightElement } from "./light-element.js";

const EVERY_MS = 15_000;

/** What a run costs, since when it is idle and when it goes on hold; the times go on by themselves. */
export class CostLine extends LightElement {
  static properties = { run: { attribute: false }, status: { attribute: false } };

  constructor() {
    super();
    /** @type {Run|null} */
    this.run = null;
    this.status = "";
    /** @type {any} */
    this.timer = null;
  }

  connectedCallback() {
    super.connectedCallback();
    this.timer = setInterval(() => this.requestUpdate(), EVERY_MS);
  }

  disconnectedCallback() {
    super.disconnectedCallback();
    clearInterval(this.timer);
  }

  render() {
    const words = this.run ? costWords(this.run, Date.now(), this.status || undefined) : "";
    return words ? html`<p class="card-cost muted">${words}</p>` : "";
  }
}
customElements.define("cost-line", CostLine);
