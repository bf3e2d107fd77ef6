import { Backoff } from "./backoff.js";
import { reconnectAfter } from "./close-codes.js";
import { Watchdog } from "./watchdog.js";

/** The server pings every `heartbeat_ms`; this much later than that, silence means the socket is dead. */
const GRACE_MS = 4_000;
const HELLO_MS = 8_000;

/**
 * One WebSocket that is kept up: `connecting → connected`, back to `connecting` whenever it is lost,
 * `disconnected` when it was closed on purpose or may not come back.
 *
 * Calls `onFrame(frame)` for every frame but hello and ping, and `onState(state, why)` on each move.
 */
export class Connection {
  /**
   * @param {string} url ws:// or wss://
   * @param {{onFrame: (frame: any) => void, onState: (state: string, why?: string) => void,
   *   WebSocket?: typeof WebSocket, backoff?: Backoff, setTimeout?: typeof setTimeout, clearTimeout?: typeof clearTimeout}} options
   */
  constructor(url, options) {
    this.url = url;
    this.onFrame = options.onFrame;
    this.onState = options.onState;
    this.WebSocket = options.WebSocket ?? globalThis.WebSocket;
    this.backoff = options.backoff ?? new Backoff();
    this.setTimeout = options.setTimeout ?? ((...args) => setTimeout(...args));
    this.clearTimeout = options.clearTimeout ?? ((id) => clearTimeout(id));
    this.watchdog = new Watchdog(() => this.lost("silent"), { set: this.setTimeout, clear: this.clearTimeout });
    /** @type {"disconnected"|"connecting"|"connected"} */
    this.state = "disconnected";
    /** @type {WebSocket|null} */
    this.socket = null;
    this.heartbeatMs = 15_000;
    /** @type {any} */
    this.timer = null;
  }

  open() {
    if (this.state !== "disconnected") return;
    this.move("connecting");
    this.dial();
  }

  close() {
    this.drop();
    this.move("disconnected", "closed");
  }

  /** Try at once instead of waiting out the back-off (the network came back, the tab is looked at). */
  hurry() {
    if (this.state !== "connecting" || this.socket) return;
    this.backoff.reset();
    this.dial();
  }

  /** What was said is not heard any more: give this socket up and dial anew. @param {string} why */
  lost(why) {
    if (this.state === "disconnected") return;
    this.drop();
    this.move("connecting", why);
    this.schedule(this.backoff.next());
  }

  /** @param {any} frame @returns {boolean} whether it was handed to the socket */
  send(frame) {
    if (this.state !== "connected" || this.socket?.readyState !== 1) return false;
    this.socket.send(JSON.stringify(frame));
    return true;
  }

  dial() {
    this.clearTimeout(this.timer);
    this.timer = null;
    let socket;
    try {
      socket = new this.WebSocket(this.url);
    } catch {
      this.schedule(this.backoff.next());
      return;
    }
    this.socket = socket;
    this.watchdog.feed(HELLO_MS);
    socket.onmessage = (message) => {
      if (socket === this.socket) this.heard(String(message.data));
    };
    socket.onclose = (event) => {
      if (socket === this.socket) this.closed(event.code);
    };
    socket.onerror = () => {};
  }

  /** @param {string} data */
  heard(data) {
    this.watchdog.feed(this.heartbeatMs + GRACE_MS);
    let frame;
    try {
      frame = JSON.parse(data);
    } catch {
      return;
    }
    if (frame.type === "hello") {
      this.heartbeatMs = frame.heartbeat_ms || this.heartbeatMs;
      this.watchdog.feed(this.heartbeatMs + GRACE_MS);
      this.backoff.reset();
      this.move("connected");
    } else if (frame.type === "ping") {
      this.send({ type: "pong" });
    } else {
      this.onFrame(frame);
    }
  }

  /** @param {number} code */
  closed(code) {
    const when = reconnectAfter(code);
    this.drop();
    if (when === "sign-in" || when === "never") {
      this.move("disconnected", when);
      return;
    }
    this.move("connecting", `closed ${code}`);
    if (when === "now") this.schedule(0);
    else this.schedule(this.backoff.next() + (when === "slowly" ? 5_000 : 0));
  }

  /** @param {number} ms */
  schedule(ms) {
    this.clearTimeout(this.timer);
    this.timer = this.setTimeout(() => this.dial(), ms);
  }

  drop() {
    this.watchdog.stop();
    this.clearTimeout(this.timer);
    this.timer = null;
    const socket = this.socket;
    this.socket = null;
    if (socket && socket.readyState <= 1) socket.close(1000);
  }

  /** @param {"disconnected"|"connecting"|"connected"} state @param {string} [why] */
  move(state, why) {
    if (state === this.state) return;
    this.state = state;
    this.onState(state, why);
  }
}
