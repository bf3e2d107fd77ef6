import { html } from "../../vendor/lit/index.js";
import { elapsed } from "../time.js";
import { LightElement } from "./light-element.js";

/** Time since `from`, ticking each second until `to` is known. */
export class ElapsedTime extends LightElement {
  static properties = { from: {}, to: {} };

  constructor() {
    super();
    this.from = "";
    /** @type {string|null} */
    this.to = null;
    /** @type {any} */
    this.timer = null;
  }

  connectedCallback() {
    super.connectedCallback();
    this.timer = setInterval(() => {
      if (!this.to) this.requestUpdate();
    }, 1000);
  }

  disconnectedCallback() {
    super.disconnectedCallback();
    clearInterval(this.timer);
  }

  render() {
    if (!this.from) return "";
    const end = this.to ? new Date(this.to).getTime() : Date.now();
    return html`${elapsed(end - new Date(this.from).getTime())}`;
  }
}
customElements.define("elapsed-time", ElapsedTime);
