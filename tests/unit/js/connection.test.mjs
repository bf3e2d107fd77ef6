import assert from "node:assert/strict";
import test from "node:test";
import { Backoff } from "../../../web/static/js/live/backoff.js";
import { Connection } from "../../../web/static/js/live/connection.js";

/** A clock that moves by hand. */
class Timers {
  constructor() {
    this.now = 0;
    this.due = [];
    this.set = (fn, ms) => {
      const timer = { at: this.now + ms, fn };
      this.due.push(timer);
      return timer;
    };
    this.clear = (timer) => {
      this.due = this.due.filter((known) => known !== timer);
    };
  }
  advance(ms) {
    const end = this.now + ms;
    for (;;) {
      const next = this.due.filter((timer) => timer.at <= end).sort((a, b) => a.at - b.at)[0];
      if (!next) break;
      this.clear(next);
      this.now = next.at;
      next.fn();
    }
    this.now = end;
  }
}

function setUp() {
  const timers = new Timers();
  const sockets = [];
  class Socket {
    constructor(url) {
      this.url = url;
      this.sent = [];
      this.readyState = 0;
      sockets.push(this);
    }
    send(text) {
      this.sent.push(JSON.parse(text));
    }
    close() {
      this.readyState = 3;
    }
    say(frame) {
      this.readyState = 1;
      this.onmessage({ data: JSON.stringify(frame) });
    }
  }
  const states = [];
  const frames = [];
  const connection = new Connection("ws://x/api/live", {
    onFrame: (frame) => frames.push(frame), onState: (state, why) => states.push([state, why]),
    WebSocket: Socket, setTimeout: timers.set, clearTimeout: timers.clear, backoff: new Backoff({ random: () => 1 }),
  });
  return { timers, sockets, states, frames, connection };
}

test("it is connected only after the server said hello", () => {
  const { connection, sockets, states } = setUp();
  connection.open();
  assert.equal(connection.send({ type: "typing" }), false);
  sockets[0].say({ type: "hello", heartbeat_ms: 1000 });
  assert.deepEqual(states.map(([state]) => state), ["connecting", "connected"]);
  assert.equal(connection.send({ type: "typing" }), true);
});

test("a ping is answered and not handed on", () => {
  const { connection, sockets, frames } = setUp();
  connection.open();
  sockets[0].say({ type: "hello", heartbeat_ms: 1000 });
  sockets[0].say({ type: "ping" });
  assert.deepEqual(sockets[0].sent, [{ type: "pong" }]);
  assert.deepEqual(frames, []);
});

test("a socket that stays open and silent is given up and dialled anew", () => {
  const { connection, sockets, timers, states } = setUp();
  connection.open();
  sockets[0].say({ type: "hello", heartbeat_ms: 1000 });
  timers.advance(4_999);
  assert.equal(sockets.length, 1);
  timers.advance(1 + 250);
  assert.equal(sockets.length, 2);
  assert.deepEqual(states.at(-1), ["connecting", "silent"]);
  sockets[0].say({ type: "event", run_id: "r" });
  assert.equal(connection.state, "connecting");
});

test("a slow reader comes back at once, an overloaded server is left alone for seconds", () => {
  const { connection, sockets, timers } = setUp();
  connection.open();
  sockets[0].say({ type: "hello", heartbeat_ms: 15000 });
  sockets[0].onclose({ code: 4000 });
  timers.advance(0);
  assert.equal(sockets.length, 2);
  sockets[1].say({ type: "hello", heartbeat_ms: 15000 });
  sockets[1].onclose({ code: 1013 });
  timers.advance(4_999);
  assert.equal(sockets.length, 2);
  timers.advance(1_000);
  assert.equal(sockets.length, 3);
});

test("signed out means no more attempts", () => {
  const { connection, sockets, timers, states } = setUp();
  connection.open();
  sockets[0].onclose({ code: 4401 });
  timers.advance(120_000);
  assert.equal(sockets.length, 1);
  assert.deepEqual(states.at(-1), ["disconnected", "sign-in"]);
});

test("the back-off's ceiling doubles to its maximum and its jitter is full", () => {
  const highest = new Backoff({ baseMs: 100, maxMs: 1000, random: () => 1 });
  assert.deepEqual([1, 2, 3, 4, 5, 6].map(() => highest.next()), [100, 200, 400, 800, 1000, 1000]);
  highest.reset();
  assert.equal(highest.next(), 100);
  assert.equal(new Backoff({ random: () => 0 }).next(), 0);
});
