import { Marked } from "../vendor/marked.js";
import { highlight } from "./highlight.js";

/** @param {string} text */
export function escapeHtml(text) {
  return text.replace(/[&<>"']/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" })[c] ?? c);
}

/** @param {string} href @returns {{href: string, host: string}|null} null: not an address we follow */
export function safeLink(href) {
  let url;
  try {
    url = new URL(href);
  } catch {
    return null;
  }
  if (url.protocol === "http:" || url.protocol === "https:") return { href: url.href, host: url.host };
  if (url.protocol === "mailto:") return { href: url.href, host: url.pathname };
  return null;
}

/** A fenced block whose end has not come yet. @param {{type: string, raw: string, codeBlockStyle?: string}} token */
export function isOpenCode(token) {
  if (token.type !== "code" || token.codeBlockStyle === "indented") return false;
  const fence = /^ {0,3}(`{3,}|~{3,})/.exec(token.raw)?.[1] ?? "```";
  const lines = token.raw.trimEnd().split("\n");
  return lines.length < 2 || !new RegExp(`^ {0,3}${fence[0] === "~" ? "~" : "`"}{${fence.length},} *$`).test(lines[lines.length - 1]);
}

const renderer = {
  /** Raw HTML is shown as what it is: text. @param {{text: string}} token */
  html({ text }) {
    return escapeHtml(text);
  },
  /** Images leak by their address; only their words stay. @param {{text: string}} token */
  image({ text }) {
    return `<span class="md-image">[image${text ? `: ${escapeHtml(text)}` : ""}]</span>`;
  },
  /** @param {any} token */
  link({ href, tokens }) {
    // @ts-ignore: marked binds the parser to `this`
    const text = this.parser.parseInline(tokens);
    const link = safeLink(href);
    if (!link) return text;
    const bare = text.replace(/<[^>]*>/g, "");
    const host = bare.includes(link.host) ? "" : ` <span class="md-host">(${escapeHtml(link.host)})</span>`;
    return `<a href="${escapeHtml(link.href)}" rel="noopener noreferrer nofollow" target="_blank">${text}</a>${host}`;
  },
  /** @param {any} token */
  code(token) {
    const { text, lang } = token;
    const language = (lang ?? "").trim().split(/\s/)[0].toLowerCase();
    const coloured = token.isOpen ? null : highlight(text, alias(language));
    return (
      `<div class="md-code"><div class="md-code-head"><span>${escapeHtml(language || "text")}</span>` +
      `<button type="button" data-copy>Copy</button></div>` +
      `<pre tabindex="0"><code>${coloured ?? escapeHtml(text)}</code></pre></div>`
    );
  },
  /** @param {any} token */
  checkbox({ checked }) {
    return checked ? "☑ " : "☐ ";
  },
};

/** @param {string} name */
function alias(name) {
  return { py: "python", js: "javascript", ts: "typescript", sh: "bash", shell: "bash", html: "xml", yml: "yaml", rs: "rust", patch: "diff" }[name] ?? name;
}

const marked = new Marked({ gfm: true, breaks: true, renderer });

/**
 * Markdown as top-level blocks, so that while a text streams only its last block is rendered anew.
 * The HTML is not yet sanitised: see markdown.js.
 *
 * @param {string} text @param {{isOpen?: boolean}} [options] `isOpen`: more text may follow
 * @returns {{raw: string, isOpen: boolean, html: () => string}[]}
 */
export function blocks(text, { isOpen = false } = {}) {
  const tokens = marked.lexer(text);
  const solid = tokens.filter((token) => token.type !== "space" && token.type !== "def");
  return solid.map((token, index) => {
    const open = isOpen && index === solid.length - 1 && isOpenCode(/** @type {any} */ (token));
    return {
      raw: token.raw,
      isOpen: open,
      html: () => marked.parser([open ? /** @type {any} */ ({ ...token, isOpen: true }) : token]),
    };
  });
}
