/** How long to wait before the next attempt: full jitter over an exponential ceiling. */
export class Backoff {
  /** @param {{baseMs?: number, maxMs?: number, random?: () => number}} [options] */
  constructor({ baseMs = 250, maxMs = 15_000, random = Math.random } = {}) {
    this.baseMs = baseMs;
    this.maxMs = maxMs;
    this.random = random;
    this.attempt = 0;
  }

  /** Milliseconds until the next attempt, and counts it. */
  next() {
    const ceiling = Math.min(this.maxMs, this.baseMs * 2 ** Math.min(this.attempt, 16));
    this.attempt++;
    return Math.round(this.random() * ceiling);
  }

  reset() {
    this.attempt = 0;
  }
}
