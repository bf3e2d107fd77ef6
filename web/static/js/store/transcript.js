/** @import {Event} from "../types.js" */

/**
 * @typedef {{type: "event", key: string, event: Event}} EventRow
 * @typedef {{type: "steps", key: string, steps: {started: Event|null, finished: Event|null, step: number, name: string}[]}} StepsRow
 * @typedef {EventRow|StepsRow} Row
 */

/**
 * The talk as rows: neighbouring steps become one group in which a step's start and end are one line;
 * an answer belongs to its question's card and gets no row of its own.
 *
 * @param {Event[]} events ascending by seq
 * @returns {Row[]}
 */
export function rows(events) {
  /** @type {Row[]} */
  const out = [];
  for (const event of events) {
    if (event.kind === "answer") continue;
    if (event.kind === "step") {
      let group = out.at(-1);
      if (group?.type !== "steps") {
        group = { type: "steps", key: `steps-${event.seq}`, steps: [] };
        out.push(group);
      }
      addStep(group, event);
    } else if (!(event.kind === "status" && event.body.status === event.body.previous && !event.body.detail)) {
      out.push({ type: "event", key: event.id, event });
    }
  }
  return out;
}

/** @param {StepsRow} group @param {Event} event */
function addStep(group, event) {
  const { step, name, state } = event.body;
  let line = group.steps.find((known) => known.step === step && known.name === name && !(state === "started" ? known.started : known.finished));
  if (!line) {
    line = { step, name, started: null, finished: null };
    group.steps.push(line);
  }
  line[state === "started" ? "started" : "finished"] = event;
}
