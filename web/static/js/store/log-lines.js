/** @import {Event} from "../types.js" */
import { plain } from "../ansi.js";

export const BLOCK = 200;

/**
 * @typedef {{key: string, runId: string, agent: string, number: number, seq: number, line: number, stream: string, level: string, at: string, text: string, bare: string}} Line
 */

const LEVEL = /\b(CRITICAL|FATAL|ERROR|FAILED|WARN(?:ING)?|INFO|DEBUG|TRACE)\b/;

/** The log of several runs as one list of lines, in order of time and, within a run, of `seq`; nothing twice. */
export class LogLines {
  constructor() {
    /** @type {Line[]} */
    this.lines = [];
    /** @type {Set<string>} `run:seq` of the chunks that are in */
    this.chunks = new Set();
    this.version = 0;
  }

  /** @param {Event} event of kind log @param {string} agent id @returns {Line[]} the new lines */
  apply(event, agent) {
    const chunk = `${event.run_id}:${event.seq}`;
    if (event.kind !== "log" || this.chunks.has(chunk)) return [];
    this.chunks.add(chunk);
    const fresh = event.body.lines.map((/** @type {any} */ line, /** @type {number} */ index) => {
      const bare = plain(line.text);
      return {
        key: `${chunk}:${index}`,
        runId: event.run_id,
        agent,
        number: event.body.first_line + index,
        seq: event.seq,
        line: index,
        stream: line.stream ?? "stdout",
        level: level(bare, line.stream),
        at: line.at ?? event.at,
        text: line.text,
        bare,
      };
    });
    this.insert(fresh);
    this.version++;
    return fresh;
  }

  /** @param {string} runId drop what is known of a run (its log has another epoch) */
  forget(runId) {
    this.lines = this.lines.filter((line) => line.runId !== runId);
    for (const chunk of this.chunks) if (chunk.startsWith(`${runId}:`)) this.chunks.delete(chunk);
    this.version++;
  }

  /** @param {Line[]} fresh */
  insert(fresh) {
    const last = this.lines.at(-1);
    if (!last || compare(last, fresh[0]) <= 0) {
      for (const line of fresh) this.lines.push(line);
      return;
    }
    let low = 0;
    let high = this.lines.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (compare(this.lines[middle], fresh[0]) <= 0) low = middle + 1;
      else high = middle;
    }
    this.lines = [...this.lines.slice(0, low), ...fresh, ...this.lines.slice(low)];
  }

  /**
   * @param {{agents?: Set<string>|null, level?: string, text?: string}} filter
   * @returns {Line[]}
   */
  filtered({ agents, level: wanted, text }) {
    const needle = text?.toLowerCase();
    if (!agents && !wanted && !needle) return this.lines;
    return this.lines.filter(
      (line) =>
        (!agents || agents.has(line.agent)) &&
        (!wanted || line.level === wanted || line.stream === wanted) &&
        (!needle || line.bare.toLowerCase().includes(needle)),
    );
  }
}

/** @param {Line} a @param {Line} b */
function compare(a, b) {
  // not by its number: a process that comes back from hold counts from 1 again
  if (a.runId === b.runId) return a.seq - b.seq || a.line - b.line;
  return a.at < b.at ? -1 : a.at > b.at ? 1 : a.runId < b.runId ? -1 : 1;
}

/** @param {string} text @param {string} stream */
function level(text, stream) {
  const found = LEVEL.exec(text.slice(0, 120));
  if (!found) return stream === "stderr" ? "error" : "info";
  if (/CRIT|FATAL|ERR|FAILED/.test(found[1])) return "error";
  if (/WARN/.test(found[1])) return "warning";
  return /INFO/.test(found[1]) ? "info" : "debug";
}
