/** A refusal of the server: an RFC 9457 problem document, or what stands for one when there was none. */
export class Problem extends Error {
  /** @param {{title?: string, status?: number, detail?: string, code?: string, current_state?: any}} document */
  constructor(document) {
    super(document.detail || document.title || "The request could not be carried out.");
    this.name = "Problem";
    this.status = document.status ?? 0;
    this.code = document.code ?? "error";
    this.title = document.title ?? "";
    this.currentState = document.current_state ?? null;
  }

  /** The server was not reached, or could not answer: the same request may be sent again. */
  get isTemporary() {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }

  /** @param {unknown} error @returns {Problem} */
  static from(error) {
    if (error instanceof Problem) return error;
    return new Problem({ status: 0, code: "unreachable", title: "Not reachable", detail: "The server cannot be reached at the moment." });
  }
}
