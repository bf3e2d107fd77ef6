/** @import {Event} from "../types.js" */

/**
 * @typedef {{started: Event|null, finished: Event|null, step: number, name: string, isCut: boolean}} StepLine `isCut`: its process ended first
 * @typedef {{type: "event", key: string, event: Event}} EventRow
 * @typedef {{type: "steps", key: string, steps: StepLine[]}} StepsRow
 * @typedef {EventRow|StepsRow} Row
 */

const PROCESS_GONE = new Set(["completed", "failed", "stopped", "suspended"]);

/**
 * The talk as rows: neighbouring steps become one group. A step's start and end are one line, where it
 * started, whatever was said in between; an answer belongs to its question's card and gets no row of its own.
 *
 * @param {Event[]} events ascending by seq
 * @returns {Row[]}
 */
export function rows(events) {
  /** @type {Row[]} */
  const out = [];
  /** @type {StepLine[]} */
  let running = [];
  for (const event of events) {
    if (event.kind === "answer") continue;
    if (event.kind === "status" && PROCESS_GONE.has(event.body.status)) {
      for (const line of running) line.isCut = true;
      running = [];
    }
    if (event.kind === "step") {
      const { step, name, state } = event.body;
      const same = running.find((line) => line.step === step && line.name === name);
      if (state !== "started" && same) {
        same.finished = event;
        running.splice(running.indexOf(same), 1);
        continue;
      }
      /** @type {StepLine} */
      const line = { step, name, started: null, finished: null, isCut: false };
      line[state === "started" ? "started" : "finished"] = event;
      if (state === "started") running.push(line);
      let group = out.at(-1);
      if (group?.type !== "steps") {
        group = { type: "steps", key: `steps-${event.seq}`, steps: [] };
        out.push(group);
      }
      group.steps.push(line);
    } else if (!(event.kind === "status" && event.body.status === event.body.previous && !event.body.detail)) {
      out.push({ type: "event", key: event.id, event });
    }
  }
  return out;
}
