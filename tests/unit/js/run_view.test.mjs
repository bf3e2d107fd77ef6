import assert from "node:assert/strict";
import test from "node:test";
import { RunView } from "../../../web/static/js/store/run-view.js";
import { rows } from "../../../web/static/js/store/transcript.js";
import { ANNA, NORI, event, seeded, shuffled } from "./events.mjs";

const STORY = [
  event(1, "status", { status: "queued", previous: null }),
  event(2, "status", { status: "working", previous: "queued", phase: "coding" }),
  event(3, "message", { text: "use decimals", mode: "steer", version: 1 }, ANNA, "m1"),
  event(4, "receipt", { state: "stored", ids: ["m1"] }),
  event(5, "message", { text: "use Decimal, please", mode: "queue", edit_of: "m1", version: 2 }, ANNA, "m1e"),
  event(6, "receipt", { state: "leased", ids: ["m1"], attempt: 1 }),
  event(7, "receipt", { state: "in_context", ids: ["m1"], step: 5, sha256: "a".repeat(64) }),
  event(8, "step", { step: 5, name: "Edit", state: "started" }),
  event(9, "step", { step: 5, name: "Edit", state: "finished", ok: true, duration_ms: 900 }),
  event(10, "question", { text: "Which name?", options: [{ value: "a", label: "A" }], allow_text: true, handle: "h" }, NORI, "q1"),
  event(11, "answer", { question_id: "q1", outcome: "answered", value: "a" }, ANNA),
  event(12, "message", { text: "Done.", mode: "steer" }, NORI, "m2"),
  event(13, "order", { action: "pause" }, ANNA),
  event(14, "status", { status: "paused", previous: "working" }),
];

const summary = (view) => ({
  status: view.status, phase: view.phase, held: view.held, head: view.head,
  step: view.lastStep?.seq, said: view.lastSaid?.seq, open: [...view.openQuestions],
  first: view.message(view.byId.get("m1")), rows: rows(view.ordered).map((row) => row.key),
});

test("a message knows every nudge for its sake, in whatever order they came", () => {
  const nudges = [
    event(20, "notice", { about: "nudge", text: "AWS has no connection.", ids: ["m1", "m9"], failure: "not_connected", duration_ms: 90, task_id: "t1" }),
    event(21, "notice", { about: "nudge", text: "The agent's side was told to look.", ids: ["m1"], duration_ms: 1200, task_id: "t2" }),
    event(22, "notice", { about: "moved", text: "It goes on.", ids: ["m1"] }),
  ];
  for (const order of [nudges, [...nudges].reverse()]) {
    const view = new RunView("run_1");
    STORY.forEach((e) => view.apply(e));
    [...order, ...order].forEach((e) => view.apply(e));
    assert.deepEqual(view.message(view.byId.get("m1")).nudges.map((e) => e.body.task_id), ["t1", "t2"]);
    assert.equal(view.message(view.byId.get("m1")).state, "in_context", "a nudge moves nothing");
    assert.deepEqual(view.message(view.byId.get("m2")).nudges, []);
  }
});

test("a message ends with its newest text and its newest receipt", () => {
  const view = new RunView("run_1");
  STORY.forEach((e) => view.apply(e));
  const message = view.message(view.byId.get("m1"));
  assert.equal(message.text, "use Decimal, please");
  assert.equal(message.mode, "queue");
  assert.equal(message.version, 2);
  assert.equal(message.state, "in_context");
  assert.equal(message.receipt.step, 5);
  assert.deepEqual(Object.keys(message.receipt.times), ["stored", "leased", "in_context"]);
});

test("the same events in any order and any number of times give the same view", () => {
  const straight = new RunView("run_1");
  STORY.forEach((e) => straight.apply(e));
  for (let seed = 1; seed <= 200; seed++) {
    const view = new RunView("run_1");
    const random = seeded(seed);
    for (const e of shuffled([...STORY, ...STORY.filter(() => random() < 0.5)], random)) view.apply(e);
    assert.deepEqual(summary(view), summary(straight), `seed ${seed}`);
  }
});

test("state fetched before and the events caused give the state fetched after", () => {
  for (let cut = 0; cut <= STORY.length; cut++) {
    const view = new RunView("run_1");
    STORY.slice(0, cut).forEach((e) => view.apply(e));
    STORY.slice(Math.max(0, cut - 3)).forEach((e) => view.apply(e));
    const whole = new RunView("run_1");
    STORY.forEach((e) => whole.apply(e));
    assert.deepEqual(summary(view), summary(whole), `cut at ${cut}`);
  }
});

test("steps that follow one another are one group, and a step's start and end one line", () => {
  const view = new RunView("run_1");
  STORY.forEach((e) => view.apply(e));
  const group = rows(view.ordered).find((row) => row.type === "steps");
  assert.equal(group.steps.length, 1);
  assert.equal(group.steps[0].finished.seq, 9);
});

test("a step is one line where it started, whatever is said before it ends; one whose process ended does not run on", () => {
  const step = (seq, number, name, state) => event(seq, "step", { step: number, name, state, ok: true });
  const talk = [
    step(1, 1, "run tests", "started"), event(2, "message", { text: "look at this" }), step(3, 1, "run tests", "finished"),
    step(4, 2, "edit", "started"), event(5, "status", { status: "suspended", previous: "paused" }),
    step(6, 2, "edit", "started"), step(7, 2, "edit", "finished"),
  ];
  const groups = rows(talk).filter((row) => row.type === "steps");
  assert.deepEqual(
    groups.map((group) => group.steps.map((line) => [line.started?.seq, line.finished?.seq, line.isCut])),
    [[[1, 3, false]], [[4, undefined, true]], [[6, 7, false]]],
  );
});

test("an answer that arrives before its question leaves the question closed", () => {
  const view = new RunView("run_1");
  view.apply(STORY[10]);
  view.apply(STORY[9]);
  assert.equal(view.openQuestions.size, 0);
  assert.equal(view.answers.get("q1").body.value, "a");
});

test("an open text ends when its message comes, and a late piece of it changes nothing", () => {
  const view = new RunView("run_1");
  assert.equal(view.applyDelta("m9", 0, "Hel"), true);
  assert.equal(view.applyDelta("m9", 0, "Hello"), true);
  assert.deepEqual(view.openTexts, [{ id: "m9", text: "Hello" }]);
  view.apply(event(20, "message", { text: "Hello there" }, NORI, "m9"));
  assert.equal(view.applyDelta("m9", 5, " there"), true);
  assert.deepEqual(view.openTexts, []);
});

test("a piece beyond the end of what is here asks for the text again", () => {
  const view = new RunView("run_1");
  view.applyDelta("m9", 0, "abc");
  assert.equal(view.applyDelta("m9", 5, "fg"), false);
  view.applySnapshot({ epoch: "e1", head: 0, stored: 0, status: "working", phase: null, held: false, items: [], questions: [], open_texts: [{ message_id: "m9", text: "abcdefg", units: 7 }], step: null });
  assert.deepEqual(view.openTexts, [{ id: "m9", text: "abcdefg" }]);
});

test("a snapshot brings questions and receipts that the newest page does not hold", () => {
  const view = new RunView("run_1");
  view.apply(STORY[2]);
  view.applySnapshot({ epoch: "e1", head: 30, stored: 30, status: "waiting", phase: null, held: true, items: [{ id: "m1", seq: 3, kind: "message", mode: "steer", state: "leased", attempt: 2, version: 1 }], questions: [STORY[9]], open_texts: [], step: STORY[7] });
  assert.equal(view.status, "waiting");
  assert.equal(view.held, true);
  assert.deepEqual([...view.openQuestions], ["q1"]);
  assert.equal(view.message(view.byId.get("m1")).state, "leased");
});

test("unread counts what the agent said after the mark, and not what a person wrote", () => {
  const view = new RunView("run_1");
  STORY.forEach((e) => view.apply(e));
  assert.equal(view.unreadAfter(0), 2);
  assert.equal(view.unreadAfter(10), 1);
  assert.equal(view.unreadAfter(12), 0);
});
