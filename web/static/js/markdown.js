import DOMPurify from "../vendor/purify.js";
import { blocks } from "./markdown-html.js";

const CONFIG = {
  ALLOWED_TAGS: [
    "p", "br", "hr", "em", "strong", "del", "code", "pre", "blockquote", "ul", "ol", "li", "a", "span", "div", "button",
    "h1", "h2", "h3", "h4", "h5", "h6", "table", "thead", "tbody", "tr", "th", "td",
  ],
  ALLOWED_ATTR: ["href", "rel", "target", "class", "type", "start", "align", "tabindex", "data-copy"],
  ALLOWED_URI_REGEXP: /^(?:https?|mailto):/i,
  // The expression above is asked for every attribute that is not named here.
  ADD_URI_SAFE_ATTR: ["rel", "target", "type", "start", "align", "tabindex"],
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
};

/** @param {string} html */
const sanitise = (html) => /** @type {string} */ (DOMPurify.sanitize(html, CONFIG));

/** The one door through which an agent's words become HTML. */
const policy = globalThis.trustedTypes
  ? globalThis.trustedTypes.createPolicy("chat-markdown", { createHTML: sanitise })
  : { createHTML: sanitise };

/** Markdown of one message, rendered block by block and remembered while it grows. */
export class Markdown {
  constructor() {
    /** @type {Map<string, any>} */
    this.cache = new Map();
  }

  /** @param {string} text @param {boolean} isOpen more text may follow @returns {any[]} TrustedHTML per block */
  render(text, isOpen) {
    const next = new Map();
    const out = blocks(text, { isOpen }).map((block) => {
      const key = `${block.isOpen ? "+" : "="}${block.raw}`;
      const trusted = next.get(key) ?? this.cache.get(key) ?? policy.createHTML(block.html());
      next.set(key, trusted);
      return trusted;
    });
    this.cache = next;
    return out;
  }
}
