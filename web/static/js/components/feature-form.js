/** @import {ProjectState} from "../live/project-state.js" */
import { html } from "../../vendor/lit/index.js";
import { newKey } from "../keys.js";
import { Problem } from "../problem.js";
import { icon } from "./icon.js";
import { LightElement } from "./light-element.js";

/** A new feature: its name, what it is about, after which others it comes, and whether its pipeline starts at once. */
export class FeatureForm extends LightElement {
  static properties = { problem: { state: true }, note: { state: true }, isSending: { state: true } };

  constructor() {
    super();
    /** @type {ProjectState} */
    this.state = /** @type {any} */ (null);
    this.problem = "";
    this.note = "";
    this.isSending = false;
    this.key = newKey();
  }

  connectedCallback() {
    super.connectedCallback();
    this.watch(this.state.signal);
  }

  /** @param {SubmitEvent} event */
  async submit(event) {
    event.preventDefault();
    const form = /** @type {HTMLFormElement} */ (event.target);
    const starts = /** @type {HTMLButtonElement|null} */ (event.submitter)?.value === "start";
    const data = new FormData(form);
    const name = String(data.get("name") ?? "").trim();
    if (!name || this.isSending) return;
    const body = { name, description: String(data.get("description") ?? "").trim(), after: /** @type {string[]} */ (data.getAll("after")) };
    this.isSending = true;
    this.problem = this.note = "";
    try {
      const made = await this.state.client.api.createFeature(this.state.projectId, body, this.key);
      this.key = newKey();
      form.reset();
      this.note = `${made.name} is there.`;
      if (starts) await this.start(made.id, made.name);
      await this.state.loadFeatures();
    } catch (error) {
      const problem = Problem.from(error);
      this.problem = problem.message;
      if (!problem.isTemporary) this.key = newKey();
    }
    this.isSending = false;
  }

  /** @param {string} featureId @param {string} name */
  async start(featureId, name) {
    try {
      await this.state.client.api.steer(featureId, "start", {}, newKey());
      this.note = `${name} is there, and its pipeline has been started.`;
    } catch (error) {
      this.problem = `Its pipeline could not be started: ${Problem.from(error).message} It can be started above.`;
    }
  }

  render() {
    const { features } = this.state;
    return html`<form class="create" @submit=${this.submit}>
      <input name="name" required maxlength="120" autocomplete="off" aria-label="Name of a new feature" placeholder="Name of a new feature" />
      <textarea name="description" rows="3" maxlength="8000" aria-label="What it is about" placeholder="What it is about: the agents read this first"></textarea>
      ${features.length
        ? html`<details class="comes-after"><summary>Comes after other features</summary>
            <fieldset><legend class="visually-hidden">Comes after</legend>${features.map((one) => html`<label class="choice"><input type="checkbox" name="after" value=${one.id} /> <span>${one.name}</span></label>`)}</fieldset></details>`
        : ""}
      <button class="primary" type="submit" ?disabled=${this.isSending}>${icon("plus")} Create feature</button>
      ${this.state.client.maySteer ? html`<button class="ghost" type="submit" value="start" ?disabled=${this.isSending}>${icon("play")} Create and start its pipeline</button>` : ""}
      ${this.problem ? html`<p class="bad" role="alert">${this.problem}</p>` : ""}
      <p class="muted" role="status">${this.note}</p>
    </form>`;
  }
}
customElements.define("feature-form", FeatureForm);
