/** Tells its listeners that something changed, at most once a frame however often it is told. */
export class Signal {
  /** @param {(callback: () => void) => void} [schedule] */
  constructor(schedule = nextFrame) {
    this.schedule = schedule;
    /** @type {Set<() => void>} */
    this.listeners = new Set();
    this.isDue = false;
  }

  /** @param {() => void} listener @returns {() => void} unsubscribes */
  subscribe(listener) {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  notify() {
    if (this.isDue) return;
    this.isDue = true;
    this.schedule(() => {
      this.isDue = false;
      for (const listener of [...this.listeners]) listener();
    });
  }
}

/** @param {() => void} callback */
function nextFrame(callback) {
  // A hidden tab gets no frames, but its title still has to count.
  if (document.visibilityState === "hidden") setTimeout(callback, 200);
  else requestAnimationFrame(callback);
}
