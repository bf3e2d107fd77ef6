/** @import {ProjectState} from "../live/project-state.js" */
/** @import {Agent, Feature, Pipeline} from "../types.js" */
import { html } from "../../vendor/lit/index.js";
import { newKey } from "../keys.js";
import { Problem } from "../problem.js";
import { atWork, likelyRole } from "../store/pipeline-line.js";
import { ROLE } from "../words.js";
import { LightElement } from "./light-element.js";

/** @typedef {"start"|"restart"|"skip"|"after"} What */

/** What a person decides about a pipeline. A refusal is said here, with everything that was chosen and typed still there. */
export class PipelineDialog extends LightElement {
  static properties = { what: { state: true }, feature: { state: true }, problem: { state: true }, isSending: { state: true } };

  constructor() {
    super();
    /** @type {ProjectState} */
    this.state = /** @type {any} */ (null);
    /** @type {What} */
    this.what = "start";
    /** @type {Feature|null} */
    this.feature = null;
    /** Fixed when it opens, so that nothing is chosen anew under somebody's eyes. */
    this.likely = "";
    /** @type {string[]} */
    this.after = [];
    this.problem = "";
    this.isSending = false;
    this.key = newKey();
    /** @type {Map<string, string>} notes that were not sent, by feature */
    this.notes = new Map();
  }

  connectedCallback() {
    super.connectedCallback();
    this.watch(this.state.signal);
  }

  /** @returns {Pipeline|null} */
  get line() {
    return this.state.pipelines.get(this.feature?.id ?? "") ?? null;
  }

  /** @param {What} what @param {Feature} feature */
  async show(what, feature) {
    this.what = what;
    this.feature = feature;
    const line = this.line;
    this.likely = line ? likelyRole(line, this.state.agents) : "";
    this.after = line?.after.map((one) => one.feature_id) ?? [];
    this.problem = "";
    this.key = newKey();
    await this.updateComplete;
    const form = this.querySelector("form");
    form?.reset();
    const note = form?.querySelector("textarea");
    if (note) note.value = this.notes.get(feature.id) ?? "";
    this.querySelector("dialog")?.showModal();
  }

  close() {
    this.querySelector("dialog")?.close();
  }

  /** The button that opened it may be gone: a pipeline that has been started is not started again. */
  closed() {
    const id = this.feature?.id ?? "";
    requestAnimationFrame(() => requestAnimationFrame(() => {
      if (document.activeElement !== document.body) return;
      const tray = document.getElementById(`feature-${id}`)?.closest(".tray");
      /** @type {import("./pipeline-line.js").PipelineLine|null} */ (tray?.querySelector("pipeline-line") ?? null)?.takeFocus();
    }));
  }

  /** @param {FormData} data */
  body(data) {
    if (this.what === "start") return { skip: data.getAll("skip") };
    if (this.what === "skip") return { role: data.get("role") };
    if (this.what === "after") return { after: data.getAll("after") };
    const note = String(data.get("note") ?? "").trim();
    return { role: data.get("role"), ...(note ? { note } : {}) };
  }

  /** @param {SubmitEvent} event */
  async submit(event) {
    event.preventDefault();
    const { feature, what } = this;
    if (!feature || this.isSending) return;
    this.isSending = true;
    this.problem = "";
    try {
      const body = this.body(new FormData(/** @type {HTMLFormElement} */ (event.target)));
      this.state.put(await this.state.client.api.steer(feature.id, what, body, this.key));
      if (what === "restart") this.notes.delete(feature.id);
      if (this.feature === feature && this.what === what) this.close();
    } catch (error) {
      const problem = Problem.from(error);
      this.problem = problem.message;
      if (!problem.isTemporary) this.key = newKey();
      if (problem.currentState?.feature_id) this.state.put(problem.currentState);
    }
    this.isSending = false;
  }

  render() {
    const { feature, what } = this;
    if (!feature) return "";
    const { title, action } = WORDS[what];
    return html`<dialog class="dialog pipeline-dialog" aria-labelledby="pipeline-title" @close=${this.closed}>
      <form @submit=${this.submit}>
        <h2 id="pipeline-title">${title}: ${feature.name}</h2>
        ${this.renderChoice(this.line)}
        ${this.problem ? html`<p class="bad" role="alert">${this.problem}</p>` : ""}
        <div class="dialog-row"><button class="primary" type="submit" ?disabled=${this.isSending || !this.canDo}>${action}</button>
          <button class="ghost" type="button" @click=${this.close}>Close</button></div>
      </form>
    </dialog>`;
  }

  get canDo() {
    return this.what !== "after" || this.others.length > 0;
  }

  get others() {
    return this.state.features.filter((one) => one.id !== this.feature?.id);
  }

  /** @param {Pipeline|null} line */
  renderChoice(line) {
    const { agents } = this.state;
    const busy = atWork(line);
    switch (this.what) {
      case "start":
        return html`<p>The roles work one after another, and each gets what the one before it left.${line?.number ? " It begins anew, with the first role; what was done stays." : ""}</p>
          ${this.renderRoles("Leave out", agents, "checkbox", "skip")}`;
      case "restart":
        return html`<p>The role works (again), and those after it follow. This is how you send work back.</p>
          ${busy ? html`<p class="muted">${busy.agent_name} is at work now: stop ${busy.agent_name} first.</p>` : ""}
          ${this.renderRoles("Which role", agents, "radio", "role")}
          <label class="field"><span>What should be done otherwise? <span class="muted">It is the first thing they read.</span></span>
            <textarea name="note" rows="3" maxlength="8000" @input=${(/** @type {any} */ e) => this.notes.set(this.feature?.id ?? "", e.target.value)}></textarea></label>`;
      case "skip":
        return html`<p>From now on it is left out. A role that failed or was stopped counts as done. To take one in again, start it.</p>
          ${this.renderRoles("Which role", agents.filter((agent) => !line?.skipped.includes(agent.role)), "radio", "role")}`;
      default:
        return this.others.length
          ? html`<p>Its pipeline begins when the pipelines of these are done.</p>
            <fieldset><legend>Comes after</legend>${this.others.map((one) => html`<label class="choice"><input type="checkbox" name="after" value=${one.id} ?checked=${this.after.includes(one.id)} /> <span>${one.name}</span></label>`)}</fieldset>`
          : html`<p>There is no other feature in this project yet that it could wait for.</p>`;
    }
  }

  /** @param {string} legend @param {Agent[]} agents @param {"radio"|"checkbox"} type @param {string} name */
  renderRoles(legend, agents, type, name) {
    return html`<fieldset><legend>${legend}</legend>
      ${agents.map((agent) => html`<label class="choice"><input type=${type} name=${name} value=${agent.role} ?required=${type === "radio"} ?checked=${type === "radio" && agent.role === this.likely} />
        <span>${agent.name} <span class="role">${ROLE[agent.role] ?? agent.role}</span></span></label>`)}
    </fieldset>`;
  }
}
customElements.define("pipeline-dialog", PipelineDialog);

/** @type {Record<What, {title: string, action: string}>} */
const WORDS = {
  start: { title: "Start the pipeline", action: "Start pipeline" },
  restart: { title: "Start a role again", action: "Start this role" },
  skip: { title: "Skip a role", action: "Skip this role" },
  after: { title: "Comes after", action: "Save" },
};
