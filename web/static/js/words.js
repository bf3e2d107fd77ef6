/** Words for what the wire says; one place, so card, chat and banner agree. */

/** @param {string} status @param {string|null} phase */
export function statusWord(status, phase) {
  if (status === "working") {
    return { thinking: "Thinking", coding: "Coding", reviewing: "Reviewing", testing: "Testing" }[phase ?? ""] ?? "Working";
  }
  return {
    idle: "Idle", queued: "Queued", starting: "Starting", waiting: "Waiting for you", paused: "Paused",
    unresponsive: "Not responding", suspended: "On hold", completed: "Done", failed: "Failed", stopped: "Stopped",
  }[status] ?? status;
}

/** Which dot a status gets. @param {string} status */
export function statusTone(status) {
  if (status === "working" || status === "starting") return "busy";
  if (status === "waiting") return "needs";
  if (status === "failed" || status === "unresponsive") return "bad";
  if (status === "completed") return "done";
  return "calm";
}

/** How a role stands in a pipeline, as a word and the dot it gets. @type {Record<string, {word: string, tone: string}>} */
export const STANDING = {
  not_begun: { word: "Not begun", tone: "calm" },
  next: { word: "Next", tone: "calm" },
  beginning: { word: "Beginning", tone: "busy" },
  open: { word: "At work", tone: "busy" },
  late: { word: "At work, late", tone: "busy" },
  asking: { word: "Waits for you", tone: "needs" },
  passed: { word: "Passed", tone: "good" },
  sent_back: { word: "Sent back", tone: "back" },
  failed: { word: "Failed", tone: "bad" },
  stopped: { word: "Stopped", tone: "needs" },
  skipped: { word: "Skipped", tone: "none" },
};

/** Where a feature's pipeline is. @type {Record<string, {word: string, tone: string}>} */
export const STATE = {
  idle: { word: "Not started", tone: "calm" },
  running: { word: "Running", tone: "busy" },
  waiting: { word: "Waiting", tone: "calm" },
  needs: { word: "Needs you", tone: "needs" },
  failing: { word: "Failing", tone: "bad" },
  done: { word: "Done", tone: "good" },
};

export const ROLE = /** @type {Record<string, string>} */ ({ architect: "Architect", coder: "Coder", reviewer: "Reviewer", tester: "Tester" });

/** @type {Record<string, {label: string, hint: string}>} */
export const RECEIPT = {
  sending: { label: "Sending", hint: "on its way to the server" },
  accepted: { label: "Queued", hint: "in the run's log" },
  stored: { label: "Stored", hint: "in the history, waiting in the agent's mailbox" },
  leased: { label: "Taken", hint: "the agent has taken it and has not yet confirmed it" },
  in_context: { label: "In context", hint: "the model was given it" },
  cancelled: { label: "Cancelled", hint: "taken back before the agent saw it" },
  undelivered: { label: "Undelivered", hint: "the run ended before the agent saw it" },
  moved: { label: "Moved", hint: "handed on to the feature's next run" },
  failed: { label: "Not sent", hint: "the server has not taken it" },
};

/** @type {Record<string, {label: string, hint: string}>} */
export const MODES = {
  steer: { label: "Next step", hint: "Read before the agent's next step" },
  queue: { label: "After this task", hint: "Read when the current task is done" },
  interrupt: { label: "Now", hint: "Cuts the current step" },
};

/** @param {string} action @param {number|null} steps */
export function orderWords(action, steps) {
  return {
    pause: "asked the agent to pause", resume: "asked the agent to go on", interrupt: "interrupted the current step",
    stop: "asked the agent to stop", checkpoint: "asked the agent to go on hold", check_in: steps ? `asked for word every ${steps} steps` : "ended the check-ins",
  }[action] ?? action;
}

/** @param {number} ms */
export function seconds(ms) {
  return `${(ms / 1000).toFixed(1)} s`;
}

/** @param {number} count @param {string} one */
export function plural(count, one) {
  return `${count} ${one}${count === 1 ? "" : "s"}`;
}
