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

/** Where its process is surely there: one that starts may still wait for room. */
const IS_PAID = new Set(["working", "waiting", "paused", "unresponsive"]);

/**
 * What a run costs and when that ends, in one line: "paused for 12 min, 0.04 $ an hour; goes on hold in 48 min".
 * Nothing for one that costs nothing and is never put on hold, nor of a hold whose time has passed.
 * @param {Pick<Run, "status"|"since"|"hold_at"|"cost"|"fetched_at">} run as it was fetched
 * @param {number} now ms since 1970 @param {string} [status] what it is by now
 */
export function costWords(run, now, status = run.status) {
  const { cost } = run;
  // the times are of the status that it was fetched with
  const { since, hold_at } = status === run.status ? run : { since: null, hold_at: null };
  const isOnHold = status === "suspended";
  const said = [];
  if (since && IDLE[status] && (cost || hold_at || isOnHold)) said.push(`${IDLE[status]} for ${span(now - Date.parse(since))}`);
  if (cost && isOnHold) said.push("costs nothing");
  else if (cost && !["completed", "failed", "stopped"].includes(status)) said.push(`${money(cost.per_hour, cost.currency)} an hour`);
  if (cost) {
    const ranMs = IS_PAID.has(status) && IS_PAID.has(run.status) ? Math.max(0, now - (run.fetched_at ?? now)) : 0;
    said.push(`${money(cost.so_far + (cost.per_hour * ranMs) / 3_600_000, cost.currency)} so far`);
  }
  const line = said.join(", ");
  const left = hold_at ? Date.parse(hold_at) - now : 0;
  return left > 0 ? `${line}; goes on hold in ${span(left)}` : line;
}
