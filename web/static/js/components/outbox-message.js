/** @import {Entry} from "../outbox.js" */
/** @import {SharedClient} from "../live/shared-client.js" */
import { html } from "../../vendor/lit/index.js";
import { MODES } from "../words.js";
import { LightElement } from "./light-element.js";
import "./receipt-ticks.js";

/** A message that the server has not yet taken: sending, or failed with what can be done about it. */
export class OutboxMessage extends LightElement {
  static properties = { entry: { attribute: false } };

  constructor() {
    super();
    /** @type {Entry|null} */
    this.entry = null;
    /** @type {SharedClient|null} */
    this.client = null;
  }

  render() {
    const entry = this.entry;
    if (!entry) return "";
    const hasFailed = entry.state === "failed";
    const mode = entry.body.mode ?? "steer";
    return html`<article class="mine is-outbox ${hasFailed ? "has-failed" : ""}" aria-label=${hasFailed ? "Not sent" : "Sending"}>
      <div class="bubble">
        ${entry.body.anchor ? html`<blockquote class="anchor">${entry.body.anchor.quote}</blockquote>` : ""}
        <p class="plain">${entry.body.text}</p>
      </div>
      <footer>
        ${mode !== "steer" ? html`<span class="mode" data-mode=${mode}>${MODES[mode]?.label}</span>` : ""}
        <receipt-ticks .state=${hasFailed ? "failed" : "sending"}></receipt-ticks>
        ${hasFailed
          ? html`<button class="link" type="button" @click=${() => this.client?.outbox.deliver(entry.key)}>Retry</button>
              <button class="link" type="button" @click=${() => this.emit("edit-unsent", entry)}>Edit</button>
              <button class="link" type="button" @click=${() => this.client?.outbox.remove(entry.key)}>Delete</button>`
          : ""}
      </footer>
      ${hasFailed ? html`<p class="note" role="alert">${entry.detail}${entry.isTemporary ? " It is kept here and sent again by itself." : ""}</p>` : ""}
    </article>`;
  }
}
customElements.define("outbox-message", OutboxMessage);
