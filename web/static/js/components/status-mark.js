import { html } from "../../vendor/lit/index.js";
import { statusTone, statusWord } from "../words.js";

/** Status as a dot and a word, never colour alone. @param {string} status @param {string|null} phase */
export function statusMark(status, phase) {
  return html`<span class="status" data-tone=${statusTone(status)}><span class="dot" aria-hidden="true"></span>${statusWord(status, phase)}</span>`;
}
