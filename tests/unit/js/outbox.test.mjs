import assert from "node:assert/strict";
import test from "node:test";
import { Outbox } from "../../../web/static/js/outbox.js";
import { Problem } from "../../../web/static/js/problem.js";
import { Drafts } from "../../../web/static/js/store/drafts.js";
import { ReadMarks } from "../../../web/static/js/store/read-marks.js";
import { SafeStorage } from "../../../web/static/js/store/safe-storage.js";

/** Storage as a browser has it, kept over a "reload". */
class Disk {
  constructor() {
    this.map = new Map();
  }
  get length() {
    return this.map.size;
  }
  key(i) {
    return [...this.map.keys()][i] ?? null;
  }
  getItem(key) {
    return this.map.get(key) ?? null;
  }
  setItem(key, value) {
    this.map.set(key, value);
  }
  removeItem(key) {
    this.map.delete(key);
  }
}

const never = () => {};
const reply = { event: { id: "m1", seq: 1 } };

test("an entry that could not be sent survives a reload and is sent with the same key", async () => {
  const disk = new Disk();
  const keys = [];
  const away = new Outbox({ storage: new SafeStorage(disk), later: never, post: async (_run, _body, key) => { keys.push(key); throw new TypeError("offline"); } });
  const entry = away.add("run_1", { text: "hello" });
  const problem = await away.deliver(entry.key);
  assert.equal(problem.isTemporary, true);
  assert.equal(away.of("run_1")[0].state, "failed");

  const sent = [];
  const back = new Outbox({ storage: new SafeStorage(disk), post: async (_run, body, key) => { keys.push(key); sent.push(body.text); return reply; } });
  assert.equal(back.of("run_1").length, 1);
  await back.retryAll();
  assert.deepEqual(sent, ["hello"]);
  assert.equal(keys[0], keys[1]);
  assert.equal(back.of("run_1").length, 0);
  assert.equal(disk.length, 0);
});

test("what the server could not take is tried again by itself, in order, and shown as one failure until then", async () => {
  let isDown = true;
  const sent = [], shown = [], timers = [];
  const outbox = new Outbox({
    storage: new SafeStorage(new Disk()),
    now: () => new Date(1_000 * sent.length + timers.length),
    later: (act, ms) => timers.push({ act, ms }),
    post: async (_run, body) => { if (isDown) throw new Problem({ status: 503, detail: "Send the same request again." }); sent.push(body.text); return reply; },
    onChange: () => { const [first] = outbox.of("run_1"); if (first) shown.push(`${first.state}: ${first.detail}`); },
  });
  await outbox.deliver(outbox.add("run_1", { text: "one" }).key);
  await outbox.deliver(outbox.add("run_1", { text: "two" }).key);
  assert.equal(timers.length, 1, "one timer for all");
  assert.ok(timers[0].ms >= 500 && timers[0].ms <= 1_500, String(timers[0].ms));
  shown.length = 0;
  timers[0].act();
  await outbox.round;
  assert.equal(timers.length, 2);
  assert.deepEqual(sent, []);
  assert.deepEqual([...new Set(shown)], ["failed: The server cannot take it at the moment."], "nothing flickers, nothing is announced twice");
  isDown = false;
  timers[1].act();
  await Promise.all([outbox.round, outbox.retryAll()]);
  assert.deepEqual(sent, ["one", "two"]);
  assert.equal(outbox.of("run_1").length, 0);
});

test("what one person left is neither shown nor sent when another writes here", async () => {
  const disk = new Disk();
  let me = "usr_anna";
  const sent = [];
  const make = (post) => new Outbox({ storage: new SafeStorage(disk), me: () => me, later: never, post });
  const annas = make(async () => { throw new TypeError("offline"); });
  const { key } = annas.add("run_1", { text: "Anna's words" });
  await annas.deliver(key);
  for (me of [undefined, "usr_ben"]) {
    const bens = make(async (_run, body) => (sent.push(body.text), reply));
    await bens.retryAll();
    await bens.deliver(key);
    assert.deepEqual([bens.of("run_1"), sent], [[], []]);
  }
  me = "usr_anna";
  await make(async (_run, body) => (sent.push(body.text), reply)).retryAll();
  assert.deepEqual(sent, ["Anna's words"]);
});

test("what was written before it was known who writes is theirs once it is, and is sent", async () => {
  let me, isDown = true;
  const sent = [];
  const outbox = new Outbox({ storage: new SafeStorage(new Disk()), me: () => me, later: never, post: async (_run, body) => { if (isDown) throw new TypeError("offline"); sent.push(body.text); return reply; } });
  await outbox.deliver(outbox.add("run_1", { text: "early" }).key);
  me = "usr_anna";
  outbox.adopt();
  assert.equal(outbox.of("run_1").length, 1);
  isDown = false;
  await outbox.retryAll();
  assert.deepEqual(sent, ["early"]);
});

test("a refusal that will stay one is not sent again by itself", async () => {
  let calls = 0;
  const outbox = new Outbox({ storage: new SafeStorage(new Disk()), post: async () => { calls++; throw new Problem({ status: 409, code: "run_ended" }); } });
  const { key } = outbox.add("run_1", { text: "late" });
  await outbox.deliver(key);
  await outbox.retryAll();
  assert.equal(calls, 1);
  assert.equal(outbox.of("run_1")[0].code, "run_ended");
});

test("an entry under way is not sent twice", async () => {
  let calls = 0;
  let finish;
  const outbox = new Outbox({ storage: new SafeStorage(new Disk()), post: () => { calls++; return new Promise((resolve) => { finish = resolve; }); } });
  const { key } = outbox.add("run_1", { text: "once" });
  const first = outbox.deliver(key);
  await outbox.deliver(key);
  finish(reply);
  await first;
  assert.equal(calls, 1);
});

test("an event that the socket brought before the reply is known as the entry's own", () => {
  const outbox = new Outbox({ storage: new SafeStorage(new Disk()), post: async () => reply });
  const entry = outbox.add("run_1", { text: "twice?" }, 7);
  const at = (seq, more = {}) => ({ seq, run_id: "run_1", kind: "message", sender: { id: "usr_1" }, body: { text: "twice?", mode: "steer", edit_of: null }, ...more });
  assert.equal(outbox.entryOf(at(8), "usr_1"), entry);
  assert.equal(outbox.entryOf(at(7), "usr_1"), null, "the same words, said before");
  assert.equal(outbox.entryOf(at(8), "usr_2"), null, "somebody else's");
  assert.equal(outbox.entryOf(at(8, { kind: "question" }), "usr_1"), null);
});

test("an entry that was deleted while it failed does not come back", async () => {
  const outbox = new Outbox({ storage: new SafeStorage(new Disk()), later: never, post: async () => { outbox.remove(entry.key); throw new TypeError("offline"); } });
  const entry = outbox.add("run_1", { text: "gone" });
  await outbox.deliver(entry.key);
  assert.equal(outbox.of("run_1").length, 0);
});

test("without storage everything works on in memory", () => {
  const storage = new SafeStorage(null);
  storage.write("a", { b: 1 });
  assert.deepEqual(storage.read("a"), { b: 1 });
  assert.deepEqual(storage.keys("a"), ["a"]);
  storage.remove("a");
  assert.equal(storage.read("a"), null);
});

test("a draft is kept per run and an empty one leaves nothing behind", () => {
  const disk = new Disk();
  const drafts = new Drafts(new SafeStorage(disk));
  drafts.set("run_1", { text: "half a", mode: "steer", anchor: null, key: null });
  assert.equal(new Drafts(new SafeStorage(disk)).get("run_1").text, "half a");
  assert.equal(drafts.get("run_2").text, "");
  drafts.set("run_1", { text: "", mode: "steer", anchor: null, key: null });
  assert.equal(disk.length, 0);
});

test("a read mark only moves forward", () => {
  const marks = new ReadMarks(new SafeStorage(new Disk()));
  assert.equal(marks.get("run_1"), null);
  assert.equal(marks.set("run_1", 7), true);
  assert.equal(marks.set("run_1", 5), false);
  assert.equal(marks.get("run_1"), 7);
});
