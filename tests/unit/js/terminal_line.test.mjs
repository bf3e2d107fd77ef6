import assert from "node:assert/strict";
import test from "node:test";
import { TerminalLine } from "../../../web/static/js/live/terminal-line.js";

function setUp() {
  const sockets = [];
  class Socket {
    constructor(url) {
      this.url = url;
      this.sent = [];
      this.readyState = 0;
      sockets.push(this);
    }
    send(data) {
      this.sent.push(typeof data === "string" ? JSON.parse(data) : data);
    }
    close() {
      this.closed = true;
    }
    begin() {
      this.readyState = 1;
      this.onopen();
    }
    say(frame) {
      this.onmessage({ data: JSON.stringify(frame) });
    }
    end() {
      this.readyState = 3;
      this.onclose();
    }
  }
  const told = { opened: 0, output: [], ends: [] };
  const line = new TerminalLine("ws://x/terminal", {
    onOpened: () => told.opened++, onOutput: (bytes) => told.output.push([...bytes]), onEnd: (text) => told.ends.push(text), WebSocket: Socket,
  });
  line.open({ reason: "why", cols: 80, rows: 24 });
  line.open({ reason: "again", cols: 80, rows: 24 });
  const [socket] = sockets;
  return { line, socket, sockets, told };
}

test("it asks once, answers pings and hands on what is shown", () => {
  const { line, socket, sockets, told } = setUp();
  assert.equal(sockets.length, 1);
  socket.begin();
  assert.deepEqual(socket.sent, [{ type: "open", reason: "why", cols: 80, rows: 24 }]);
  line.resize(90, 30);
  line.type("too early");
  assert.equal(socket.sent.length, 1);
  socket.say({ type: "opened", id: "trm_1" });
  assert.equal(told.opened, 1);
  socket.say({ type: "ping" });
  line.resize(90, 30);
  assert.deepEqual(socket.sent.slice(1), [{ type: "pong" }, { type: "resize", cols: 90, rows: 30 }]);
  socket.onmessage({ data: Uint8Array.from([195, 188]).buffer });
  assert.deepEqual(told.output, [[195, 188]]);
});

test("what is typed goes as UTF-8 in pieces, a mouse's bytes as they are", () => {
  const { line, socket } = setUp();
  socket.begin();
  socket.say({ type: "opened", id: "trm_1" });
  socket.sent.length = 0;
  line.type("ü");
  line.typeBinary("\x1b\xff");
  line.type("x".repeat(40_000));
  assert.deepEqual([...socket.sent[0]], [195, 188]);
  assert.deepEqual([...socket.sent[1]], [27, 255]);
  assert.deepEqual(socket.sent.slice(2).map((piece) => piece.length), [16_384, 16_384, 7_232]);
});

test("what the screen answers is told apart from what is typed", () => {
  const { line, socket } = setUp();
  socket.begin();
  line.answer("too early");
  socket.say({ type: "opened", id: "trm_1" });
  socket.sent.length = 0;
  line.answer("\x1b[1;1R");
  assert.deepEqual(socket.sent, [{ type: "answer", data: "\x1b[1;1R" }]);
});

test("the end is told once, in the server's words where it has any", () => {
  for (const [frames, words] of [
    [[{ type: "refused", problem: { detail: "One at a time." } }], /^One at a time\.$/],
    [[{ type: "opened", id: "t" }, { type: "closed", end: "idle", text: "It was idle." }], /^It was idle\.$/],
    [[{ type: "opened", id: "t" }], /^The connection was lost/],
    [[], /^No terminal could be opened/],
  ]) {
    const { line, socket, told } = setUp();
    socket.begin();
    for (const frame of frames) socket.say(frame);
    socket.end();
    socket.end();
    assert.equal(told.ends.length, 1);
    assert.match(told.ends[0], words);
    line.type("nobody hears this");
  }
});

test("closing asks the server where it is open, and dropping says nothing more", () => {
  const { line, socket, told } = setUp();
  line.close();
  assert.equal(socket.closed, true);
  const other = setUp();
  other.socket.begin();
  other.socket.say({ type: "opened", id: "t" });
  other.line.close();
  assert.deepEqual(other.socket.sent.at(-1), { type: "close" });
  other.line.drop();
  other.socket.end();
  assert.deepEqual(other.told.ends, []);
  assert.equal(told.opened, 0);
});
