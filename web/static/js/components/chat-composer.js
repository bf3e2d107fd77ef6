/** @import {SharedClient} from "../live/shared-client.js" */
/** @import {Anchor, Mode} from "../types.js" */
import { html } from "../../vendor/lit/index.js";
import { live } from "../../vendor/lit/directives/live.js";
import { MODES } from "../words.js";
import { icon } from "./icon.js";
import { LightElement } from "./light-element.js";

const TYPING_EVERY_MS = 3_000;

/**
 * Where a person writes. The draft is kept per run; the text leaves only when the server has taken it.
 * Until then its outbox key is remembered, so Enter on the same text is the same message again.
 */
export class ChatComposer extends LightElement {
  static properties = { runId: {}, agentName: {}, featureName: {}, isEnded: { attribute: false }, isOnHold: { attribute: false }, draft: { state: true }, isBusy: { state: true } };

  constructor() {
    super();
    /** @type {SharedClient|null} */
    this.client = null;
    this.runId = "";
    this.agentName = "";
    this.featureName = "";
    this.isEnded = false;
    this.isOnHold = false;
    this.isBusy = false;
    this.lastTyping = 0;
    /** @type {{text: string, mode: string, anchor: Anchor|null, key: string|null}} */
    this.draft = { text: "", mode: "steer", anchor: null, key: null };
    /** @param {string} runId @param {string} key */
    this.wasSent = (runId, key) => {
      if (runId === this.runId && this.draft.key === key) this.keep({ text: "", mode: "steer", anchor: null, key: null });
    };
  }

  connectedCallback() {
    super.connectedCallback();
    if (this.client && this.runId) {
      const client = this.client;
      const draft = client.drafts.get(this.runId);
      const isKept = !draft.key || client.outbox.entries.has(draft.key);
      this.draft = isKept ? draft : { text: "", mode: "steer", anchor: null, key: null };
      client.sentListeners.add(this.wasSent);
      this.unwatch.push(() => client.sentListeners.delete(this.wasSent));
    }
  }

  get area() {
    return this.querySelector("textarea");
  }

  focus() {
    this.area?.focus();
  }

  /** Quote a log line in what is being written. @param {Anchor} anchor */
  quote(anchor) {
    this.keep({ ...this.draft, anchor, key: null });
    void this.updateComplete.then(() => this.focus());
  }

  /** Put text (back) here. @param {string} text @param {Anchor|null} [anchor] @param {string} [mode] */
  fill(text, anchor = null, mode = "steer") {
    const before = this.draft.text.trim();
    this.keep({ text: before && before !== text ? `${before}\n${text}` : text, mode, anchor, key: null });
    void this.updateComplete.then(() => this.focus());
  }

  /** @param {typeof this.draft} draft */
  keep(draft) {
    this.draft = draft;
    this.client?.drafts.set(this.runId, draft);
  }

  /** @param {InputEvent} event */
  typed(event) {
    const text = /** @type {HTMLTextAreaElement} */ (event.target).value;
    this.keep({ ...this.draft, text, key: null });
    const now = Date.now();
    if (text && now - this.lastTyping > TYPING_EVERY_MS) {
      this.lastTyping = now;
      this.client?.connection.send({ type: "typing", run_id: this.runId });
    }
  }

  /** @param {KeyboardEvent} event */
  pressed(event) {
    if (event.isComposing) return;
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      void this.send(event.ctrlKey || event.metaKey ? "interrupt" : undefined);
    } else if (event.key === "ArrowUp" && !this.draft.text) {
      event.preventDefault();
      this.emit("edit-last");
    }
  }

  /** @param {Mode} [mode] */
  async send(mode) {
    const { client, draft } = this;
    const text = draft.text.trim();
    if (!client || !text || this.isBusy || this.isEnded) return;
    let key = draft.key;
    if (!key || !client.outbox.entries.has(key)) {
      /** @type {{text: string, mode: any, anchor?: Anchor}} */
      const body = { text, mode: mode ?? draft.mode };
      if (draft.anchor) body.anchor = draft.anchor;
      key = client.outbox.add(this.runId, body, client.feeds.get(this.runId)?.feed.view.head ?? 0).key;
      this.keep({ ...draft, key });
    }
    this.isBusy = true;
    this.emit("sending");
    await client.outbox.deliver(key);
    this.isBusy = false;
    await this.updateComplete;
    this.focus();
  }

  render() {
    if (this.isEnded) return html`<p class="composer-ended">This conversation has ended.</p>`;
    const { text, mode, anchor } = this.draft;
    const placeholder = `Send a message to ${this.agentName}${this.featureName ? ` while they work on ${this.featureName}` : ""}`;
    return html`<form class="composer" @submit=${(/** @type {Event} */ e) => { e.preventDefault(); void this.send(); }}>
      ${anchor
        ? html`<div class="anchor-chip"><span>${icon("quote")}</span><q>${anchor.quote}</q>
            <button class="quiet" type="button" aria-label="Remove the quoted line" @click=${() => this.keep({ ...this.draft, anchor: null, key: null })}>${icon("close")}</button></div>`
        : ""}
      ${this.isOnHold ? html`<p class="composer-note" role="status">${this.agentName} is on hold; your message starts them again.</p>` : ""}
      <textarea rows="1" maxlength="32768" aria-label="Message to ${this.agentName}" placeholder=${placeholder} aria-busy=${this.isBusy}
        .value=${live(text)} ?readonly=${this.isBusy} @input=${this.typed} @keydown=${this.pressed}></textarea>
      <div class="composer-row">
        <fieldset class="modes"><legend class="visually-hidden">When it is read</legend>
          ${Object.entries(MODES).map(([value, { label, hint }]) => html`<label title=${hint}><input type="radio" name="mode" value=${value} .checked=${live(mode === value)}
            @change=${() => this.keep({ ...this.draft, mode: value, key: null })} /><span>${label}</span></label>`)}
        </fieldset>
        <button class="send" type="submit" aria-label="Send" title="Enter sends, Shift+Enter starts a line, Ctrl+Enter interrupts" ?disabled=${!text.trim() || this.isBusy}>${icon("send")}</button>
      </div>
    </form>`;
  }
}
customElements.define("chat-composer", ChatComposer);
