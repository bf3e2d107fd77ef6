/** @import {Agent, Feature, Project} from "../types.js" */
import { html } from "../../vendor/lit/index.js";
import { icon } from "./icon.js";
import { LightElement } from "./light-element.js";
import { copy } from "./markdown-text.js";

/** How to attach an agent that somebody starts by hand: one line for a terminal. */
export class AttachDialog extends LightElement {
  static properties = { agent: { attribute: false }, feature: { attribute: false }, project: { attribute: false }, note: { state: true } };

  constructor() {
    super();
    /** @type {Agent|null} */
    this.agent = null;
    /** @type {Feature|null} */
    this.feature = null;
    /** @type {Project|null} */
    this.project = null;
    this.note = "";
  }

  /** @param {Agent} agent @param {Feature} feature @param {Project|null} project */
  async show(agent, feature, project) {
    this.agent = agent;
    this.feature = feature;
    this.project = project;
    this.note = "";
    await this.updateComplete;
    this.querySelector("dialog")?.showModal();
  }

  get command() {
    const origin = location.origin;
    const where = this.project ? ` --project ${quoted(this.project.name)}` : "";
    return `curl -sO ${origin}/agent-hooks.pyz && python3 agent-hooks.pyz register --server ${origin}${where} --feature ${quoted(this.feature?.name ?? "")} --agent ${this.agent?.id ?? ""}`;
  }

  async copied() {
    this.note = (await copy(this.command)) ? "Copied." : "This browser does not allow copying from here; select the line.";
  }

  render() {
    const name = this.agent?.name ?? "";
    return html`<dialog class="dialog" aria-labelledby="attach-title">
      <h2 id="attach-title">Attach ${name} to ${this.feature?.name}</h2>
      <p>Run this where your agent works. It registers the agent as ${name}, and the card here comes to life.</p>
      <pre class="command" tabindex="0"><code>${this.command}</code></pre>
      ${this.note ? html`<p class="muted" role="status">${this.note}</p>` : ""}
      <div class="dialog-row"><button class="primary" type="button" @click=${this.copied}>${icon("copy")} Copy</button>
        <button class="ghost" type="button" @click=${() => this.querySelector("dialog")?.close()}>Close</button></div>
    </dialog>`;
  }
}
customElements.define("attach-dialog", AttachDialog);

/** As a shell reads it, in double quotes. @param {string} text */
function quoted(text) {
  return `"${text.replace(/[\\"$`!]/g, "\\$&")}"`;
}
