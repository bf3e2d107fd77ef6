/** @import {Agent, Pipeline, Run, Turn} from "../types.js" */

/**
 * @typedef {Turn["result"]|"next"|"beginning"|"skipped"} Standing
 * @typedef {{agent: Agent, standing: Standing, turn: Turn|null, runId: string, isCurrent: boolean}} Stage
 */

const AT_WORK = new Set(["not_begun", "open", "asking", "late"]);

/**
 * How each role stands now, in the order of the work. A role that passed before the work was sent back behind it
 * has not begun again; one that sent it back says so until its next turn.
 *
 * @param {Agent[]} agents in the order of the work
 * @param {Pipeline|null} line
 * @returns {Stage[]}
 */
export function stages(agents, line) {
  const turns = line?.turns ?? [];
  const last = turns.at(-1) ?? null;
  const at = agents.findIndex((agent) => agent.role === last?.role);
  return agents.map((agent, place) => {
    const turn = turns.findLast((one) => one.role === agent.role) ?? null;
    const runId = turn && turn.result !== "not_begun" ? turn.run_id : "";
    return { agent, standing: standing(), turn, runId, isCurrent: turn !== null && turn === last && AT_WORK.has(turn.result) };

    /** @returns {Standing} */
    function standing() {
      if (line?.wanted === agent.role) return "next";
      if (line?.skipped.includes(agent.role)) return "skipped";
      if (!turn) return "not_begun";
      if (turn.result === "not_begun") return "beginning";
      if (turn.result === "passed" && place > at) return "not_begun";
      return turn.result;
    }
  });
}

/** The state as people are told it: what waits for a person needs one. @param {Pipeline} line @returns {string} a key of words.STATE */
export function stateOf(line) {
  const last = line.turns.at(-1);
  const waits = line.state === "waiting" && !line.wanted && (last?.result === "asking" || last?.result === "stopped");
  return waits ? "needs" : line.state;
}

/** Whether a person has to do something before it goes on. @param {Pipeline|null|undefined} line */
export function needsPerson(line) {
  return line ? ["needs", "failing"].includes(stateOf(line)) : false;
}

/** Whether a pipeline may be started: none is under way. @param {Pipeline} line */
export function mayStart(line) {
  if (line.number === null || line.state === "done" || line.state === "failing") return true;
  return line.state === "waiting" && !line.wanted && line.turns.at(-1)?.result === "stopped";
}

/** The turn of whoever is at work now. @param {Pipeline|null} line @returns {Turn|null} */
export function atWork(line) {
  const last = line?.turns.at(-1);
  return last && AT_WORK.has(last.result) ? last : null;
}

/** Which role one most likely wants to start again. @param {Pipeline} line @param {Agent[]} agents @returns {string} */
export function likelyRole(line, agents) {
  const last = line.turns.at(-1);
  if (last && (last.result === "failed" || last.result === "stopped")) return last.role;
  const back = line.turns.findLast((turn) => turn.why === "sent_back");
  return back?.role ?? agents.find((agent) => agent.role === "coder")?.role ?? agents[0]?.role ?? "";
}

/** How a turn came about. @param {Turn} turn @param {Turn|undefined} before */
export function whyWords(turn, before) {
  if (turn.why === "retry") return "tried again, after a failure";
  if (turn.why === "sent_back") return `sent back by ${before?.agent_name ?? "a later role"}`;
  if (turn.why === "by_hand") return `started by ${turn.by ?? "a person"}`;
  return before ? `took over from ${before.agent_name}` : "began";
}

/** "round 2, attempt 3": only what is above one. @param {{round: number, attempt: number}} turn */
export function countWords({ round, attempt }) {
  return [round > 1 ? `round ${round}` : "", attempt > 1 ? `attempt ${attempt}` : ""].filter(Boolean).join(", ");
}

/** "Turn 4 of the pipeline, round 2, sent back by Koji", for the chat of the turn's run. @param {Run} run @param {Pipeline} line */
export function turnWords(run, line) {
  if (run.pipeline !== line.number) return `Turn ${run.turn} of pipeline ${run.pipeline}; it is now at pipeline ${line.number}`;
  const turn = line.turns[Number(run.turn) - 1];
  if (!turn) return `Turn ${run.turn} of the pipeline`;
  const count = countWords(turn);
  return `Turn ${run.turn} of the pipeline${count ? `, ${count}` : ""}: ${whyWords(turn, line.turns[Number(run.turn) - 2])}`;
}

/**
 * The runs of the turns before and after a run's.
 *
 * @param {Run} run @param {Pipeline} line
 * @param {Run[]} runs of the feature; only needed for a pipeline before the present one
 */
export function neighbours(run, line, runs = []) {
  const at = (/** @type {number} */ number) => {
    if (run.pipeline === line.number) {
      const turn = line.turns[number - 1];
      return turn && turn.result !== "not_begun" ? { runId: turn.run_id, name: turn.agent_name, role: turn.role } : null;
    }
    const found = runs.find((one) => one.pipeline === run.pipeline && one.turn === number);
    return found ? { runId: found.id, name: found.agent_name, role: found.role } : null;
  };
  return { before: at(Number(run.turn) - 1), after: at(Number(run.turn) + 1) };
}

/** What is worth saying aloud about pipelines, once each; what was so before the page came is not news, but that it is failing. */
export class PipelineNews {
  constructor() {
    /** @type {Set<string>} */
    this.told = new Set();
    /** @type {Set<string>} features that were heard of */
    this.known = new Set();
  }

  /** @param {string} name of the feature @param {Pipeline} line @returns {string[]} */
  hear(name, line) {
    const isFirst = !this.known.has(line.feature_id);
    this.known.add(line.feature_id);
    const said = [];
    for (const turn of line.turns) {
      if (turn.result === "sent_back" && this.isNew(line, `back ${turn.turn}`) && !isFirst) said.push(`${turn.agent_name} sent ${name} back`);
    }
    if (line.state === "failing" && this.isNew(line, `failing ${line.turns.length}`)) said.push(`${name} is failing: ${line.reason.replace(/\.$/, "")}`);
    if (line.state === "done" && this.isNew(line, `done ${line.turns.length}`) && !isFirst) said.push(`${name} is done`);
    return said;
  }

  /** @param {Pipeline} line @param {string} what */
  isNew(line, what) {
    const key = `${line.feature_id} ${line.number} ${what}`;
    if (this.told.has(key)) return false;
    this.told.add(key);
    return true;
  }
}
