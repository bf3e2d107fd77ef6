/** @import {SharedClient} from "../live/shared-client.js" */
/** @import {Agent, Feature, Pipeline, Turn} from "../types.js" */
/** @import {Stage} from "../store/pipeline-line.js" */
import { html } from "../../vendor/lit/index.js";
import { repeat } from "../../vendor/lit/directives/repeat.js";
import { countWords, mayStart, needsPerson, stages, stateOf, whyWords } from "../store/pipeline-line.js";
import { plainWords } from "../plain-words.js";
import { ROLE, STANDING, STATE, plural } from "../words.js";
import { icon } from "./icon.js";
import { LightElement, mascot } from "./light-element.js";
import { mark } from "./status-mark.js";

/** A feature's pipeline: its roles as stages in a line, where it is and why, what came before, and what one may do. */
export class PipelineLine extends LightElement {
  static properties = { agents: { attribute: false }, feature: { attribute: false }, line: { attribute: false }, openRun: { attribute: false }, maySteer: { attribute: false } };

  constructor() {
    super();
    /** @type {Agent[]} */
    this.agents = [];
    /** @type {Feature} */
    this.feature = /** @type {any} */ (null);
    /** @type {Pipeline|null} */
    this.line = null;
    this.openRun = "";
    this.maySteer = false;
    this.hadFocus = false;
  }

  willUpdate() {
    this.hadFocus = this.contains(document.activeElement);
  }

  updated() {
    if (this.hadFocus && document.activeElement === document.body) this.takeFocus();
  }

  /** Where somebody goes on whose button is not there any more. */
  takeFocus() {
    /** @type {HTMLElement|null} */ (this.querySelector("button") ?? this.querySelector("a"))?.focus({ preventScroll: true });
  }

  /** @param {MouseEvent} event @param {string} runId */
  open(event, runId) {
    if (event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    this.emit("open-run", { runId, opener: event.currentTarget });
  }

  /** @param {"start"|"restart"|"skip"|"after"} what */
  ask(what) {
    this.emit("steer-pipeline", { what, feature: this.feature });
  }

  render() {
    const { line, agents, feature } = this;
    if (!line) return "";
    const state = stateOf(line);
    return html`<div class="line" data-state=${state} data-needs=${needsPerson(line)}>
      <ol class="stages" aria-label="Pipeline of ${feature.name}">${repeat(stages(agents, line), (stage) => stage.agent.id, (stage) => this.renderStage(stage))}</ol>
      <div class="line-foot">
        <p class="line-state">${mark(STATE[state].tone, STATE[state].word)} <span class="line-reason">${line.reason}</span></p>
        ${this.maySteer ? this.renderActions(line) : ""}
        ${line.after.length ? html`<p class="line-after"><span class="muted">After</span> ${line.after.map((one) => html`<a href="#feature-${one.feature_id}">${one.name || one.feature_id}</a> <span class="muted">(${one.done ? "done" : "not done"})</span> `)}</p>` : ""}
        ${line.turns.length ? this.renderHistory(line) : ""}
      </div>
    </div>`;
  }

  /** @param {Stage} stage */
  renderStage({ agent, standing, turn, runId, isCurrent }) {
    const { word, tone } = STANDING[standing];
    const count = turn && standing === turn.result ? countWords(turn) : "";
    const inside = html`<img src=${mascot(agent.id)} alt="" width="30" height="30" />
      <span class="stage-who"><strong>${agent.name}</strong> <span class="role">${ROLE[agent.role] ?? agent.role}</span></span>
      <span class="stage-how">${mark(tone, word)}${count ? html` <span class="muted stage-count">${count}</span>` : ""}</span>`;
    return html`<li class="stage" data-standing=${standing} aria-current=${isCurrent ? "step" : "false"}>
      ${runId
        ? html`<a class="stage-body" href="?run=${runId}" data-open=${runId === this.openRun} @click=${(/** @type {MouseEvent} */ e) => this.open(e, runId)}>${inside} <span class="visually-hidden">Open the chat</span></a>`
        : html`<span class="stage-body">${inside}</span>`}
    </li>`;
  }

  /** @param {Pipeline} line */
  renderActions(line) {
    const begins = line.number === null;
    return html`<div class="line-actions" role="group" aria-label="Steer the pipeline of ${this.feature.name}">
      ${mayStart(line) ? html`<button class="small ${begins ? "primary" : "ghost"}" type="button" @click=${() => this.ask("start")}>${icon("play")} ${begins ? "Start pipeline" : "Start anew"}</button>` : ""}
      ${begins
        ? ""
        : html`<button class="small ${line.state === "failing" ? "primary" : "ghost"}" type="button" @click=${() => this.ask("restart")}>${icon("again")} Start a role again</button>
          <button class="small ghost" type="button" @click=${() => this.ask("skip")}>${icon("skip")} Skip a role</button>`}
      <button class="small ghost" type="button" @click=${() => this.ask("after")}>${icon("after")} Comes after</button>
    </div>`;
  }

  /** @param {Pipeline} line */
  renderHistory(line) {
    return html`<details class="turns">
      <summary>${plural(line.turns.length, "turn")}${(line.number ?? 1) > 1 ? ` of pipeline ${line.number}` : ""}</summary>
      <ol>${repeat(line.turns, (turn) => turn.run_id, (turn, index) => this.renderTurn(turn, line.turns[index - 1]))}</ol>
    </details>`;
  }

  /** @param {Turn} turn @param {Turn|undefined} before */
  renderTurn(turn, before) {
    const { word, tone } = STANDING[turn.result === "not_begun" ? "beginning" : turn.result];
    const count = countWords(turn);
    return html`<li class="turn">
      <p class="turn-head">
        ${turn.result === "not_begun"
          ? html`<strong>${turn.agent_name}</strong>`
          : html`<a href="?run=${turn.run_id}" @click=${(/** @type {MouseEvent} */ e) => this.open(e, turn.run_id)}><strong>${turn.agent_name}</strong> <span class="visually-hidden">Turn ${turn.turn}, open the chat</span></a>`}
        <span class="role">${ROLE[turn.role] ?? turn.role}</span> ${mark(tone, word)}
        <span class="muted">${whyWords(turn, before)}${count ? `, ${count}` : ""}</span>
      </p>
      ${turn.note ? html`<p class="turn-note"><span class="muted">${turn.by} says:</span> ${turn.note}</p>` : ""}
      ${turn.summary ? html`<p class="turn-summary">${turn.summary.split("\n").map(plainWords).filter(Boolean).join("\n")}</p>` : ""}
    </li>`;
  }
}
customElements.define("pipeline-line", PipelineLine);
