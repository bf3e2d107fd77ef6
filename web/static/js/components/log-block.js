/** @import {Line} from "../store/log-lines.js" */
import { segments } from "../ansi.js";
import { clockTime } from "../time.js";
import { BLOCK } from "../store/log-lines.js";

/**
 * Up to 200 lines as one element with `content-visibility: auto`, so that a hundred thousand stay smooth.
 * Built by hand, text nodes only: this is the one list too long for templates.
 */
export class LogBlock extends HTMLElement {
  constructor() {
    super();
    /** @type {Line[]} */
    this.lines = [];
  }

  get isFull() {
    return this.lines.length >= BLOCK;
  }

  /** @param {Line[]} lines @param {Record<string, string>} names agents' names by id */
  append(lines, names) {
    const fragment = document.createDocumentFragment();
    for (const line of lines) {
      const previous = this.lines.at(-1);
      fragment.append(row(line, names[line.agent] ?? line.agent, previous?.runId !== line.runId));
      this.lines.push(line);
    }
    super.append(fragment);
    this.style.setProperty("--lines", String(this.lines.length));
  }
}
customElements.define("log-block", LogBlock);

/** @param {Line} line @param {string} name @param {boolean} isFirst of its agent here */
function row(line, name, isFirst) {
  const element = document.createElement("div");
  element.className = "log-line";
  element.id = lineId(line);
  element.dataset.key = line.key;
  element.dataset.agent = line.agent;
  element.dataset.level = line.level;
  const number = document.createElement("a");
  number.className = "log-number";
  number.href = `#${element.id}`;
  number.textContent = String(line.number);
  number.title = clockTime(line.at);
  const agent = document.createElement("button");
  agent.className = "log-agent";
  agent.type = "button";
  agent.textContent = name;
  agent.dataset.open = line.runId;
  agent.setAttribute("aria-label", `Chat with ${name}`);
  if (!isFirst) {
    agent.tabIndex = -1;
    agent.classList.add("is-again");
  }
  const text = document.createElement("span");
  text.className = "log-text";
  for (const segment of segments(line.text)) {
    if (segment.classes) {
      const span = document.createElement("span");
      span.className = segment.classes;
      span.textContent = segment.text;
      text.append(span);
    } else {
      text.append(segment.text);
    }
  }
  const quote = document.createElement("button");
  quote.className = "log-quote";
  quote.type = "button";
  quote.dataset.quote = line.key;
  quote.setAttribute("aria-label", `Quote line ${line.number}`);
  quote.textContent = "Quote";
  element.append(number, agent, text, quote);
  return element;
}

/** @param {{runId: string, number: number}} line */
export function lineId(line) {
  return `L-${line.runId}-${line.number}`;
}
