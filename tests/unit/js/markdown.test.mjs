import assert from "node:assert/strict";
import test from "node:test";
import { blocks, safeLink } from "../../../web/static/js/markdown-html.js";

const html = (text, options) => blocks(text, options).map((block) => block.html()).join("");

test("raw HTML is shown as text", () => {
  assert.match(html("<script>alert(1)</script>"), /&lt;script&gt;/);
  assert.doesNotMatch(html("a <img src=x onerror=alert(1)> b"), /<img/);
});

test("an image becomes its words", () => {
  assert.equal(html("![chart](https://evil.example/?q=1)").includes("evil.example"), false);
  assert.match(html("![chart](https://evil.example/?q=1)"), /\[image: chart\]/);
});

test("only http, https and mailto are links, and a link shows its host", () => {
  assert.match(html("[docs](https://docs.example/x)"), /href="https:\/\/docs.example\/x".*\(docs\.example\)/);
  assert.doesNotMatch(html("https://docs.example/x"), /md-host/);
  assert.doesNotMatch(html("[x](javascript:alert(1))"), /<a /);
  assert.equal(safeLink("data:text/html,x"), null);
  assert.equal(safeLink("//evil.example"), null);
});

test("a code block is coloured when it closes and not before", () => {
  const open = "Look:\n\n```python\ndef total_price():";
  assert.doesNotMatch(html(open, { isOpen: true }), /hljs-/);
  assert.match(html(`${open}\n    return 1\n\`\`\`\n`, { isOpen: true }), /hljs-keyword/);
  assert.match(html(open), /hljs-keyword/);
});

test("only the last block changes while a text grows", () => {
  const before = blocks("One.\n\nTwo", { isOpen: true }).map((block) => block.raw.trim());
  const after = blocks("One.\n\nTwo words", { isOpen: true }).map((block) => block.raw.trim());
  assert.deepEqual(before, ["One.", "Two"]);
  assert.deepEqual(after, ["One.", "Two words"]);
});
