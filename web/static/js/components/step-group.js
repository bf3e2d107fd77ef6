import { html } from "../../vendor/lit/index.js";
import { duration } from "../time.js";
import { plural } from "../words.js";
import { icon } from "./icon.js";
import { LightElement } from "./light-element.js";

/** Steps that follow one another as one folded list; a failed one opens by itself. */
export class StepGroup extends LightElement {
  static properties = { row: { attribute: false }, stamp: {} };

  constructor() {
    super();
    /** @type {import("../store/transcript.js").StepsRow|null} */
    this.row = null;
    this.stamp = "";
  }

  render() {
    const steps = this.row?.steps ?? [];
    if (steps.length === 1) return html`<div class="steps">${this.renderStep(steps[0])}</div>`;
    const failed = steps.filter((step) => step.finished?.body.ok === false).length;
    return html`<details class="steps" ?open=${failed > 0}>
      <summary>${icon("check")}<span>${plural(steps.length, "step")}</span><span class="muted">${steps.at(-1)?.name}</span>
        ${failed ? html`<span class="bad">${failed} failed</span>` : ""}</summary>
      ${steps.map((step) => this.renderStep(step))}
    </details>`;
  }

  /** @param {import("../store/transcript.js").StepsRow["steps"][number]} step */
  renderStep(step) {
    const end = step.finished?.body;
    const ok = end ? end.ok !== false : null;
    const outcome = ok ? "ok" : ok === false ? "failed" : step.isCut ? "not finished" : "running";
    const summary = end?.summary ?? step.started?.body.summary;
    const line = html`<span class="step-sign" data-ok=${String(ok)}>${ok !== null ? icon(ok ? "check" : "cross") : step.isCut ? icon("stop") : html`<span class="spin" aria-hidden="true"></span>`}</span>
      <span class="step-name">${step.name}</span>
      <span class="muted">${end?.duration_ms != null ? duration(end.duration_ms) : ""} ${outcome}</span>`;
    return summary
      ? html`<details class="step" ?open=${ok === false}><summary>${line}</summary><pre tabindex="0">${summary}</pre></details>`
      : html`<div class="step">${line}</div>`;
  }
}
customElements.define("step-group", StepGroup);
