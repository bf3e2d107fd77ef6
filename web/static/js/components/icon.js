import { html, svg } from "../../vendor/lit/index.js";

const PATHS = {
  chat: svg`<path d="M4 5.500h16v10.500H11l-4.500 4V16H4z"/>`,
  stop: svg`<rect x="6" y="6" width="12" height="12" rx="1.500"/>`,
  pause: svg`<path d="M9 6v12M15 6v12"/>`,
  hold: svg`<path d="M19 14.500A7.500 7.500 0 0 1 9.500 5a7.500 7.500 0 1 0 9.500 9.500z"/>`,
  play: svg`<path d="M8 5.500v13l10.500-6.500z"/>`,
  plug: svg`<path d="M9 3v5M15 3v5M6.500 8h11v3.500a5.500 5.500 0 0 1-11 0zM12 17v4"/>`,
  close: svg`<path d="M6 6l12 12M18 6L6 18"/>`,
  send: svg`<path d="M5 12h13M12.500 6l6 6-6 6"/>`,
  check: svg`<path d="M5 12.500l4.500 4.500L19 7.500"/>`,
  cross: svg`<path d="M7 7l10 10M17 7L7 17"/>`,
  down: svg`<path d="M12 5v13M6 12.500l6 6 6-6"/>`,
  wrap: svg`<path d="M4 6h16M4 12h13a3.500 3.500 0 0 1 0 7h-4M15.500 16.500L13 19l2.500 2.500M4 18h4"/>`,
  download: svg`<path d="M12 4v11M7 10.500l5 5 5-5M5 20h14"/>`,
  quote: svg`<path d="M5 17c2.500-.5 4-2.500 4-5H5V6h5.500v6M14 17c2.500-.5 4-2.500 4-5h-4V6h5.500v6"/>`,
  sun: svg`<circle cx="12" cy="12" r="4"/><path d="M12 3v2M12 19v2M3 12h2M19 12h2M5.600 5.600L7 7M17 17l1.400 1.400M5.600 18.400L7 17M17 7l1.400-1.400"/>`,
  help: svg`<path d="M9 9.500a3 3 0 1 1 4.500 2.600c-1 .6-1.500 1.200-1.500 2.400M12 18v.2"/>`,
  edit: svg`<path d="M5 19l1-4L16 5l3 3L9 18z"/>`,
  copy: svg`<rect x="8" y="8" width="11" height="12" rx="1.500"/><path d="M16 8V4.500H5V16h3"/>`,
  again: svg`<path d="M5 12a7 7 0 1 1 2.200 5.100M5 19v-4.500h4.500"/>`,
  skip: svg`<path d="M5 6.500l7 5.500-7 5.500zM12 6.500l7 5.500-7 5.500zM20 6v12"/>`,
  after: svg`<path d="M4 6h7M4 12h7M4 18h7M15 6v9M12 12.500l3 3.500 3-3.500"/>`,
  terminal: svg`<path d="M5 7l5 5-5 5M12 18h7"/>`,
  plus: svg`<path d="M12 5v14M5 12h14"/>`,
};

/** A drawn sign that says nothing by itself: the words stand beside it or in the label. @param {keyof typeof PATHS} name */
export function icon(name) {
  return html`<svg class="icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false">${PATHS[name]}</svg>`;
}
