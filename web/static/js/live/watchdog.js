/** Barks once when nothing was heard for a time; a browser that is offline keeps its socket `open` and silent. */
export class Watchdog {
  /** @param {() => void} bark @param {{set?: typeof setTimeout, clear?: typeof clearTimeout}} [timers] */
  constructor(bark, { set = (...args) => setTimeout(...args), clear = (id) => clearTimeout(id) } = {}) {
    this.bark = bark;
    this.set = set;
    this.clear = clear;
    /** @type {any} */
    this.timer = null;
  }

  /** Something was heard: wait `ms` from now. @param {number} ms */
  feed(ms) {
    this.stop();
    this.timer = this.set(() => {
      this.timer = null;
      this.bark();
    }, ms);
  }

  stop() {
    if (this.timer !== null) this.clear(this.timer);
    this.timer = null;
  }
}
