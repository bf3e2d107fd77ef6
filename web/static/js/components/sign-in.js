import { html } from "../../vendor/lit/index.js";
import { Api } from "../api.js";
import { Problem } from "../problem.js";
import { LightElement, mascot } from "./light-element.js";

/** Local sign-in: a name, and the plain word that this works on this machine only. */
export class SignIn extends LightElement {
  static properties = { problem: { state: true }, isSending: { state: true } };

  constructor() {
    super();
    this.api = new Api();
    this.problem = "";
    this.isSending = false;
  }

  /** Where to go afterwards: a path of this site and nothing else. */
  get next() {
    const wanted = new URLSearchParams(location.search).get("next") ?? "/";
    const url = new URL(wanted, location.origin);
    return url.origin === location.origin ? url.pathname + url.search : "/";
  }

  /** @param {SubmitEvent} event */
  async submit(event) {
    event.preventDefault();
    const name = String(new FormData(/** @type {HTMLFormElement} */ (event.target)).get("name") ?? "").trim();
    if (!name) return;
    this.isSending = true;
    this.problem = "";
    try {
      await this.api.signIn(name);
      location.assign(this.next);
    } catch (error) {
      this.problem = Problem.from(error).message;
      this.isSending = false;
    }
  }

  render() {
    return html`<main class="door">
      <div class="door-team" aria-hidden="true">${["miso", "nori", "koji", "toro"].map((name) => html`<img src=${mascot(name)} alt="" width="56" height="56" />`)}</div>
      <h1>Omakase</h1>
      <p class="muted">Talk with the agents while they work.</p>
      <form @submit=${this.submit}>
        <label for="name">Your name</label>
        <input id="name" name="name" required maxlength="80" autocomplete="nickname" autofocus />
        <button class="primary" type="submit" ?disabled=${this.isSending}>Sign in</button>
        ${this.problem ? html`<p class="bad" role="alert">${this.problem}</p>` : ""}
      </form>
      <p class="fine">Local sign-in: there is no password, so it is only possible on this machine.</p>
    </main>`;
  }
}
customElements.define("sign-in", SignIn);
