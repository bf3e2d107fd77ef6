import { html } from "../../vendor/lit/index.js";
import { newKey } from "../keys.js";
import { Problem } from "../problem.js";
import { icon } from "./icon.js";
import { LightElement } from "./light-element.js";

/** A name for something new; `create(body, key)` makes it, and a retry keeps its key. */
export class CreateForm extends LightElement {
  static properties = { label: {}, action: {}, problem: { state: true }, isSending: { state: true } };

  constructor() {
    super();
    this.label = "";
    this.action = "";
    this.problem = "";
    this.isSending = false;
    this.key = newKey();
    /** @type {(body: {name: string}, key: string) => Promise<any>} */
    this.create = async () => {};
  }

  /** @param {SubmitEvent} event */
  async submit(event) {
    event.preventDefault();
    const form = /** @type {HTMLFormElement} */ (event.target);
    const name = String(new FormData(form).get("name") ?? "").trim();
    if (!name) return;
    this.isSending = true;
    this.problem = "";
    try {
      const made = await this.create({ name }, this.key);
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
      <button class="primary" type="submit" ?disabled=${this.isSending}>${icon("plus")} ${this.action}</button>
      ${this.problem ? html`<p class="bad" role="alert">${this.problem}</p>` : ""}
    </form>`;
  }
}
customElements.define("create-form", CreateForm);
