/** @import {SharedClient} from "../live/shared-client.js" */
/** @import {Project} from "../types.js" */
/** @import {ProjectState} from "../live/project-state.js" */
import { html } from "../../vendor/lit/index.js";
import { repeat } from "../../vendor/lit/directives/repeat.js";
import { cardState } from "./agent-card.js";
import { LightElement } from "./light-element.js";
import "./agent-card.js";
import "./create-form.js";

/** A tray per feature, a compartment per agent; whoever needs a person stands first. */
export class MissionControl extends LightElement {
  static properties = { openRun: {} };

  constructor() {
    super();
    /** @type {SharedClient} */
    this.client = /** @type {any} */ (null);
    /** @type {ProjectState} */
    this.state = /** @type {any} */ (null);
    this.openRun = "";
  }

  connectedCallback() {
    super.connectedCallback();
    this.watch(this.state.signal);
    this.watch(this.client.signal);
  }

  updated() {
    // Cards read the shared feeds: told here, once a frame.
    for (const card of this.querySelectorAll("agent-card")) /** @type {any} */ (card).requestUpdate();
  }

  render() {
    const { state, client } = this;
    return html`<section class="mission" @runs-changed=${() => state.loadRuns()}>
      <h1 class="visually-hidden">Mission Control</h1>
      ${state.problem ? html`<p class="error-note" role="alert">${state.problem} <button class="link" type="button" @click=${() => state.load()}>Try again</button></p>` : ""}
      ${state.isLoaded && !state.features.length ? html`<p class="empty">No feature yet. Say what should be built.</p>` : ""}
      ${repeat(state.features, (feature) => feature.id, (feature) => {
        const seats = state.agents.map((agent) => ({ agent, run: state.latestRun(feature.id, agent.id) }));
        const sorted = [...seats].sort((a, b) => Number(cardState(client, b.run).needsYou > 0) - Number(cardState(client, a.run).needsYou > 0));
        return html`<section class="tray" aria-labelledby="feature-${feature.id}">
          <header><h2 id="feature-${feature.id}">${feature.name}</h2><p class="muted">${feature.description}</p></header>
          <div class="seats">${repeat(sorted, ({ agent }) => agent.id, ({ agent, run }) => html`<agent-card .client=${client} .agent=${agent} .feature=${feature} .run=${run} .isOpen=${Boolean(run) && run?.id === this.openRun}></agent-card>`)}</div>
        </section>`;
      })}
      <details class="new-feature" ?open=${state.isLoaded && !state.features.length}>
        <summary>New feature</summary>
        <create-form describes label="Name of a new feature" action="Create feature"
          .create=${(/** @type {any} */ body, /** @type {string} */ key) => client.api.createFeature(state.projectId, body, key)} @created=${() => state.load()}></create-form>
      </details>
    </section>`;
  }
}
customElements.define("mission-control", MissionControl);
