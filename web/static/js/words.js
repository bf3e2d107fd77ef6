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
