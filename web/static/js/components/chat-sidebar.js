import { html } from "../../vendor/lit/index.js";
import { SafeStorage } from "../store/safe-storage.js";
import { LightElement } from "./light-element.js";
import "./omakase-chat.js";

const WIDTH = "omakase:sidebar-width";
const [MIN, MAX, STEP] = [340, 900, 24];

/**
 * Where a chat opens: an aside that can be resized, or, where there is no room for two, a dialog over the
 * whole screen. It takes no focus from the page behind it but to write, and gives it back when it closes.
 */
export class ChatSidebar extends LightElement {
  static properties = { run: {}, isNarrow: { state: true }, width: { state: true } };

  constructor() {
    super();
    this.run = "";
    this.storage = new SafeStorage();
    this.width = Number(this.storage.read(WIDTH)) || 460;
    this.media = matchMedia("(max-width: 767px)");
    this.isNarrow = this.media.matches;
    /** @type {HTMLElement|null} */
    this.opener = null;
    /** @type {{runId: string, act: (chat: import("./omakase-chat.js").OmakaseChat) => void}|null} */
    this.due = null;
    this.onMedia = () => (this.isNarrow = this.media.matches);
    this.addEventListener("keydown", (event) => this.pressed(event));
    this.addEventListener("close-chat", () => this.close());
  }

  connectedCallback() {
    super.connectedCallback();
    this.media.addEventListener("change", this.onMedia);
    this.unwatch.push(() => this.media.removeEventListener("change", this.onMedia));
  }

  /** @returns {import("./omakase-chat.js").OmakaseChat|null} */
  get chat() {
    return this.querySelector("omakase-chat");
  }

  /** Do something with the chat of a run as soon as it is the one that is open. @param {string} runId @param {(chat: import("./omakase-chat.js").OmakaseChat) => void} act */
  whenOpen(runId, act) {
    this.due = { runId, act };
    this.requestUpdate();
  }

  /** @param {KeyboardEvent} event */
  pressed(event) {
    if (event.key === "Escape" && !event.defaultPrevented) {
      event.preventDefault();
      this.close();
    }
  }

  close() {
    this.emit("sidebar-closed");
    const opener = this.opener;
    this.opener = null;
    requestAnimationFrame(() => {
      if (opener?.isConnected) opener.focus();
    });
  }

  /** @param {PointerEvent} event */
  drag(event) {
    const handle = /** @type {HTMLElement} */ (event.currentTarget);
    handle.setPointerCapture(event.pointerId);
    const move = (/** @type {PointerEvent} */ e) => this.resize(innerWidth - e.clientX);
    handle.addEventListener("pointermove", move);
    handle.addEventListener("pointerup", () => handle.removeEventListener("pointermove", move), { once: true });
  }

  /** @param {KeyboardEvent} event */
  nudge(event) {
    const by = { ArrowLeft: STEP, ArrowRight: -STEP }[event.key];
    if (by) {
      event.preventDefault();
      this.resize(this.width + by);
    }
  }

  /** @param {number} width in CSS pixels */
  resize(width) {
    this.width = Math.round(Math.min(MAX, Math.max(MIN, Math.min(width, innerWidth * 0.7))));
    this.storage.write(WIDTH, this.width);
  }

  updated() {
    this.style.setProperty("--sidebar-width", `${this.width}px`);
    const dialog = this.querySelector("dialog");
    if (dialog && !dialog.open) dialog.showModal();
    if (this.due && this.due.runId === this.run && this.chat) {
      const { act } = this.due;
      this.due = null;
      act(this.chat);
    }
  }

  render() {
    if (!this.run) return "";
    const chat = html`<omakase-chat closable run=${this.run}></omakase-chat>`;
    if (this.isNarrow) {
      return html`<dialog class="sidebar-dialog" aria-label="Chat" @cancel=${(/** @type {Event} */ e) => { e.preventDefault(); this.close(); }}>${chat}</dialog>`;
    }
    return html`<aside class="sidebar" aria-label="Chat">
      <div class="sidebar-edge" role="separator" aria-orientation="vertical" aria-label="Width of the chat" tabindex="0"
        aria-valuemin=${MIN} aria-valuemax=${MAX} aria-valuenow=${this.width} @pointerdown=${this.drag} @keydown=${this.nudge}></div>
      ${chat}
    </aside>`;
  }
}
customElements.define("chat-sidebar", ChatSidebar);
