/**
 * Terminal output made safe: colours become class names, every other control sequence disappears.
 * Nothing here ever makes HTML; the viewer puts `text` into text nodes.
 */

// CSI (ends with a letter), OSC/DCS/PM/APC (end with BEL or ST; cut at the end when they never do), two-byte escapes.
const SEQUENCE = /\x1b\[([0-9;:?<=>]*)([ -/]*)([@-~])|\x1b[\]PX^_][\s\S]*?(?:\x07|\x1b\\|$)|\x1b[ -/]*[0-~]?|\x9b[0-9;:?]*[@-~]/g;
// C0 without tab, C1, bidi controls, zero-width and other invisible formatting characters.
const HIDDEN = /[\x00-\x08\x0a-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]|[\u{e0000}-\u{e007f}]/gu;
const NAMES = ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"];

/** @param {string} text */
export function plain(text) {
  return text.replace(SEQUENCE, "").replace(HIDDEN, "");
}

/**
 * @param {string} text one line
 * @returns {{text: string, classes: string}[]} runs of text with the class names of their colour and weight
 */
export function segments(text) {
  if (!text.includes("\x1b") && !text.includes("\x9b")) {
    const clean = text.replace(HIDDEN, "");
    return clean ? [{ text: clean, classes: "" }] : [];
  }
  const out = [];
  let style = { colour: "", bold: false, dim: false, italic: false, underline: false };
  let last = 0;
  const push = (/** @type {string} */ piece) => {
    const clean = piece.replace(HIDDEN, "");
    if (clean) out.push({ text: clean, classes: classNames(style) });
  };
  SEQUENCE.lastIndex = 0;
  for (let match = SEQUENCE.exec(text); match; match = SEQUENCE.exec(text)) {
    push(text.slice(last, match.index));
    last = match.index + match[0].length;
    if (match[3] === "m") style = sgr(style, match[1]);
    if (match[0].length === 0) SEQUENCE.lastIndex++;
  }
  push(text.slice(last));
  return out;
}

/** @param {{colour: string, bold: boolean, dim: boolean, italic: boolean, underline: boolean}} style @param {string} codes */
function sgr(style, codes) {
  let next = { ...style };
  const list = codes.split(/[;:]/).map(Number);
  for (let i = 0; i < list.length; i++) {
    const code = list[i];
    if (code === 0) next = { colour: "", bold: false, dim: false, italic: false, underline: false };
    else if (code === 1) next.bold = true;
    else if (code === 2) next.dim = true;
    else if (code === 3) next.italic = true;
    else if (code === 4) next.underline = true;
    else if (code === 22) next.bold = next.dim = false;
    else if (code === 23) next.italic = false;
    else if (code === 24) next.underline = false;
    else if (code >= 30 && code <= 37) next.colour = NAMES[code - 30];
    else if (code >= 90 && code <= 97) next.colour = NAMES[code - 90];
    else if (code === 39) next.colour = "";
    // 256 and true colours cannot keep their contrast on both themes: they are read over, not shown.
    else if (code === 38 || code === 48) i += list[i + 1] === 5 ? 2 : 4;
  }
  return next;
}

/** @param {{colour: string, bold: boolean, dim: boolean, italic: boolean, underline: boolean}} style */
function classNames(style) {
  const names = [];
  if (style.colour) names.push(`ansi-${style.colour}`);
  if (style.bold) names.push("ansi-bold");
  if (style.dim) names.push("ansi-dim");
  if (style.italic) names.push("ansi-italic");
  if (style.underline) names.push("ansi-underline");
  return names.join(" ");
}
