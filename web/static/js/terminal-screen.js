import { FitAddon } from "../vendor/xterm/addon-fit.js";
import { Terminal } from "../vendor/xterm/xterm.js";

/** The key that leaves the terminal: everything else, Tab and Escape too, belongs to the shell. */
export const LEAVE_KEY = "F6";
const THEME = { background: "#15120f", foreground: "#f1eade", cursor: "#f2906f", selectionBackground: "#5b4a33" };

/**
 * xterm.js under our own policy (`style-src 'self'`), which knows neither <style> elements nor style
 * attributes that a script writes down as text. xterm uses both, and takes the document it makes its
 * elements with as an option: this one gives it sheets that are constructed, and sets styles through the
 * CSSOM; the policy allows either. So the dashboard's policy stays as it is.
 *
 * xterm 6.0.0 forgets the option twice. It asks the page's own document for a sheet in `open`
 * (CoreBrowserTerminal.ts: `this._document ?? (…) ? window.document : null` takes the second whatever the first
 * is), which `within` sees to; and its rows are made with that document too (DomRenderer.ts), so the
 * factory of rows is told by hand. tests/browser/test_terminal.py shows that nothing is left.
 */
function strictDocument() {
  /** @type {Set<CSSStyleSheet>} */
  const sheets = new Set();
  const create = Document.prototype.createElement.bind(document);

  function styleElement() {
    const holder = create("span");
    holder.hidden = true;
    const sheet = new CSSStyleSheet();
    sheets.add(sheet);
    document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet];
    Object.defineProperty(holder, "textContent", { set: (text) => sheet.replaceSync(text) });
    return holder;
  }

  /** @param {string} name @param {any} [options] */
  function createElement(name, options) {
    if (name === "style") return styleElement();
    const element = create(name, options);
    element.setAttribute = (attribute, value) => {
      if (attribute === "style") element.style.cssText = value;
      else Element.prototype.setAttribute.call(element, attribute, value);
    };
    return element;
  }

  const made = new Proxy(document, {
    get(target, key) {
      if (key === "createElement") return createElement;
      const value = Reflect.get(target, key, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
  const forget = () => {
    document.adoptedStyleSheets = document.adoptedStyleSheets.filter((sheet) => !sheets.has(sheet));
  };
  /** @param {() => void} work */
  const within = (work) => {
    document.createElement = createElement;
    try {
      work();
    } finally {
      delete (/** @type {any} */ (document).createElement);
    }
  };
  return { made, within, forget };
}

/** The screen of a terminal in an element; `onType`, `onBinary`, `onSize`, `onLeave` tell what its person does, `onAnswer` what it says itself. */
export class TerminalScreen {
  /**
   * @param {HTMLElement} host
   * @param {{onType: (text: string) => void, onAnswer: (text: string) => void, onBinary: (binary: string) => void,
   *   onSize: (cols: number, rows: number) => void, onLeave: () => void}} options
   */
  constructor(host, { onType, onAnswer, onBinary, onSize, onLeave }) {
    const { made, within, forget } = strictDocument();
    this.forget = forget;
    this.terminal = new Terminal({
      documentOverride: made,
      screenReaderMode: true,
      minimumContrastRatio: 4.5,
      cursorBlink: false,
      scrollback: 5_000,
      fontFamily: 'ui-monospace, "SF Mono", "Cascadia Code", Menlo, Consolas, "DejaVu Sans Mono", monospace',
      fontSize: 14,
      theme: THEME,
      // what an agent's files print is no link of ours
      linkHandler: { activate: () => {} },
    });
    this.fit = new FitAddon();
    this.terminal.loadAddon(this.fit);
    within(() => this.terminal.open(host));
    /** @type {any} */ (this.terminal)._core._renderService._renderer.value._rowFactory._document = made;
    this.terminal.attachCustomKeyEventHandler((event) => {
      if (event.key !== LEAVE_KEY || event.ctrlKey || event.altKey || event.metaKey) return true;
      event.preventDefault();
      if (event.type === "keydown") onLeave();
      return false;
    });
    // a key, a paste and a mouse are told to xterm's own parts first; its answers to a program and the focus
    // come as data alone
    let isPersons = false;
    /** @type {any} */ (this.terminal)._core.coreService.onUserInput(() => {
      isPersons = true;
    });
    this.terminal.onData((text) => {
      const tell = isPersons ? onType : onAnswer;
      isPersons = false;
      tell(text);
    });
    this.terminal.onBinary(onBinary);
    this.terminal.onResize(({ cols, rows }) => onSize(cols, rows));
    this.observer = new ResizeObserver(() => this.fit.fit());
    this.observer.observe(host);
    this.fit.fit();
  }

  get cols() {
    return this.terminal.cols;
  }

  get rows() {
    return this.terminal.rows;
  }

  /** @param {Uint8Array} bytes */
  show(bytes) {
    this.terminal.write(bytes);
  }

  focus() {
    this.terminal.focus();
  }

  /** Nothing is typed any more; what was shown can still be read. */
  freeze() {
    this.terminal.options.disableStdin = true;
    this.terminal.options.cursorInactiveStyle = "none";
  }

  dispose() {
    this.observer.disconnect();
    this.terminal.dispose();
    this.forget();
  }
}
