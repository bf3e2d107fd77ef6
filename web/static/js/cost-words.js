/** @import {Run} from "./types.js" */

/** "12 min", "2 h 05 min"; less than a minute has no number. @param {number} ms */
function span(ms) {
  const minutes = Math.max(0, Math.round(ms / 60_000));
  if (minutes < 1) return "less than a minute";
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${String(minutes % 60).padStart(2, "0")} min` : `${Math.floor(hours / 24)} days`;
}

/** Money of an hour's or a task's size: cents, and more digits where there are no whole ones. @param {number} amount @param {string} currency */
function money(amount, currency) {
  const digits = amount && amount < 0.01 ? 4 : 2;
  return `${amount.toFixed(digits)} ${currency}`;
}

const IDLE = /** @type {Record<string, string>} */ ({ paused: "paused", waiting: "waiting", suspended: "on hold" });

/**
 * What a run costs and when that ends, in one line: "paused for 12 min, 0.04 $ an hour; goes on hold in 48 min".
 * Nothing for one that costs nothing and is never put on hold.
 * @param {Pick<Run, "status"|"since"|"hold_at"|"cost">} run @param {number} now ms since 1970
 */
export function costWords(run, now) {
  const { status, cost } = run;
  const isOnHold = status === "suspended";
  const said = [];
  if (run.since && IDLE[status] && (cost || run.hold_at || isOnHold)) said.push(`${IDLE[status]} for ${span(now - Date.parse(run.since))}`);
  if (cost && isOnHold) said.push("costs nothing");
  else if (cost && !["completed", "failed", "stopped"].includes(status)) said.push(`${money(cost.per_hour, cost.currency)} an hour`);
  if (cost) said.push(`${money(cost.so_far, cost.currency)} so far`);
  const line = said.join(", ");
  if (!run.hold_at) return line;
  const left = Date.parse(run.hold_at) - now;
  return `${line}; ${left > 0 ? `goes on hold in ${span(left)}` : "goes on hold now"}`;
}
