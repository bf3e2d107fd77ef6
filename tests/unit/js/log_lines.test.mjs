import assert from "node:assert/strict";
import test from "node:test";
import { plain, segments } from "../../../web/static/js/ansi.js";
import { LogLines } from "../../../web/static/js/store/log-lines.js";
import { event } from "./events.mjs";

const chunk = (seq, first, ...texts) => event(seq, "log", { first_line: first, lines: texts.map((text) => (typeof text === "string" ? { stream: "stdout", text } : text)) });

test("older pages and live chunks come together in order and no chunk is shown twice", () => {
  const log = new LogLines();
  log.apply(chunk(5, 5, "e", "f"), "nori");
  log.apply(chunk(2, 1, "a", "b"), "nori");
  log.apply(chunk(3, 3, "c", "d"), "nori");
  assert.equal(log.apply(chunk(5, 5, "e", "f"), "nori").length, 0);
  assert.deepEqual(log.lines.map((line) => line.text), ["a", "b", "c", "d", "e", "f"]);
  assert.deepEqual(log.lines.map((line) => line.number), [1, 2, 3, 4, 5, 6]);
});

test("lines are found by agent, stream, level and text", () => {
  const log = new LogLines();
  log.apply(chunk(1, 1, "INFO ready", { stream: "stderr", text: "boom" }, "WARNING old name", "total_price"), "nori");
  log.apply({ ...chunk(1, 1, "hello"), run_id: "run_2" }, "miso");
  const texts = (filter) => log.filtered(filter).map((line) => line.text);
  assert.deepEqual(texts({ agents: new Set(["miso"]) }), ["hello"]);
  assert.deepEqual(texts({ level: "stderr" }), ["boom"]);
  assert.deepEqual(texts({ level: "error" }), ["boom"]);
  assert.deepEqual(texts({ level: "warning" }), ["WARNING old name"]);
  assert.deepEqual(texts({ text: "TOTAL_" }), ["total_price"]);
});

test("colours become class names and every other terminal sequence disappears", () => {
  assert.deepEqual(segments("\x1b[1;32mok\x1b[0m done"), [{ text: "ok", classes: "ansi-green ansi-bold" }, { text: " done", classes: "" }]);
  assert.equal(plain("\x1b]0;evil title\x07safe"), "safe");
  assert.equal(plain("\x1b]8;;https://evil.example\x1b\\click\x1b]8;;\x1b\\"), "click");
  assert.equal(plain("a\x1b[2J\x1b[Hb\x1b(Bc\x1b=d"), "abcd");
  assert.equal(plain("user\u202etxt.exe \u200bhidden\u{e0041}"), "usertxt.exe hidden");
  assert.equal(plain("cut off \x1b]0;never ends"), "cut off ");
  assert.deepEqual(segments("\x1b[38;5;196mred\x1b[48;2;1;2;3mish"), [{ text: "red", classes: "" }, { text: "ish", classes: "" }]);
});

test("the lines of a process that came back from hold stand after those of the one before, whatever their numbers", () => {
  const log = new LogLines();
  log.apply(chunk(9, 1, "second a", "second b"), "nori");
  log.apply(chunk(4, 1, "first a", "first b"), "nori");
  assert.deepEqual(log.lines.map((line) => line.text), ["first a", "first b", "second a", "second b"]);
  assert.equal(new Set(log.lines.map((line) => line.key)).size, 4);
});
