import { html } from "../../vendor/lit/index.js";
import { repeat } from "../../vendor/lit/directives/repeat.js";
import { ProjectState } from "../live/project-state.js";
import { SharedClient } from "../live/shared-client.js";
import { Problem } from "../problem.js";
import { PipelineNews } from "../store/pipeline-line.js";
import { SafeStorage } from "../store/safe-storage.js";
import { cardState } from "./agent-card.js";
import { icon } from "./icon.js";
import { LightElement } from "./light-element.js";
import "./help-dialog.js";
import "./project-list.js";
import "./project-page.js";

/** How long something stands in the status line at least. */
const SAID_MS = 1_500;

/** @param {string} path @returns {{page: "projects"|"mission"|"logs"|"lost", projectId: string}} */
export function route(path) {
  if (path === "/" || path === "/projects") return { page: "projects", projectId: "" };
  const found = /^\/projects\/([^/]+)(\/logs)?\/?$/.exec(path);
  if (!found) return { page: "lost", projectId: "" };
  return { page: found[2] ? "logs" : "mission", projectId: decodeURIComponent(found[1]) };
}

/** The frame of every page: where we are, who is signed in, whether we are connected, and the address. */
export class OmakaseApp extends LightElement {
  constructor() {
    super();
    this.client = SharedClient.of();
    this.storage = new SafeStorage();
    /** @type {ProjectState|null} */
    this.state = null;
    this.spoken = "";
    /** @type {string[]} what is still to be said */
    this.toSay = [];
    /** @type {any} */
    this.saying = null;
    /** @type {Set<string>} questions already told */
    this.told = new Set();
    this.news = new PipelineNews();
    /** Why signing out did not (quite) work. */
    this.notSignedOut = "";
    this.addEventListener("select-run", (event) => this.selectRun(/** @type {CustomEvent} */ (event).detail.runId));
    this.addEventListener("navigate", (event) => this.go(/** @type {CustomEvent} */ (event).detail.href));
    this.addEventListener("click", (event) => this.clicked(event));
  }

  connectedCallback() {
    super.connectedCallback();
    this.watch(this.client.signal);
    const pop = () => this.arrive();
    const press = (/** @type {KeyboardEvent} */ event) => this.pressed(event);
    addEventListener("popstate", pop);
    document.addEventListener("keydown", press);
    this.unwatch.push(() => removeEventListener("popstate", pop), () => document.removeEventListener("keydown", press));
    void this.client.start();
    this.arrive();
  }

  get run() {
    return new URLSearchParams(location.search).get("run") ?? "";
  }

  arrive() {
    const { projectId } = route(location.pathname);
    if (this.state?.projectId !== (projectId || undefined)) {
      this.state?.close();
      this.state = projectId ? new ProjectState(projectId, this.client) : null;
      if (this.state) {
        this.unwatch.push(this.state.signal.subscribe(() => this.requestUpdate()));
        void this.state.load();
      }
    }
    this.requestUpdate();
  }

  /** @param {string} href */
  go(href) {
    history.pushState({}, "", href);
    this.arrive();
  }

  /** @param {string} runId */
  selectRun(runId) {
    if (runId === this.run) return;
    const url = new URL(location.href);
    if (runId) url.searchParams.set("run", runId);
    else url.searchParams.delete("run");
    history.replaceState({}, "", url);
    this.requestUpdate();
  }

  /** @param {MouseEvent} event */
  clicked(event) {
    if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const link = /** @type {HTMLAnchorElement|null} */ (/** @type {Element} */ (event.target).closest?.("a[href]"));
    if (!link || link.target || link.origin !== location.origin || link.hasAttribute("download")) return;
    if (route(link.pathname).page === "lost" || link.getAttribute("href")?.startsWith("#")) return;
    event.preventDefault();
    const url = new URL(link.href);
    if (this.run && this.state && url.pathname.startsWith(`/projects/${encodeURIComponent(this.state.projectId)}`)) url.searchParams.set("run", this.run);
    this.go(url.pathname + url.search);
  }

  /** @param {KeyboardEvent} event */
  pressed(event) {
    const target = /** @type {HTMLElement} */ (event.composedPath()[0]);
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || target.matches?.("input, textarea, select, [contenteditable]")) return;
    if (event.key === "?") /** @type {any} */ (this.querySelector("help-dialog")).show();
    else if (event.key === "/" && this.run) {
      event.preventDefault();
      /** @type {any} */ (this.querySelector("omakase-chat"))?.focusComposer();
    } else if (event.key === "j" || event.key === "k") {
      const cards = /** @type {HTMLElement[]} */ ([...this.querySelectorAll("agent-card footer > button:first-of-type")]);
      const at = cards.findIndex((button) => button.closest("agent-card")?.contains(document.activeElement));
      cards[Math.min(cards.length - 1, Math.max(0, event.key === "j" ? at + 1 : at - 1))]?.focus();
    } else if (event.key === "Escape" && this.run && !document.querySelector("dialog[open]")) {
      /** @type {any} */ (this.querySelector("chat-sidebar"))?.close();
    }
  }

  willUpdate() {
    if (this.client.isSignedOut && !this.notSignedOut) {
      location.replace(`/sign-in?next=${encodeURIComponent(location.pathname + location.search)}`);
      return;
    }
    let waiting = 0;
    for (const feed of [...this.client.feeds.values()].map((entry) => entry.feed)) {
      const state = cardState(this.client, feed.run);
      waiting += Math.max(state.unread, state.needsYou);
      if (feed.view.isEnded) continue;
      for (const question of feed.view.openQuestionEvents) {
        if (this.told.has(question.id)) continue;
        this.told.add(question.id);
        this.toSay.push(`${question.sender.name} asks a question`);
      }
    }
    for (const feature of this.state?.features ?? []) {
      const line = this.state?.pipelines.get(feature.id);
      if (!line) continue;
      this.toSay.push(...this.news.hear(feature.name, line));
      if (line.state === "failing") waiting++;
    }
    this.sayNext();
    const place = this.state?.project?.name ?? "Omakase";
    document.title = `${waiting ? `(${waiting}) ` : ""}${place}${this.state ? " · Omakase" : ""}`;
  }

  /** One thing after another: what is replaced at once is never read out. */
  sayNext() {
    if (this.saying || !this.toSay.length) return;
    this.spoken = /** @type {string} */ (this.toSay.shift());
    this.saying = setTimeout(() => {
      this.saying = null;
      if (this.toSay.length) this.requestUpdate();
    }, SAID_MS);
  }

  toggleTheme() {
    const root = document.documentElement;
    const isDark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = isDark ? "light" : "dark";
    try {
      localStorage.setItem("omakase:theme", root.dataset.theme);
    } catch {
      // it holds for this page
    }
  }

  async signOut() {
    try {
      await this.client.signOut();
      location.replace("/sign-in");
    } catch (error) {
      this.notSignedOut = `You are not signed out for certain. ${Problem.from(error).message}`;
      this.requestUpdate();
    }
  }

  render() {
    const { page, projectId } = route(location.pathname);
    const base = `/projects/${encodeURIComponent(projectId)}`;
    const { client, state } = this;
    return html`
      <a class="skip" href="#main" @click=${(/** @type {Event} */ e) => { e.preventDefault(); const main = /** @type {HTMLElement|null} */ (this.querySelector("#main")); main?.setAttribute("tabindex", "-1"); main?.focus(); }}>To the content</a>
      <header class="top">
        <a class="brand" href="/"><img src="/static/img/omakase.svg" alt="" width="30" height="30" /><span>Omakase</span></a>
        ${state ? html`<span class="crumb">${state.project?.name ?? ""}</span>
          <nav aria-label="Project"><a href=${base} aria-current=${page === "mission" ? "page" : "false"}>Mission Control</a><a href="${base}/logs" aria-current=${page === "logs" ? "page" : "false"}>Log</a></nav>` : ""}
        <span class="grow"></span>
        <button class="quiet" type="button" aria-label="Light or dark" @click=${this.toggleTheme}>${icon("sun")}</button>
        <button class="quiet" type="button" aria-label="Keys" @click=${() => /** @type {any} */ (this.querySelector("help-dialog")).show()}>${icon("help")}</button>
        ${client.principal ? html`<span class="who">${client.principal.name}</span><button class="link" type="button" @click=${this.signOut}>Sign out</button>` : ""}
      </header>
      <p class="visually-hidden" role="status">${this.spoken}</p>
      ${client.isSilent ? html`<div class="banner" role="status">Reconnecting… nothing is lost</div>` : ""}
      ${this.notSignedOut ? html`<p class="error-note" role="alert">${this.notSignedOut} <button class="link" type="button" @click=${this.signOut}>Try again</button></p>` : ""}
      ${this.renderPage(page)}
      <help-dialog></help-dialog>`;
  }

  /** @param {string} page */
  renderPage(page) {
    if (page === "projects") return html`<main id="main"><project-list .client=${this.client}></project-list></main>`;
    if (page === "lost" || !this.state) return html`<main id="main"><p class="empty">There is nothing at this address.</p></main>`;
    return repeat([this.state], (state) => state.projectId, (state) => html`<project-page .client=${this.client} .state=${state} .view=${page} .run=${this.run}></project-page>`);
  }
}
customElements.define("omakase-app", OmakaseApp);
