/** @import {SharedClient} from "../live/shared-client.js" */
/** @import {Project} from "../types.js" */
/** @import {ProjectState} from "../live/project-state.js" */
import { html } from "../../vendor/lit/index.js";
import { repeat } from "../../vendor/lit/directives/repeat.js";
import { needsPerson } from "../store/pipeline-line.js";
import { cardState } from "./agent-card.js";
import { LightElement } from "./light-element.js";
import "./agent-card.js";
import "./feature-form.js";
import "./pipeline-line.js";

/** A tray per feature, with its pipeline and a compartment per agent; what needs a person stands first. */
export class MissionControl extends LightElement {
  static properties = { openRun: {} };

  constructor() {
    super();
    /** @type {SharedClient} */
    this.client = /** @type {any} */ (null);
    /** @type {ProjectState} */
    this.state = /** @type {any} */ (null);
    this.openRun = "";
    /** Stays open once it was: what it says about the first feature is read there. */
    this.isEmptyOnce = false;
    /** @type {HTMLElement|null} */
    this.focused = null;
  }

  connectedCallback() {
    super.connectedCallback();
    this.watch(this.state.signal);
    this.watch(this.client.signal);
  }

  willUpdate() {
    this.isEmptyOnce ||= this.state.isLoaded && !this.state.features.length;
    const active = /** @type {HTMLElement|null} */ (document.activeElement);
    this.focused = active && this.contains(active) ? active : null;
  }

  updated() {
    // What moves up loses the focus on its way.
    if (this.focused?.isConnected && document.activeElement !== this.focused) this.focused.focus({ preventScroll: true });
    // Cards read the shared feeds: told here, once a frame.
    for (const card of this.querySelectorAll("agent-card")) /** @type {any} */ (card).requestUpdate();
  }

  render() {
    const { state, client } = this;
    const lineOf = (/** @type {import("../types.js").Feature} */ feature) => state.pipelines.get(feature.id) ?? null;
    const features = [...state.features].sort((a, b) => Number(needsPerson(lineOf(b))) - Number(needsPerson(lineOf(a))));
    return html`<section class="mission" @runs-changed=${() => state.loadRuns()}>
      <h1 class="visually-hidden">Mission Control</h1>
      ${state.problem ? html`<p class="error-note" role="alert">${state.problem} <button class="link" type="button" @click=${() => state.load()}>Try again</button></p>` : ""}
      ${state.isLoaded && !state.features.length ? html`<p class="empty">${client.mayCreate ? "No feature yet. Say what should be built, and start its pipeline: an architect, a coder, a reviewer and a tester take it one after another." : "No feature yet. Somebody who owns this place can add one."}</p>` : ""}
      ${repeat(features, (feature) => feature.id, (feature) => {
        const seats = state.agents.flatMap((agent) => {
          const [run = null, ...others] = state.shownRuns(feature.id, agent.id);
          return [{ key: agent.id, agent, run }, ...others.map((other) => ({ key: other.id, agent, run: other }))];
        });
        const sorted = [...seats].sort((a, b) => Number(cardState(client, b.run).needsYou > 0) - Number(cardState(client, a.run).needsYou > 0));
        return html`<section class="tray" aria-labelledby="feature-${feature.id}">
          <header><h2 id="feature-${feature.id}">${feature.name}</h2><p class="muted" title=${feature.description}>${feature.description}</p></header>
          <pipeline-line .agents=${state.agents} .feature=${feature} .line=${lineOf(feature)} .openRun=${this.openRun} .maySteer=${client.maySteer}></pipeline-line>
          <div class="seats">${repeat(sorted, ({ key }) => key, ({ agent, run }) => html`<agent-card .client=${client} .agent=${agent} .feature=${feature} .run=${run} .isOpen=${Boolean(run) && run?.id === this.openRun}></agent-card>`)}</div>
        </section>`;
      })}
      ${client.mayCreate && state.isLoaded
        ? html`<details class="new-feature" ?open=${this.isEmptyOnce}><summary>New feature</summary><feature-form .state=${state}></feature-form></details>`
        : ""}
    </section>`;
  }
}
customElements.define("mission-control", MissionControl);
