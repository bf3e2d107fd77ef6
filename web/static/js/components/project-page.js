/** @import {SharedClient} from "../live/shared-client.js" */
/** @import {ProjectState} from "../live/project-state.js" */
import { html } from "../../vendor/lit/index.js";
import { LightElement } from "./light-element.js";
import "./attach-dialog.js";
import "./chat-sidebar.js";
import "./log-viewer.js";
import "./mission-control.js";
import "./pipeline-dialog.js";

/** A project: Mission Control or the log, with the chat beside it that stays open across both. */
export class ProjectPage extends LightElement {
  static properties = { view: {}, run: {} };

  constructor() {
    super();
    /** @type {SharedClient} */
    this.client = /** @type {any} */ (null);
    /** @type {ProjectState} */
    this.state = /** @type {any} */ (null);
    this.view = "mission";
    this.run = "";
    this.addEventListener("open-run", (event) => {
      const { runId, opener } = /** @type {CustomEvent} */ (event).detail;
      if (runId) this.open(runId, opener);
    });
    this.addEventListener("quote-line", (event) => {
      const { runId, anchor, opener } = /** @type {CustomEvent} */ (event).detail;
      this.open(runId, opener, (chat) => chat.quote(anchor));
    });
    this.addEventListener("attach-agent", (event) => {
      const { agent, feature } = /** @type {CustomEvent} */ (event).detail;
      const dialog = /** @type {import("./attach-dialog.js").AttachDialog} */ (this.querySelector("attach-dialog"));
      void dialog.show(agent, feature, this.state.project);
    });
    this.addEventListener("steer-pipeline", (event) => {
      const { what, feature } = /** @type {CustomEvent} */ (event).detail;
      void /** @type {import("./pipeline-dialog.js").PipelineDialog} */ (this.querySelector("pipeline-dialog")).show(what, feature);
    });
    this.addEventListener("open-terminal", async (event) => {
      const { run, failed } = /** @type {CustomEvent} */ (event).detail;
      try {
        await import("./terminal-dialog.js"); // few need it
        await /** @type {any} */ (this.querySelector("terminal-dialog"))?.show(run);
      } catch {
        failed("The terminal's files could not be loaded. Try again.");
      }
    });
    this.addEventListener("sidebar-closed", () => this.emit("select-run", { runId: "" }));
  }

  connectedCallback() {
    super.connectedCallback();
    this.watch(this.state.signal);
  }

  /** @returns {import("./chat-sidebar.js").ChatSidebar|null} */
  get sidebar() {
    return this.querySelector("chat-sidebar");
  }

  /**
   * @param {string} runId @param {HTMLElement|null} [opener] gets the focus back
   * @param {(chat: import("./omakase-chat.js").OmakaseChat) => void} [act] what to do once it is open; else the cursor goes there
   */
  open(runId, opener, act = (chat) => chat.focusComposer()) {
    if (this.sidebar && opener) this.sidebar.opener = opener;
    this.emit("select-run", { runId });
    this.sidebar?.whenOpen(runId, act);
  }

  render() {
    const { client, state } = this;
    return html`<div class="page ${this.run ? "has-chat" : ""}">
        <main id="main">
          ${this.view === "logs"
            ? html`<log-viewer .client=${client} .state=${state}></log-viewer>`
            : html`<mission-control .client=${client} .state=${state} .openRun=${this.run}></mission-control>`}
        </main>
        <chat-sidebar .run=${this.run}></chat-sidebar>
      </div>
      <attach-dialog></attach-dialog>
      <pipeline-dialog .state=${state}></pipeline-dialog>
      <terminal-dialog></terminal-dialog>`;
  }
}
customElements.define("project-page", ProjectPage);
