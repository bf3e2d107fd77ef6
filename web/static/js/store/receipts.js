/** @import {Event, MailItem} from "../types.js" */

/**
 * What happened to everything addressed to the agent: per id the newest receipt by `seq`, and the time of
 * each state it went through. Order of arrival does not matter.
 */
export class Receipts {
  constructor() {
    /** @type {Map<string, {state: string, seq: number, attempt: number, step: number|null, reason: string|null, movedTo: string|null, times: Record<string, string>}>} */
    this.byId = new Map();
  }

  /** @param {string} id */
  get(id) {
    return this.byId.get(id) ?? null;
  }

  /** @param {Event} event of kind receipt */
  apply(event) {
    for (const id of event.body.ids) {
      const known = this.byId.get(id) ?? blank();
      known.times[event.body.state] = event.at;
      known.attempt = Math.max(known.attempt, event.body.attempt ?? 0);
      if (event.seq > known.seq) {
        known.seq = event.seq;
        known.state = event.body.state;
        known.step = event.body.step ?? null;
        known.reason = event.body.reason ?? null;
        known.movedTo = event.body.moved_to?.run_id ?? null;
      }
      this.byId.set(id, known);
    }
  }

  /** @param {MailItem} item as a snapshot knows it @param {number} head the snapshot's head */
  applyItem(item, head) {
    const known = this.byId.get(item.id) ?? blank();
    if (head > known.seq) {
      known.seq = head;
      known.state = item.state;
      known.attempt = item.attempt;
      this.byId.set(item.id, known);
    }
  }
}

/** @returns {{state: string, seq: number, attempt: number, step: number|null, reason: string|null, movedTo: string|null, times: Record<string, string>}} */
function blank() {
  return { state: "accepted", seq: 0, attempt: 0, step: null, reason: null, movedTo: null, times: {} };
}
