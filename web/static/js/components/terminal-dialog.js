/** @import {Run} from "../types.js" */
import { html } from "../../vendor/lit/index.js";
import { TerminalLine } from "../live/terminal-line.js";
import { LightElement } from "./light-element.js";

/** Loaded with the first terminal, not with the page. @param {string} path */
async function sheet(path) {
  const href = new URL(path, import.meta.url).href;
  if (document.querySelector(`link[href="${href}"]`)) return;
  const link = document.createElement("link");
  link.rel = "stylesheet";
  link.href = href;
  const loaded = new Promise((resolve, reject) => {
    link.addEventListener("load", resolve, { once: true });
    link.addEventListener("error", () => {
      link.remove(); // so that the next wish asks again
      reject(new Error(`${path} could not be loaded`));
    }, { once: true });
  });
  document.head.append(link);
  await loaded;
}

/** A terminal in the container of a run's agent: says what it is, asks why, and is one until it is closed. */
export class TerminalDialog extends LightElement {
  static properties = { run: { attribute: false }, state: { state: true }, text: { state: true } };

  constructor() {
    super();
    /** @type {Run|null} */
    this.run = null;
    /** @type {"ask"|"opening"|"open"|"ended"} */
    this.state = "ask";
    this.text = "";
    /** @type {TerminalLine|null} */
    this.line = null;
    /** @type {import("../terminal-screen.js").TerminalScreen|null} */
    this.screen = null;
  }

  disconnectedCallback() {
    super.disconnectedCallback();
    this.letGo();
  }

  /** @param {Run} run */
  async show(run) {
    await sheet("../../css/terminal.css");
    this.letGo();
    this.run = run;
    this.state = "ask";
    this.text = "";
    await this.updateComplete;
    this.querySelector("dialog")?.showModal();
    this.querySelector("input")?.focus();
  }

  /** @param {SubmitEvent} event */
  async submitted(event) {
    event.preventDefault();
    const reason = String(new FormData(/** @type {HTMLFormElement} */ (event.target)).get("reason")).trim();
    if (!reason || this.state !== "ask") return;
    this.state = "opening";
    let TerminalScreen;
    try {
      [{ TerminalScreen }] = await Promise.all([import("../terminal-screen.js"), sheet("../../vendor/xterm/xterm.css")]);
    } catch {
      if (this.state !== "opening") return;
      this.state = "ended";
      this.text = "The terminal's files could not be loaded. Close and try again.";
      await this.updateComplete;
      this.leave();
      return;
    }
    await this.updateComplete;
    const host = /** @type {HTMLElement|null} */ (this.querySelector(".terminal-screen"));
    if (!host || !this.run || this.state !== "opening") return; // it was closed meanwhile
    const url = new URL(`/api/agent-runs/${encodeURIComponent(this.run.id)}/terminal`, location.href);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    const line = new TerminalLine(url.href, {
      onOpened: () => {
        this.state = "open";
        this.text = "";
        line.resize(screen.cols, screen.rows);
        screen.focus();
      },
      onOutput: (bytes) => screen.show(bytes),
      onEnd: (text) => {
        this.state = "ended";
        this.text = text;
        screen.freeze();
        void this.updateComplete.then(() => this.leave());
      },
    });
    const screen = new TerminalScreen(host, {
      onType: (text) => line.type(text),
      onAnswer: (text) => line.answer(text),
      onBinary: (binary) => line.typeBinary(binary),
      onSize: (cols, rows) => line.resize(cols, rows),
      onLeave: () => this.leave(),
    });
    this.line = line;
    this.screen = screen;
    line.open({ reason, cols: screen.cols, rows: screen.rows });
  }

  /** Out of the terminal, to the button that closes it. */
  leave() {
    /** @type {HTMLButtonElement|null} */ (this.querySelector(".terminal-close"))?.focus();
  }

  close() {
    this.querySelector("dialog")?.close();
  }

  /** Escape belongs to the shell while it is open: the button closes. @param {Event} event */
  cancelled(event) {
    if (this.state === "open") event.preventDefault();
  }

  letGo() {
    this.line?.close();
    this.line?.drop();
    this.line = null;
    this.screen?.dispose();
    this.screen = null;
    this.state = "ask";
  }

  render() {
    const name = this.run?.agent_name ?? "the agent";
    return html`<dialog class="dialog terminal" aria-labelledby="terminal-title" @cancel=${this.cancelled} @close=${this.letGo}>
      <h2 id="terminal-title">A terminal in ${name}'s container</h2>
      ${this.state === "ask" ? this.renderQuestion(name) : this.renderTerminal()}
    </dialog>`;
  }

  /** @param {string} name */
  renderQuestion(name) {
    return html`<form @submit=${this.submitted}>
      <p>You will be <strong>root</strong> in the container in which ${name} is at work. What you change there ${name} is not told of, and it is gone with the container.</p>
      <p>The run's log will say, to everybody who can read it, that <strong>you</strong> opened a terminal, why, and how long it was open. What you type and see is not kept.</p>
      <label for="terminal-reason">Why do you need it?</label>
      <input id="terminal-reason" name="reason" required maxlength="500" autocomplete="off" />
      <div class="dialog-row"><button class="danger" type="submit">Open a terminal</button>
        <button class="ghost" type="button" @click=${this.close}>Cancel</button></div>
    </form>`;
  }

  renderTerminal() {
    const status = { opening: "Opening…", open: "Open. F6 leaves the terminal; every other key goes to the shell.", ended: "" }[/** @type {"opening"|"open"|"ended"} */ (this.state)];
    return html`<p class="muted" role="status">${status}</p>
      <div class="terminal-screen" role="group" aria-label="Terminal"></div>
      ${this.state === "ended" ? html`<p class="error-note" role="alert">${this.text}</p>` : ""}
      <div class="dialog-row"><button class="ghost terminal-close" type="button" @click=${this.close}>${this.state === "ended" ? "Close" : "Close the terminal"}</button></div>`;
  }
}
customElements.define("terminal-dialog", TerminalDialog);
