/** localStorage that works on in memory where the browser forbids or has filled it. */
export class SafeStorage {
  /** @param {Storage|null} [storage] */
  constructor(storage = globalThis.localStorage ?? null) {
    this.storage = storage;
    /** @type {Map<string, string>} */
    this.memory = new Map();
  }

  /** @param {string} key @returns {any} parsed JSON, or null */
  read(key) {
    try {
      const text = this.memory.get(key) ?? this.storage?.getItem(key) ?? null;
      return text === null ? null : JSON.parse(text);
    } catch {
      return null;
    }
  }

  /** @param {string} key @param {any} value */
  write(key, value) {
    const text = JSON.stringify(value);
    try {
      if (!this.storage) throw new Error("no storage");
      this.storage.setItem(key, text);
      this.memory.delete(key);
    } catch {
      this.memory.set(key, text);
    }
  }

  /** @param {string} key */
  remove(key) {
    this.memory.delete(key);
    try {
      this.storage?.removeItem(key);
    } catch {
      // forbidden: there is nothing stored either
    }
  }

  /** @param {string} prefix @returns {string[]} */
  keys(prefix) {
    const found = new Set([...this.memory.keys()].filter((key) => key.startsWith(prefix)));
    try {
      for (let i = 0; i < (this.storage?.length ?? 0); i++) {
        const key = this.storage?.key(i);
        if (key?.startsWith(prefix)) found.add(key);
      }
    } catch {
      // forbidden
    }
    return [...found].sort();
  }
}
