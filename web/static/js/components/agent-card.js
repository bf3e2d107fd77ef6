/** @import {SharedClient} from "../live/shared-client.js" */
/** @import {Agent, Feature, Run} from "../types.js" */
import { html } from "../../vendor/lit/index.js";
import { newKey } from "../keys.js";
import { Problem } from "../problem.js";
import { ENDED } from "../store/run-view.js";
import { ROLE, plural } from "../words.js";
import { icon } from "./icon.js";
import { LightElement, mascot } from "./light-element.js";
import { plainWords } from "../plain-words.js";
import { statusMark } from "./status-mark.js";
import "./cost-line.js";
import "./elapsed-time.js";
import "./run-orders.js";

/** What a card knows of a run: from the list of runs, and from the live feed once it has heard more. @param {SharedClient} client @param {Run|null} run */
export function cardState(client, run) {
  const feed = run ? client.feeds.get(run.id)?.feed : null;
  const view = feed?.view;
  const mark = run ? client.readMarks.get(run.id) ?? 0 : 0;
  const status = view?.statusSeq ? view.status : run?.status ?? "idle";
  const said = view?.lastSaid?.body.text ?? run?.last_line?.text ?? run?.last_line ?? "";
  const step = view?.lastStep?.body ?? run?.step ?? null;
  return {
    status,
    phase: view?.statusSeq ? view.phase : run?.phase ?? null,
    said: typeof said === "string" ? said : "",
    step,
    isEnded: ENDED.has(status),
    needsYou: ENDED.has(status) ? 0 : feed?.isLive ? view?.openQuestions.size ?? 0 : run?.needs_you ?? 0,
    unread: view?.unreadAfter(mark) ?? 0,
    held: view?.held ?? false,
  };
}

/** One agent on one feature. With a run: Chat first. Idle: it opens nothing, but can be started or attached. */
export class AgentCard extends LightElement {
  static properties = { agent: { attribute: false }, run: { attribute: false }, feature: { attribute: false }, isOpen: { attribute: false }, problem: { state: true }, isStarting: { state: true } };

  constructor() {
    super();
    /** @type {SharedClient} */
    this.client = /** @type {any} */ (null);
    /** @type {Agent} */
    this.agent = /** @type {any} */ (null);
    /** @type {Feature} */
    this.feature = /** @type {any} */ (null);
    /** @type {Run|null} */
    this.run = null;
    this.isOpen = false;
    this.problem = "";
    this.isStarting = false;
  }

  async launch() {
    this.isStarting = true;
    this.problem = "";
    try {
      await this.client.api.createRun({ feature_id: this.feature.id, agent_id: this.agent.id, start: "launch" }, newKey());
      this.emit("runs-changed");
    } catch (error) {
      this.problem = Problem.from(error).message;
    }
    this.isStarting = false;
  }

  render() {
    const { agent, run, client } = this;
    const state = cardState(client, run);
    const needs = state.needsYou > 0;
    return html`<article class="card" data-status=${state.status} data-needs=${needs} data-open=${this.isOpen} aria-label="${agent.name}, ${ROLE[agent.role] ?? agent.role}">
      <header>
        <span class="plate"><img src=${mascot(agent.id)} alt="" width="64" height="64" /></span>
        <div><h3>${agent.name}</h3><p class="role">${ROLE[agent.role] ?? agent.role}</p></div>
        ${state.unread ? html`<span class="badge" aria-label=${plural(state.unread, "unread message")}>${state.unread > 99 ? "99+" : state.unread}</span>` : ""}
      </header>
      <p class="card-status">${statusMark(state.status, state.phase)}${run ? html`<span class="muted time"><elapsed-time .from=${run.created_at} .to=${run.ended_at}></elapsed-time></span>` : ""}</p>
      ${run ? html`<cost-line .run=${run} .status=${state.status}></cost-line>` : ""}
      ${needs ? html`<p class="needs">${agent.name} asks a question</p>` : ""}
      ${run && !state.isEnded && state.step ? html`<p class="card-step" title="Current step"><span class="muted">Step ${state.step.step}</span> ${state.step.name}</p>` : ""}
      ${state.said ? html`<p class="card-said">${plainWords(state.said)}</p>` : run ? "" : html`<p class="card-said is-idle muted">Not at work on this feature.</p>`}
      ${this.problem ? html`<p class="bad" role="alert">${this.problem}</p>` : ""}
      <footer>
        ${run ? html`<button class="primary" type="button" aria-label="Chat with ${agent.name}" aria-pressed=${this.isOpen} @click=${this.chat}>${icon("chat")} Chat</button>` : ""}
        ${run && !state.isEnded ? html`<run-orders only="stop" .client=${client} .runId=${run.id} .agentName=${agent.name} .isEnded=${false}></run-orders>` : ""}
        ${!run || state.isEnded
          ? html`<button class="ghost" type="button" aria-label="Start ${agent.name}" ?disabled=${this.isStarting} @click=${this.launch}>${icon("play")} Start</button>
              <button class="ghost" type="button" aria-label="Attach ${agent.name}" title="Attach" @click=${() => this.emit("attach-agent", { agent, feature: this.feature })}>${icon("plug")} ${run ? "" : "Attach"}</button>`
          : ""}
      </footer>
    </article>`;
  }

  /** @param {Event} event */
  chat(event) {
    this.emit("open-run", { runId: this.run?.id, opener: event.currentTarget });
  }
}
customElements.define("agent-card", AgentCard);
