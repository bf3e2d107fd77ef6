import { LitElement } from "../../vendor/lit/index.js";

/**
 * A component that renders into the document (or the shadow root) it stands in, so one set of style sheets
 * serves all of them. `watch(signal)` renders again whenever the signal fires, while it is connected.
 */
export class LightElement extends LitElement {
  constructor() {
    super();
    /** @type {(() => void)[]} */
    this.unwatch = [];
  }

  createRenderRoot() {
    return this;
  }

  /** @param {{subscribe: (listener: () => void) => () => void}} signal */
  watch(signal) {
    this.unwatch.push(signal.subscribe(() => this.requestUpdate()));
  }

  disconnectedCallback() {
    super.disconnectedCallback();
    for (const stop of this.unwatch.splice(0)) stop();
  }

  /** @param {string} type @param {any} [detail] */
  emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail, bubbles: true, composed: true }));
  }
}

/** @param {string} agentId @returns {string} the mascot's address, wherever this module came from */
export function mascot(agentId) {
  const name = ["miso", "nori", "koji", "toro"].includes(agentId) ? agentId : "omakase";
  return new URL(`../../img/${name}.svg`, import.meta.url).href;
}
