import { html } from "../../vendor/lit/index.js";
import { newKey } from "../keys.js";
import { Problem } from "../problem.js";
import { icon } from "./icon.js";
import { LightElement } from "./light-element.js";

/** A name (and words about it) for something new; `create(body, key)` makes it, and a retry keeps its key. */
export class CreateForm extends LightElement {
  static properties = { label: {}, action: {}, describes: { type: Boolean }, problem: { state: true }, isSending: { state: true } };

  constructor() {
    super();
    this.label = "";
    this.action = "";
    this.describes = false;
    this.problem = "";
    this.isSending = false;
    this.key = newKey();
    /** @type {(body: {name: string, description: string}, key: string) => Promise<any>} */
    this.create = async () => {};
  }

  /** @param {SubmitEvent} event */
  async submit(event) {
    event.preventDefault();
    const form = /** @type {HTMLFormElement} */ (event.target);
    const data = new FormData(form);
    const name = String(data.get("name") ?? "").trim();
    if (!name) return;
    this.isSending = true;
    this.problem = "";
    try {
      const made = await this.create({ name, description: String(data.get("description") ?? "").trim() }, this.key);
      this.key = newKey();
      form.reset();
      this.emit("created", made);
    } catch (error) {
      const problem = Problem.from(error);
      this.problem = problem.message;
      if (!problem.isTemporary) this.key = newKey();
    }
    this.isSending = false;
  }

  render() {
    return html`<form class="create" @submit=${this.submit}>
      <input name="name" required maxlength="120" autocomplete="off" aria-label=${this.label} placeholder=${this.label} />
      ${this.describes ? html`<input name="description" maxlength="8000" autocomplete="off" aria-label="What it is about" placeholder="What it is about" />` : ""}
      <button class="primary" type="submit" ?disabled=${this.isSending}>${icon("plus")} ${this.action}</button>
      ${this.problem ? html`<p class="bad" role="alert">${this.problem}</p>` : ""}
    </form>`;
  }
}
customElements.define("create-form", CreateForm);
