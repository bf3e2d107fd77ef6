/** @import {Event, Snapshot, Run} from "../types.js" */
import { Receipts } from "./receipts.js";
import { StreamingText } from "./streaming-text.js";

export const ENDED = new Set(["completed", "failed", "stopped"]);
const TALK = new Set(["message", "question", "answer", "order", "status", "step", "error", "notice"]);

/**
 * A run as a person sees it: a pure fold of its events. The same events in any order, any number of
 * times, give the same view. Log lines are kept elsewhere (LogLines), only their `seq` counts here.
 */
export class RunView {
  /** @param {string} runId */
  constructor(runId) {
    this.runId = runId;
    /** @type {string|null} */
    this.epoch = null;
    this.reset();
  }

  /** Forget everything: the log has another epoch. */
  reset() {
    /** @type {Map<number, Event>} talk, by seq */
    this.events = new Map();
    /** @type {Map<string, Event>} */
    this.byId = new Map();
    /** @type {Map<string, Event>} newest edit by the id of what it replaces */
    this.edits = new Map();
    /** @type {Map<string, Event>} answer by the question's id */
    this.answers = new Map();
    this.receipts = new Receipts();
    /** @type {Map<string, Event[]>} nudges by the id of what they were for, in order of `seq` */
    this.nudges = new Map();
    /** @type {Map<string, StreamingText>} */
    this.streams = new Map();
    /** @type {Set<string>} */
    this.openQuestions = new Set();
    /** @type {Set<number>} seqs of what the agent said to a person, also where the event itself is not here */
    this.said = new Set();
    /** @type {Set<number>} */
    this.seen = new Set();
    this.status = "queued";
    /** @type {string|null} */
    this.phase = null;
    this.statusSeq = 0;
    /** @type {Event|null} */
    this.lastStep = null;
    /** @type {Event|null} */
    this.lastSaid = null;
    this.held = false;
    this.heldSeq = 0;
    this.head = 0;
    this.version = 0;
    /** @type {Event[]|null} */
    this.sorted = null;
  }

  get isEnded() {
    return ENDED.has(this.status);
  }

  /** Events of the talk in order of `seq`. */
  get ordered() {
    this.sorted ??= [...this.events.values()].sort((a, b) => a.seq - b.seq);
    return this.sorted;
  }

  /** Messages that are being said right now, oldest first. */
  get openTexts() {
    return [...this.streams].map(([id, stream]) => ({ id, text: stream.text }));
  }

  /** Questions without an answer, oldest first. */
  get openQuestionEvents() {
    return [...this.openQuestions]
      .map((id) => /** @type {Event} */ (this.byId.get(id)))
      .filter(Boolean)
      .sort((a, b) => a.seq - b.seq);
  }

  /** @param {Event} event @returns {boolean} whether it was new */
  apply(event) {
    this.epoch ??= event.epoch;
    if (this.seen.has(event.seq)) return false;
    this.seen.add(event.seq);
    this.head = Math.max(this.head, event.seq);
    this.version++;
    if (event.kind === "receipt") {
      this.receipts.apply(event);
      return true;
    }
    if (!TALK.has(event.kind)) return true;
    this.byId.set(event.id, event);
    const editOf = event.kind === "message" ? event.body.edit_of : null;
    if (editOf) {
      const known = this.edits.get(editOf);
      if (!known || known.seq < event.seq) this.edits.set(editOf, event);
    } else {
      this.events.set(event.seq, event);
      this.sorted = null;
    }
    if (isSaid(event)) this.said.add(event.seq);
    this.fold(event);
    return true;
  }

  /** @param {Event} event */
  fold(event) {
    const body = event.body;
    switch (event.kind) {
      case "message":
        this.streams.delete(event.id);
        if (event.sender.kind === "agent" && event.seq > (this.lastSaid?.seq ?? 0)) this.lastSaid = event;
        break;
      case "question":
        if (!this.answers.has(event.id)) this.openQuestions.add(event.id);
        if (event.seq > (this.lastSaid?.seq ?? 0)) this.lastSaid = event;
        break;
      case "answer":
        this.answers.set(body.question_id, event);
        this.openQuestions.delete(body.question_id);
        break;
      case "status":
        if (event.seq > this.statusSeq) {
          this.statusSeq = event.seq;
          this.status = body.status;
          this.phase = body.phase ?? null;
        }
        if (ENDED.has(body.status) || body.status === "suspended") this.streams.clear();
        if (body.status === "suspended" && event.seq > this.heldSeq) {
          this.heldSeq = event.seq; // a run on hold is not paused: the next word brings it back
          this.held = false;
        }
        break;
      case "notice":
        if (body.about !== "nudge") break;
        for (const id of body.ids ?? []) {
          this.nudges.set(id, [...(this.nudges.get(id) ?? []), event].sort((a, b) => a.seq - b.seq));
        }
        break;
      case "step":
        if (event.seq > (this.lastStep?.seq ?? 0)) this.lastStep = event;
        break;
      case "order":
        if ((body.action === "pause" || body.action === "resume") && event.seq > this.heldSeq) {
          this.heldSeq = event.seq;
          this.held = body.action === "pause";
        }
        break;
      default:
    }
  }

  /** @param {string} messageId @param {number} offset @param {string} text @returns {boolean} false: a piece is missing */
  applyDelta(messageId, offset, text) {
    if (this.byId.has(messageId) || this.isEnded) return true;
    let stream = this.streams.get(messageId);
    if (!stream) {
      stream = new StreamingText();
      this.streams.set(messageId, stream);
    }
    if (stream.apply(offset, text)) this.version++;
    return !stream.hasHole;
  }

  /** What the server says the run is at its head. @param {Snapshot} snapshot */
  applySnapshot(snapshot) {
    for (const question of snapshot.questions) this.apply(question);
    for (const item of snapshot.items) this.receipts.applyItem(item, snapshot.head);
    if (snapshot.step && snapshot.step.seq > (this.lastStep?.seq ?? 0)) this.lastStep = snapshot.step;
    if (snapshot.head >= this.statusSeq) {
      this.status = snapshot.status;
      this.phase = snapshot.phase;
      this.statusSeq = snapshot.head;
    }
    if (snapshot.head >= this.heldSeq) {
      this.held = snapshot.held;
      this.heldSeq = snapshot.head;
    }
    for (const open of snapshot.open_texts) {
      if (this.byId.has(open.message_id)) continue;
      const stream = this.streams.get(open.message_id) ?? new StreamingText();
      stream.replace(open.text);
      this.streams.set(open.message_id, stream);
    }
    this.head = Math.max(this.head, snapshot.head);
    this.version++;
  }

  /** A message with its newest edit: text, mode, version, receipt, and the nudges for its sake. @param {Event} event */
  message(event) {
    const edit = this.edits.get(event.id);
    const receipt = this.receipts.get(event.id);
    return {
      text: edit?.body.text ?? event.body.text,
      mode: edit?.body.mode ?? event.body.mode,
      version: edit?.body.version ?? event.body.version ?? 1,
      isEdited: Boolean(edit),
      receipt,
      nudges: this.nudges.get(event.id) ?? [],
      state: receipt?.state ?? "accepted",
    };
  }

  /** How many things the agent said after `seq`. @param {number} seq */
  unreadAfter(seq) {
    let count = 0;
    for (const said of this.said) if (said > seq) count++;
    return count;
  }
}

/** Something an agent says to a person. @param {Event} event */
export function isSaid(event) {
  return event.sender.kind === "agent" && (event.kind === "message" || event.kind === "question");
}
