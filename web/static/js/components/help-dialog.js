import { html } from "../../vendor/lit/index.js";
import { LightElement } from "./light-element.js";

const KEYS = [
  ["/", "Write in the open chat"],
  ["Enter", "Send"],
  ["Shift + Enter", "New line"],
  ["Ctrl + Enter", "Send and interrupt the current step"],
  ["↑", "In an empty composer: edit the last queued message"],
  ["j  k", "Next and previous card"],
  ["F6", "Leave an open terminal"],
  ["Esc", "Close what is on top"],
  ["?", "This list"],
];

/** The keys of the page. */
export class HelpDialog extends LightElement {
  show() {
    this.querySelector("dialog")?.showModal();
  }

  render() {
    return html`<dialog class="dialog" aria-labelledby="help-title">
      <h2 id="help-title">Keys</h2>
      <dl class="keys">${KEYS.map(([key, what]) => html`<div><dt><kbd>${key}</kbd></dt><dd>${what}</dd></div>`)}</dl>
      <div class="dialog-row"><button class="ghost" type="button" @click=${() => this.querySelector("dialog")?.close()}>Close</button></div>
    </dialog>`;
  }
}
customElements.define("help-dialog", HelpDialog);
