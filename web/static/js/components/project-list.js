/** @import {SharedClient} from "../live/shared-client.js" */
/** @import {Project} from "../types.js" */
import { html } from "../../vendor/lit/index.js";
import { Problem } from "../problem.js";
import { LightElement, mascot } from "./light-element.js";
import "./create-form.js";

/** The first page: what is being built. */
export class ProjectList extends LightElement {
  static properties = { projects: { state: true }, problem: { state: true } };

  constructor() {
    super();
    /** @type {SharedClient} */
    this.client = /** @type {any} */ (null);
    /** @type {Project[]|null} */
    this.projects = null;
    this.problem = "";
  }

  connectedCallback() {
    super.connectedCallback();
    this.watch(this.client.signal);
    void this.load();
  }

  async load() {
    try {
      this.projects = await this.client.api.projects();
      this.problem = "";
    } catch (error) {
      this.problem = Problem.from(error).message;
    }
  }

  render() {
    return html`<section class="projects">
      <div class="hero">
        <div class="hero-team" aria-hidden="true">${["miso", "nori", "koji", "toro"].map((name) => html`<img src=${mascot(name)} alt="" width="72" height="72" />`)}</div>
        <h1>What is being made</h1>
        <p class="muted">Four agents at the counter. Say what you would like; they look up between two steps.</p>
      </div>
      ${this.problem ? html`<p class="error-note" role="alert">${this.problem} <button class="link" type="button" @click=${this.load}>Try again</button></p>` : ""}
      ${this.projects?.length ? html`<ul class="project-list">${this.projects.map((project) => html`<li><a href="/projects/${encodeURIComponent(project.id)}"><strong>${project.name}</strong></a></li>`)}</ul>` : ""}
      ${this.projects && !this.projects.length ? html`<p class="empty">${this.client.mayCreate ? "No project yet. Name the first one; then say what should be built in it." : "No project yet. Somebody who owns this place can make one."}</p>` : ""}
      ${this.client.mayCreate ? html`<create-form label="Name of a new project" action="Create project"
        .create=${(/** @type {any} */ body, /** @type {string} */ key) => this.client.api.createProject(body.name, key)}
        @created=${(/** @type {CustomEvent} */ e) => this.emit("navigate", { href: `/projects/${encodeURIComponent(e.detail.id)}` })}></create-form>` : ""}
    </section>`;
  }
}
customElements.define("project-list", ProjectList);
