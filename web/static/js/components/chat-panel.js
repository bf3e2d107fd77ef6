/** @import {RunFeed} from "../live/run-feed.js" */
/** @import {SharedClient} from "../live/shared-client.js" */
import { html } from "../../vendor/lit/index.js";
import { ROLE } from "../words.js";
import { icon } from "./icon.js";
import { LightElement, mascot } from "./light-element.js";
import { statusMark } from "./status-mark.js";
import "./chat-composer.js";
import "./chat-log.js";
import "./run-orders.js";
import "./run-turn.js";

/** The whole conversation with one run: who, what they do, the talk, and where to write. */
export class ChatPanel extends LightElement {
  static properties = { closable: { attribute: false }, featureName: {}, note: { state: true } };

  constructor() {
    super();
    /** @type {SharedClient} */
    this.client = /** @type {any} */ (null);
    /** @type {RunFeed} */
    this.feed = /** @type {any} */ (null);
    this.closable = false;
    this.featureName = "";
    this.note = "";
    this.addEventListener("event-applied", (event) => this.feed.applied(/** @type {CustomEvent} */ (event).detail));
    this.addEventListener("sending", () => this.log?.toBottom());
    this.addEventListener("focus-composer", () => this.composer?.focus());
    this.addEventListener("edit-last", () => this.editLast());
    this.addEventListener("edit-unsent", (event) => this.editUnsent(/** @type {CustomEvent} */ (event).detail));
    this.addEventListener("resend-message", (event) => void this.resend(/** @type {CustomEvent} */ (event).detail));
  }

  connectedCallback() {
    super.connectedCallback();
    this.watch(this.feed.signal);
    this.watch(this.client.signal);
    void this.feed.load().then(() => this.findFeature());
  }

  async findFeature() {
    const run = this.feed.run;
    if (!run || this.featureName) return;
    try {
      const features = await this.client.api.features(run.project_id);
      this.featureName = features.find((feature) => feature.id === run.feature_id)?.name ?? "";
    } catch {
      // the name is a comfort only
    }
  }

  /** @returns {import("./chat-composer.js").ChatComposer|null} */
  get composer() {
    return this.querySelector("chat-composer");
  }

  /** @returns {import("./chat-log.js").ChatLog|null} */
  get log() {
    return this.querySelector("chat-log");
  }

  editLast() {
    const mine = [...this.querySelectorAll("chat-message")].reverse();
    const last = mine.find((message) => message.querySelector("footer .link")?.textContent === "Edit");
    void /** @type {any} */ (last)?.edit();
  }

  /** @param {import("../outbox.js").Entry} entry */
  editUnsent(entry) {
    this.client.outbox.remove(entry.key);
    this.composer?.keep({ text: "", mode: "steer", anchor: null, key: null });
    this.composer?.fill(entry.body.text, entry.body.anchor ?? null, entry.body.mode);
  }

  /** What the run did not read goes to the feature's next run of the same agent, in a pipeline to that of any role. @param {{text: string, anchor: any}} message */
  async resend({ text }) {
    const run = this.feed.run;
    if (!run) return;
    try {
      const runs = await this.client.api.runs(run.project_id);
      const next = runs.find((other) => other.feature_id === run.feature_id && !other.ended_at && other.id !== run.id && (run.turn && other.turn ? other.pipeline === run.pipeline : other.agent_id === run.agent_id));
      if (!next) {
        this.note = `${run.turn ? "The pipeline" : run.agent_name} has no next run on this feature yet. Start one, then send it again.`;
        return;
      }
      const entry = this.client.outbox.add(next.id, { text, mode: "steer" });
      const problem = await this.client.outbox.deliver(entry.key);
      this.note = problem ? problem.message : "";
      if (!problem) this.emit("open-run", { runId: next.id });
    } catch {
      this.note = "The server cannot be reached at the moment.";
    }
  }

  openTerminal() {
    this.note = "";
    const failed = (/** @type {string} */ words) => {
      this.note = words;
    };
    this.emit("open-terminal", { run: this.feed.run, failed });
  }

  render() {
    const { feed, client } = this;
    const { view, run } = feed;
    const name = run?.agent_name ?? "…";
    return html`
      <header class="chat-head">
        <img src=${mascot(run?.agent_id ?? "")} alt="" width="44" height="44" />
        <div class="chat-who"><h2>${name}</h2><p><span class="role">${ROLE[run?.role ?? ""] ?? ""}</span> ${statusMark(view.status, view.phase)}</p></div>
        <div class="chat-actions">
          ${run ? html`<run-orders .client=${client} .runId=${feed.runId} .agentName=${name} .isHeld=${view.held || ["paused", "suspended"].includes(view.status)} .mayHold=${run.start === "launch" && ["paused", "waiting"].includes(view.status)} .isEnded=${view.isEnded}></run-orders>` : ""}
          ${
            // only in the dashboard, whose page has the dialog for it
            this.closable && client.mayOpenTerminal && run?.start === "launch" && !view.isEnded && view.status !== "suspended"
              ? html`<button class="ghost" type="button" aria-label="Open a terminal in ${name}'s container" @click=${this.openTerminal}>${icon("terminal")} Terminal…</button>`
              : ""
          }
          ${this.closable ? html`<button class="quiet close" type="button" aria-label="Close chat" @click=${() => this.emit("close-chat")}>${icon("close")}</button>` : ""}
        </div>
      </header>
      ${run?.turn ? html`<run-turn .client=${client} .run=${run}></run-turn>` : ""}
      ${client.isSilent ? html`<p class="banner" role="status">Reconnecting… nothing is lost</p>` : ""}
      <chat-log .client=${client} .feed=${feed}></chat-log>
      ${this.note ? html`<p class="error-note" role="alert">${this.note}</p>` : ""}
      <chat-composer .client=${client} .runId=${feed.runId} .agentName=${name} .featureName=${this.featureName} .isEnded=${view.isEnded} .isOnHold=${view.status === "suspended"}></chat-composer>`;
  }
}
customElements.define("chat-panel", ChatPanel);
