/** @import {SafeStorage} from "./safe-storage.js" */
const PREFIX = "omakase:read:";

/** Up to which `seq` of a run this person has read. */
export class ReadMarks {
  /** @param {SafeStorage} storage */
  constructor(storage) {
    this.storage = storage;
  }

  /** @param {string} runId @returns {number|null} null: never looked at */
  get(runId) {
    const value = this.storage.read(PREFIX + runId);
    return typeof value === "number" ? value : null;
  }

  /** Marks only ever move forward. @param {string} runId @param {number} seq @returns {boolean} whether it moved */
  set(runId, seq) {
    if (seq <= (this.get(runId) ?? -1)) return false;
    this.storage.write(PREFIX + runId, seq);
    return true;
  }

  clear() {
    for (const key of this.storage.keys(PREFIX)) this.storage.remove(key);
  }
}
