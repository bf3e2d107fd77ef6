/** @import {SafeStorage} from "./store/safe-storage.js" */
/** @import {Event} from "./types.js" */
import { newKey } from "./keys.js";
import { Backoff } from "./live/backoff.js";
import { Problem } from "./problem.js";

const PREFIX = "omakase:outbox:";

/**
 * @typedef {{key: string, by: string|undefined, runId: string, body: {text: string, mode?: any, reply_to?: string, anchor?: any}, at: string, afterSeq: number,
 *   state: "sending"|"failed", code: string|null, detail: string|null, isTemporary: boolean}} Entry
 */

/**
 * What somebody has sent and the server has not yet taken. It survives a reload; each entry keeps its
 * idempotency key, so a retry after an answer that got lost is the same message, never a second one. What
 * failed for a reason that passes is tried again by itself, in order, with longer and longer pauses.
 */
export class Outbox {
  /**
   * @param {{storage: SafeStorage, me?: () => string|undefined, post: (runId: string, body: any, key: string) => Promise<{event: Event}>,
   *   now?: () => Date, later?: (act: () => void, ms: number) => void, onChange?: (runId: string) => void, onSent?: (runId: string, key: string, event: Event) => void}} options
   */
  constructor({ storage, me = () => "", post, now = () => new Date(), later = (act, ms) => void setTimeout(act, ms), onChange = () => {}, onSent = () => {} }) {
    this.storage = storage;
    /** Who writes here, undefined while that is not known: what another person left is neither shown nor sent. */
    this.me = me;
    this.post = post;
    this.now = now;
    this.later = later;
    this.onChange = onChange;
    this.onSent = onSent;
    /** @type {Map<string, Entry>} */
    this.entries = new Map();
    /** @type {Set<string>} keys under way */
    this.underWay = new Set();
    /** @type {Set<string>} written on this page before it was known who writes */
    this.unsigned = new Set();
    this.backoff = new Backoff({ baseMs: 1_000 });
    this.isRetryDue = false;
    /** @type {Promise<void>|null} one round at a time, or a second would overtake the first */
    this.round = null;
    for (const name of storage.keys(PREFIX)) {
      const entry = storage.read(name);
      if (entry?.key && entry.runId && entry.body?.text) this.entries.set(entry.key, entry);
    }
  }

  get mine() {
    const me = this.me();
    return [...this.entries.values()].filter((entry) => me !== undefined && entry.by === me);
  }

  /** @param {string} runId @returns {Entry[]} oldest first */
  of(runId) {
    return this.mine.filter((entry) => entry.runId === runId).sort((a, b) => (a.at < b.at ? -1 : 1));
  }

  /** @param {string} runId @param {Entry["body"]} body @param {number} [afterSeq] the run's head as it is known here @returns {Entry} */
  add(runId, body, afterSeq = 0) {
    /** @type {Entry} */
    const entry = { key: newKey(), by: this.me(), runId, body, at: this.now().toISOString(), afterSeq, state: "sending", code: null, detail: null, isTemporary: false };
    if (entry.by === undefined) this.unsigned.add(entry.key);
    this.entries.set(entry.key, entry);
    this.keep(entry);
    return entry;
  }

  /** It is known now who writes on this page: what was written here before that is theirs. */
  adopt() {
    for (const key of this.unsigned) {
      const entry = this.entries.get(key);
      if (entry) this.keep({ ...entry, by: this.me() });
    }
    this.unsigned.clear();
  }

  /**
   * Send it, or send it again with the same key.
   * @param {string} key @param {{isByItself?: boolean}} [how] nobody asked: what is shown stays as it is until it is taken
   * @returns {Promise<Problem|null>} null: taken
   */
  async deliver(key, { isByItself = false } = {}) {
    const entry = this.entries.get(key);
    if (!entry || entry.by !== this.me() || this.underWay.has(key)) return null;
    this.underWay.add(key);
    if (!isByItself) this.keep({ ...entry, state: "sending" });
    try {
      const { event } = await this.post(entry.runId, entry.body, key);
      this.backoff.reset();
      this.remove(key);
      this.onSent(entry.runId, key, event);
      return null;
    } catch (error) {
      const problem = Problem.from(error);
      if (this.entries.has(key)) {
        const { by } = /** @type {Entry} */ (this.entries.get(key)); // it may have become known meanwhile
        const detail = problem.status >= 500 ? "The server cannot take it at the moment." : problem.message;
        this.keep({ ...entry, by, state: "failed", code: problem.code, detail, isTemporary: problem.isTemporary });
        if (problem.isTemporary) this.retrySoon();
      }
      return problem;
    } finally {
      this.underWay.delete(key);
    }
  }

  /**
   * Whether this event is what an entry asked for: the socket was faster than the reply, or the reply got lost.
   * @param {Event} event @param {string|undefined} me the id of who writes here
   * @returns {Entry|null}
   */
  entryOf(event, me) {
    if (event.kind !== "message" || event.sender.id !== me || event.body.edit_of) return null;
    return this.of(event.run_id).find((entry) => event.seq > entry.afterSeq && entry.body.text === event.body.text && (entry.body.mode ?? "steer") === event.body.mode) ?? null;
  }

  /** Send what did not get through: in order, so nothing overtakes what its run has yet to take. */
  retryAll() {
    this.round ??= this.retryRound().finally(() => { this.round = null; });
    return this.round;
  }

  /** @private */
  async retryRound() {
    const waiting = this.mine.filter((entry) => entry.state === "sending" || entry.isTemporary);
    /** @type {Set<string>} */
    const stuck = new Set();
    for (const entry of waiting.sort((a, b) => (a.at < b.at ? -1 : 1))) {
      if (stuck.has(entry.runId)) continue;
      const problem = await this.deliver(entry.key, { isByItself: true });
      if (problem?.isTemporary) stuck.add(entry.runId);
    }
  }

  /** @private */
  retrySoon() {
    if (this.isRetryDue) return;
    this.isRetryDue = true;
    this.later(() => {
      this.isRetryDue = false;
      void this.retryAll();
    }, 500 + this.backoff.next());
  }

  /** @param {string} key */
  remove(key) {
    const entry = this.entries.get(key);
    if (!entry) return;
    this.entries.delete(key);
    this.storage.remove(PREFIX + key);
    this.onChange(entry.runId);
  }

  clear() {
    for (const key of [...this.entries.keys()]) this.remove(key);
  }

  /** @param {Entry} entry */
  keep(entry) {
    this.entries.set(entry.key, entry);
    this.storage.write(PREFIX + entry.key, entry);
    this.onChange(entry.runId);
  }
}
