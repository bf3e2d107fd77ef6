import { LitElement, html, nothing } from "../../vendor/lit/index.js";
import { SharedClient } from "../live/shared-client.js";
import "./chat-panel.js";

const SHEETS = ["tokens", "base", "controls", "chat", "markdown"];

/**
 * `<omakase-chat run="run_…">`: the conversation with a run, for any page. Its look lives in its own shadow root.
 *
 * Attributes: `run`; `server`, the origin when it is another one than the page's; `closable` shows a close
 * button, which fires `close-chat`. Further events: `open-run` with `{runId}`.
 */
export class OmakaseChat extends LitElement {
  static properties = { run: { reflect: true }, server: {}, closable: { type: Boolean }, sheets: { state: true } };

  constructor() {
    super();
    this.run = "";
    this.server = "";
    this.closable = false;
    this.sheets = 0;
    this.wantsFocus = false;
    /** @type {import("../types.js").Anchor|null} */
    this.wantedQuote = null;
    /** @type {SharedClient|null} */
    this.client = null;
    /** @type {import("../live/run-feed.js").RunFeed|null} */
    this.feed = null;
  }

  connectedCallback() {
    super.connectedCallback();
    this.client = SharedClient.of(this.server);
    void this.client.start();
  }

  disconnectedCallback() {
    super.disconnectedCallback();
    this.letGo();
  }

  letGo() {
    if (this.feed && this.client) this.client.release(this.feed.runId);
    this.feed = null;
  }

  willUpdate() {
    if (!this.client || this.feed?.runId === this.run) return;
    this.letGo();
    if (this.run) this.feed = this.client.acquire(this.run);
  }

  /** @returns {import("./chat-panel.js").ChatPanel|null} */
  get panel() {
    return this.shadowRoot?.querySelector("chat-panel") ?? null;
  }

  /** Put the cursor where one writes, as soon as it can be seen. */
  focusComposer() {
    this.wantsFocus = true;
    this.requestUpdate();
  }

  async focusWhenReady() {
    await this.panel?.updateComplete;
    await this.panel?.composer?.updateComplete;
    const anchor = this.wantedQuote;
    this.wantsFocus = false;
    this.wantedQuote = null;
    if (anchor) this.panel?.composer?.quote(anchor);
    this.panel?.composer?.focus();
  }

  /** Quote a log line in the composer. @param {import("../types.js").Anchor} anchor */
  quote(anchor) {
    this.wantedQuote = anchor;
    this.focusComposer();
  }

  render() {
    return html`
      ${SHEETS.map((name) => html`<link rel="stylesheet" href=${new URL(`../../css/${name}.css`, import.meta.url).href} @load=${() => this.sheets++} @error=${() => this.sheets++} />`)}
      ${this.feed ? html`<div class="panel-host"></div>` : nothing}`;
  }

  updated() {
    const isReady = this.sheets >= SHEETS.length;
    this.toggleAttribute("ready", isReady);
    const host = this.shadowRoot?.querySelector(".panel-host");
    if (!host || !this.feed) return;
    const panel = this.panel;
    // One panel per feed: another run is another element, so no state of the last one is left.
    if (panel?.feed !== this.feed) {
      const next = /** @type {import("./chat-panel.js").ChatPanel} */ (document.createElement("chat-panel"));
      next.client = /** @type {SharedClient} */ (this.client);
      next.feed = this.feed;
      next.closable = this.closable;
      host.replaceChildren(next);
    }
    if (this.wantsFocus && isReady) void this.focusWhenReady();
  }
}

customElements.define("omakase-chat", OmakaseChat);
