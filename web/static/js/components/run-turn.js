/** @import {RunFeed} from "../live/run-feed.js" */
/** @import {SharedClient} from "../live/shared-client.js" */
/** @import {Pipeline, Run} from "../types.js" */
import { html } from "../../vendor/lit/index.js";
import { neighbours, turnWords } from "../store/pipeline-line.js";
import { ROLE } from "../words.js";
import { LightElement } from "./light-element.js";

/** Which turn of its feature's pipeline a run is, and the runs before and after it; nothing for a run of its own. */
export class RunTurn extends LightElement {
  static properties = { run: { attribute: false }, line: { state: true }, runs: { state: true } };

  constructor() {
    super();
    /** @type {SharedClient} */
    this.client = /** @type {any} */ (null);
    /** @type {Run} */
    this.run = /** @type {any} */ (null);
    /** @type {Pipeline|null} */
    this.line = null;
    /** @type {Run[]} the feature's, where the pipeline has gone on to a later number */
    this.runs = [];
  }

  connectedCallback() {
    super.connectedCallback();
    const { run, client } = this;
    if (!run.turn) return;
    this.unwatch.push(client.watch(run.project_id, (hint) => {
      if (hint.type !== "runs" && (hint.feature_id ?? run.feature_id) === run.feature_id) void this.load();
    }));
    void this.load();
  }

  async load() {
    const { run, client } = this;
    try {
      const line = await client.api.pipeline(run.feature_id);
      if (line.number !== run.pipeline) this.runs = await client.api.featureRuns(run.feature_id);
      this.line = line;
    } catch {
      // the talk goes on without it; the next hint asks again
    }
  }

  render() {
    const { run, line } = this;
    if (!run.turn || !line) return "";
    const { before, after } = neighbours(run, line, this.runs);
    return html`<p class="run-turn">${turnWords(run, line)}${this.renderTo("Before", before)}${this.renderTo("After", after)}</p>`;
  }

  /** @param {string} where @param {{runId: string, name: string, role: string}|null} to */
  renderTo(where, to) {
    if (!to) return "";
    return html`<span class="run-turn-to">${where}: <button class="link" type="button" @click=${() => this.emit("open-run", { runId: to.runId })}>${to.name} <span class="visually-hidden">${ROLE[to.role] ?? to.role}, open the chat</span></button></span>`;
  }
}
customElements.define("run-turn", RunTurn);
