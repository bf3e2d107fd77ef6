import assert from "node:assert/strict";
import { test } from "node:test";
import { costWords } from "../../../web/static/js/cost-words.js";

const NOON = Date.parse("2026-11-22T12:00:00.000Z");
const cost = { currency: "$", per_hour: 0.05826, so_far: 1.2 };
const paused = { status: "paused", since: "2026-11-22T11:48:00.000Z", hold_at: "2026-11-22T12:48:00.000Z", cost };

test("a paused task says for how long, what an hour costs, and when it goes on hold", () => {
  assert.equal(costWords(paused, NOON), "paused for 12 min, 0.06 $ an hour, 1.20 $ so far; goes on hold in 48 min");
  assert.equal(costWords({ ...paused, status: "waiting", hold_at: null }, NOON), "waiting for 12 min, 0.06 $ an hour, 1.20 $ so far");
});

test("when the hour has passed and it is not on hold, nobody claims that it goes on hold now", () => {
  assert.equal(costWords(paused, NOON + 3_600_000), "paused for 1 h 12 min, 0.06 $ an hour, 1.20 $ so far");
  assert.equal(costWords({ ...paused, cost: null }, NOON + 3_600_000), "paused for 1 h 12 min");
});

test("the sum goes on from when it was fetched, as long as it costs money", () => {
  const working = { status: "working", since: null, hold_at: null, cost, fetched_at: NOON };
  const later = NOON + 2 * 3_600_000;
  assert.equal(costWords(working, later), "0.06 $ an hour, 1.32 $ so far");
  assert.equal(costWords(working, later, "paused"), "0.06 $ an hour, 1.32 $ so far");
  assert.equal(costWords(working, NOON - 60_000), "0.06 $ an hour, 1.20 $ so far");
  for (const status of ["queued", "starting"]) assert.match(costWords({ ...working, status }, later), /1\.20 \$ so far/);
  for (const status of ["suspended", "completed", "failed", "stopped"]) {
    assert.match(costWords({ ...working, status }, later), /1\.20 \$ so far/);
    assert.match(costWords(working, later, status), /1\.20 \$ so far/);
    assert.match(costWords({ ...working, status }, later, "working"), /1\.20 \$ so far/);
  }
});

test("a status that came after the list of runs has no times of the one before", () => {
  assert.equal(costWords({ ...paused, fetched_at: NOON }, NOON, "working"), "0.06 $ an hour, 1.20 $ so far");
  assert.equal(costWords(paused, NOON, "suspended"), "costs nothing, 1.20 $ so far");
});

test("a process of this machine costs nothing, and says only when it goes on hold", () => {
  assert.equal(costWords({ ...paused, cost: null }, NOON), "paused for 12 min; goes on hold in 48 min");
  assert.equal(costWords({ ...paused, cost: null, hold_at: null }, NOON), "");
});

test("on hold nothing is paid any more", () => {
  const held = { status: "suspended", since: "2026-11-22T09:55:00.000Z", hold_at: null, cost };
  assert.equal(costWords(held, NOON), "on hold for 2 h 05 min, costs nothing, 1.20 $ so far");
  assert.equal(costWords({ ...held, cost: null, since: "2026-11-18T12:00:00.000Z" }, NOON), "on hold for 4 days");
});

test("at work it is the hour and the sum, at the end the sum", () => {
  const working = { status: "working", since: null, hold_at: null, cost };
  assert.equal(costWords(working, NOON), "0.06 $ an hour, 1.20 $ so far");
  assert.equal(costWords({ ...working, status: "completed" }, NOON), "1.20 $ so far");
  assert.equal(costWords({ ...working, cost: { ...cost, per_hour: 0.0049 } }, NOON), "0.0049 $ an hour, 1.20 $ so far");
  assert.equal(costWords({ status: "working", since: null, hold_at: null, cost: null }, NOON), "");
});
