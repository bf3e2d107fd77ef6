/**
 * The shapes on the wire (docs/wire.md), as JSDoc types. Nothing here runs.
 *
 * @typedef {{kind: "person"|"agent"|"system", id: string, name: string, role: string|null}} Sender
 * @typedef {{seq: number, line?: number, quote: string}} Anchor
 * @typedef {"message"|"question"|"answer"|"order"|"status"|"step"|"log"|"error"|"receipt"} Kind
 * @typedef {{seq: number, epoch: string, run_id: string, id: string, kind: Kind, at: string, sender: Sender, body: any}} Event
 * @typedef {{id: string, project_id: string, feature_id: string, agent_id: string, agent_name: string, role: string,
 *   start: string, status: string, phase: string|null, step: any, last_line: any, needs_you: number, head: number,
 *   created_at: string, ended_at: string|null, pipeline?: number|null, turn?: number|null, since?: string|null,
 *   hold_at?: string|null, cost?: {currency: string, per_hour: number, so_far: number}|null,
 *   fetched_at?: number}} Run `fetched_at` is ours: when, in ms since 1970, it was what the server said
 * @typedef {{id: string, seq: number, kind: string, mode: string, state: string, attempt: number, version: number}} MailItem
 * @typedef {{epoch: string, head: number, stored: number, status: string, phase: string|null, held: boolean,
 *   items: MailItem[], questions: Event[], open_texts: {message_id: string, text: string, units: number}[], step: Event|null}} Snapshot
 * @typedef {{events: Event[], has_more: boolean, head: number, epoch: string}} Page
 * @typedef {"steer"|"queue"|"interrupt"} Mode
 * @typedef {{id: string, name: string, role: string}} Agent
 * @typedef {{id: string, name: string, created_at: string}} Project
 * @typedef {{id: string, project_id: string, name: string, description: string, created_at: string}} Feature
 * @typedef {"not_begun"|"open"|"asking"|"late"|"passed"|"sent_back"|"failed"|"stopped"} Result
 * @typedef {{turn: number, role: string, agent_id: string, agent_name: string, attempt: number, round: number,
 *   why: "next"|"retry"|"sent_back"|"by_hand", by: string|null, note: string|null, run_id: string, result: Result,
 *   summary: string|null}} Turn
 * @typedef {{feature_id: string, state: "idle"|"running"|"waiting"|"failing"|"done", reason: string, number: number|null,
 *   turns: Turn[], skipped: string[], wanted: string|null, after: {feature_id: string, name: string, done: boolean}[]}} Pipeline
 * @typedef {{type: "runs"|"features"|"all", feature_id?: string}} Hint what should be fetched again
 */
export {};
