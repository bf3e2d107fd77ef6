/** Bytes of one frame: a paste goes in pieces, and the server takes them as fast as the container does. */
const PIECE_BYTES = 16_384;

/**
 * The WebSocket of one terminal, opened once and never again: `opening → open → ended`.
 *
 * `onOpened()` once; `onOutput(bytes)` for what is to be shown; `onEnd(text)` once, with why, in words.
 */
export class TerminalLine {
  /**
   * @param {string} url ws:// or wss://
   * @param {{onOpened: () => void, onOutput: (bytes: Uint8Array) => void, onEnd: (text: string) => void,
   *   WebSocket?: typeof WebSocket}} options
   */
  constructor(url, options) {
    this.url = url;
    this.options = options;
    this.WebSocket = options.WebSocket ?? globalThis.WebSocket;
    /** @type {"new"|"opening"|"open"|"ended"} */
    this.state = "new";
    this.words = "";
    this.encoder = new TextEncoder();
    /** @type {WebSocket|null} */
    this.socket = null;
  }

  /** @param {{reason: string, cols: number, rows: number}} wish */
  open(wish) {
    if (this.state !== "new") return;
    this.state = "opening";
    const socket = new this.WebSocket(this.url);
    this.socket = socket;
    socket.binaryType = "arraybuffer";
    socket.onopen = () => this.say({ type: "open", ...wish });
    socket.onmessage = ({ data }) => (typeof data === "string" ? this.heard(JSON.parse(data)) : this.options.onOutput(new Uint8Array(data)));
    // a refused handshake does not say why
    socket.onclose = () => this.ended(this.words || (this.state === "open" ? "The connection was lost, and the terminal is closed." : "No terminal could be opened: you may not open one here (any more), or the server cannot be reached."));
  }

  /** @param {any} frame */
  heard(frame) {
    if (frame.type === "ping") this.say({ type: "pong" });
    else if (frame.type === "opened") {
      this.state = "open";
      this.options.onOpened();
    } else if (frame.type === "refused") this.words = frame.problem.detail;
    else if (frame.type === "closed") this.words = frame.text;
  }

  /** What was typed. @param {string} text */
  type(text) {
    this.send(this.encoder.encode(text));
  }

  /** What the screen answers a program, and nobody typed. @param {string} data */
  answer(data) {
    if (this.state === "open") this.say({ type: "answer", data });
  }

  /** Bytes as a string of one character each, as some mouse reports are. @param {string} binary */
  typeBinary(binary) {
    this.send(Uint8Array.from(binary, (character) => character.charCodeAt(0)));
  }

  /** @param {number} cols @param {number} rows */
  resize(cols, rows) {
    if (this.state === "open") this.say({ type: "resize", cols, rows });
  }

  /** End the terminal; `onEnd` follows when the server has said so, or the page need not wait. */
  close() {
    if (this.state === "ended") return;
    if (this.state === "open") this.say({ type: "close" });
    else this.socket?.close();
  }

  /** Let go of it at once. */
  drop() {
    this.state = "ended";
    this.socket?.close();
  }

  /** @param {string} text */
  ended(text) {
    if (this.state === "ended") return;
    this.state = "ended";
    this.options.onEnd(text);
  }

  /** @param {Uint8Array} bytes */
  send(bytes) {
    if (this.state !== "open") return;
    for (let at = 0; at < bytes.length; at += PIECE_BYTES) this.socket?.send(bytes.slice(at, at + PIECE_BYTES));
  }

  /** @param {any} frame */
  say(frame) {
    if (this.socket?.readyState === 1) this.socket.send(JSON.stringify(frame));
  }
}
