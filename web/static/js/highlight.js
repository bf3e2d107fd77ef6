import hljs from "../vendor/highlight/core.js";
import bash from "../vendor/highlight/languages/bash.js";
import css from "../vendor/highlight/languages/css.js";
import diff from "../vendor/highlight/languages/diff.js";
import go from "../vendor/highlight/languages/go.js";
import javascript from "../vendor/highlight/languages/javascript.js";
import json from "../vendor/highlight/languages/json.js";
import python from "../vendor/highlight/languages/python.js";
import rust from "../vendor/highlight/languages/rust.js";
import sql from "../vendor/highlight/languages/sql.js";
import typescript from "../vendor/highlight/languages/typescript.js";
import xml from "../vendor/highlight/languages/xml.js";
import yaml from "../vendor/highlight/languages/yaml.js";

const languages = { bash, css, diff, go, javascript, json, python, rust, sql, typescript, xml, yaml };
for (const [name, language] of Object.entries(languages)) hljs.registerLanguage(name, language);

/** Colouring a very long block costs more than it is worth. */
const MAX_CHARACTERS = 40_000;

/** @param {string} code @param {string} language @returns {string|null} HTML, or null when it is left plain */
export function highlight(code, language) {
  if (!hljs.getLanguage(language) || code.length > MAX_CHARACTERS) return null;
  return hljs.highlight(code, { language, ignoreIllegals: true }).value;
}
