/** @import {SafeStorage} from "./safe-storage.js" */
const PREFIX = "omakase:draft:";

/** What somebody has begun to write to a run, kept across reloads. */
export class Drafts {
  /** @param {SafeStorage} storage */
  constructor(storage) {
    this.storage = storage;
  }

  /** @param {string} runId @returns {{text: string, mode: string, anchor: any, key: string|null}} `key`: it is in the outbox under that key */
  get(runId) {
    return { text: "", mode: "steer", anchor: null, key: null, ...(this.storage.read(PREFIX + runId) ?? {}) };
  }

  /** @param {string} runId @param {{text: string, mode: string, anchor: any, key: string|null}} draft */
  set(runId, draft) {
    if (!draft.text && !draft.anchor && draft.mode === "steer") this.storage.remove(PREFIX + runId);
    else this.storage.write(PREFIX + runId, draft);
  }

  /** Somebody else signs in here: nothing of the last person may stay. */
  clear() {
    for (const key of this.storage.keys(PREFIX)) this.storage.remove(key);
  }
}
