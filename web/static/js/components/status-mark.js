import { html } from "../../vendor/lit/index.js";
import { statusTone, statusWord } from "../words.js";

/** A dot and a word, never colour alone. @param {string} tone @param {string} word */
export function mark(tone, word) {
  return html`<span class="status" data-tone=${tone}><span class="dot" aria-hidden="true"></span>${word}</span>`;
}

/** A run's status. @param {string} status @param {string|null} phase */
export function statusMark(status, phase) {
  return mark(statusTone(status), statusWord(status, phase));
}
