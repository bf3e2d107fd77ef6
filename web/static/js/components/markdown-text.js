import { html } from "../../vendor/lit/index.js";
import { Markdown } from "../markdown.js";
import { LightElement } from "./light-element.js";

/** Markdown made safe, block by block; code blocks can be copied. */
export class MarkdownText extends LightElement {
  static properties = { text: {}, isOpen: { attribute: false } };

  constructor() {
    super();
    this.text = "";
    this.isOpen = false;
    this.markdown = new Markdown();
    this.addEventListener("click", (event) => this.clicked(event));
  }

  /** @param {Event} event */
  async clicked(event) {
    const button = /** @type {Element} */ (event.composedPath()[0]).closest?.("[data-copy]");
    if (!button) return;
    const code = button.closest(".md-code")?.querySelector("pre")?.textContent ?? "";
    button.textContent = (await copy(code)) ? "Copied" : "Select and copy";
    setTimeout(() => (button.textContent = "Copy"), 2000);
  }

  render() {
    return this.markdown.render(this.text, this.isOpen).map((block) => html`<div class="md" .innerHTML=${block}></div>`);
  }
}
customElements.define("markdown-text", MarkdownText);

/** @param {string} text @returns {Promise<boolean>} false where the browser does not allow it */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}
