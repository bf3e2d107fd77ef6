import assert from "node:assert/strict";
import test from "node:test";
import { StreamingText } from "../../../web/static/js/store/streaming-text.js";
import { seeded } from "./events.mjs";

test("overlapping and repeated pieces at absolute offsets give the text once", () => {
  const whole = "Grüße 🍣 and `total_price`, in UTF-16 units: 🍱🍵.";
  for (let seed = 1; seed <= 200; seed++) {
    const random = seeded(seed);
    const stream = new StreamingText();
    while (stream.text.length < whole.length) {
      const offset = Math.floor(random() * (stream.text.length + 1));
      stream.apply(offset, whole.slice(offset, offset + 1 + Math.floor(random() * 12)));
    }
    assert.equal(stream.text, whole);
    assert.equal(stream.hasHole, false);
  }
});

test("a piece that begins beyond the end is refused and marks a hole", () => {
  const stream = new StreamingText();
  stream.apply(0, "ab");
  assert.equal(stream.apply(4, "ef"), false);
  assert.equal(stream.text, "ab");
  assert.equal(stream.hasHole, true);
});

test("a snapshot fills a hole and never takes text back", () => {
  const stream = new StreamingText();
  stream.apply(0, "abcdef");
  stream.replace("abc");
  assert.equal(stream.text, "abcdef");
  stream.replace("abcdefgh");
  assert.equal(stream.text, "abcdefgh");
});
