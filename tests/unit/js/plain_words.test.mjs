import assert from "node:assert/strict";
import { test } from "node:test";
import { plainWords } from "../../../web/static/js/plain-words.js";

test("a table and a code block leave only the words around them", () => {
  assert.equal(plainWords("The plan:\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\nNext **one**.\n```py\nx\n```\nDone."), "The plan: Next one. Done.");
});

test("marks go, names with underscores stay", () => {
  assert.equal(plainWords("# Renamed\n- `calc` is **total_price** now, see [it](https://x.invalid/y_z)"), "Renamed calc is total_price now, see it");
});

test("a block that is cut off in the middle shows nothing of itself", () => {
  assert.equal(plainWords("Diff:\n```diff\n+ a"), "Diff:");
});
