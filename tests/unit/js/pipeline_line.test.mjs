import assert from "node:assert/strict";
import test from "node:test";
import { PipelineNews, atWork, countWords, likelyRole, mayStart, needsPerson, neighbours, stages, stateOf, turnWords, whyWords } from "../../../web/static/js/store/pipeline-line.js";

const AGENTS = [["miso", "Miso", "architect"], ["nori", "Nori", "coder"], ["koji", "Koji", "reviewer"], ["toro", "Toro", "tester"]].map(([id, name, role]) => ({ id, name, role }));

/** "coder:passed", "coder:open:sent_back" … as the API shows them. */
function pipeline(words, more = {}) {
  const turns = [];
  for (const word of words) {
    const [role, result, why = "next"] = word.split(":");
    const agent = AGENTS.find((one) => one.role === role);
    turns.push({
      turn: turns.length + 1, role, agent_id: agent.id, agent_name: agent.name, result, why, by: why === "by_hand" ? "Anna" : null, note: null, summary: null,
      run_id: `run_${turns.length + 1}`, attempt: 1 + turns.filter((one) => one.role === role).length,
      round: 1 + turns.filter((one) => one.why === "sent_back").length + (why === "sent_back" ? 1 : 0),
    });
  }
  return { feature_id: "ftr_1", state: "running", reason: "Nori is at work.", number: 1, turns, skipped: [], wanted: null, after: [], ...more };
}

const standings = (line) => stages(AGENTS, line).map((stage) => stage.standing).join(" ");

test("a feature without a pipeline shows four roles that have not begun, and none of them leads anywhere", () => {
  const shown = stages(AGENTS, pipeline([], { state: "idle", number: null }));
  assert.deepEqual(shown.map((stage) => [stage.agent.name, stage.standing, stage.runId]), [["Miso", "not_begun", ""], ["Nori", "not_begun", ""], ["Koji", "not_begun", ""], ["Toro", "not_begun", ""]]);
  assert.equal(stages(AGENTS, null).length, 4);
});

test("each role stands where its last turn stands", () => {
  assert.equal(standings(pipeline(["architect:passed", "coder:asking"])), "passed asking not_begun not_begun");
  assert.equal(standings(pipeline(["architect:failed", "architect:failed:retry"])), "failed not_begun not_begun not_begun");
  assert.equal(standings(pipeline(["architect:passed", "coder:stopped"])), "passed stopped not_begun not_begun");
});

test("who sent it back says so until the next turn of theirs", () => {
  const before = ["architect:passed", "coder:passed", "reviewer:sent_back"];
  assert.equal(standings(pipeline([...before, "coder:open:sent_back"])), "passed open sent_back not_begun");
  assert.equal(standings(pipeline([...before, "coder:passed:sent_back", "reviewer:open"])), "passed passed open not_begun");
});

test("a role that passed before the work was sent back behind it has not begun again", () => {
  const line = pipeline(["architect:passed", "coder:passed", "reviewer:passed", "tester:sent_back", "coder:open:sent_back"]);
  assert.equal(standings(line), "passed open not_begun sent_back");
  assert.equal(stages(AGENTS, line)[2].runId, "run_3", "what it did is still there to be read");
});

test("a skipped role is skipped, one that was asked for is next, and a decided one is beginning", () => {
  assert.equal(standings(pipeline(["architect:passed", "coder:failed"], { skipped: ["coder", "tester"] })), "passed skipped not_begun skipped");
  assert.equal(standings(pipeline(["architect:passed", "coder:stopped"], { wanted: "architect" })), "next stopped not_begun not_begun");
  const [miso] = stages(AGENTS, pipeline(["architect:not_begun"]));
  assert.deepEqual([miso.standing, miso.runId], ["beginning", ""], "its run may not be there yet");
});

test("only the turn that is under way is the current one", () => {
  const current = (line) => stages(AGENTS, line).filter((stage) => stage.isCurrent).map((stage) => stage.agent.name);
  assert.deepEqual(current(pipeline(["architect:passed", "coder:open"])), ["Nori"]);
  assert.deepEqual(current(pipeline(["architect:passed", "coder:passed", "reviewer:passed", "tester:passed"], { state: "done" })), []);
  assert.equal(atWork(pipeline(["architect:open"])).agent_name, "Miso");
  assert.equal(atWork(pipeline(["architect:failed"])), null);
});

test("what waits for a person needs one, what waits for other features does not", () => {
  assert.equal(stateOf(pipeline(["coder:asking"], { state: "waiting" })), "needs");
  assert.equal(stateOf(pipeline(["coder:stopped"], { state: "waiting" })), "needs");
  assert.equal(stateOf(pipeline(["coder:stopped"], { state: "waiting", wanted: "coder" })), "waiting");
  assert.equal(stateOf(pipeline([], { state: "waiting" })), "waiting");
  assert.ok(needsPerson(pipeline(["coder:failed"], { state: "failing" })));
  assert.ok(!needsPerson(pipeline(["coder:open"])));
  assert.ok(!needsPerson(null));
});

test("a pipeline may be started when none is under way", () => {
  assert.ok(mayStart(pipeline([], { state: "idle", number: null })));
  assert.ok(mayStart(pipeline(["coder:passed"], { state: "done" })));
  assert.ok(mayStart(pipeline(["coder:failed"], { state: "failing" })));
  assert.ok(mayStart(pipeline(["coder:stopped"], { state: "waiting" })));
  assert.ok(!mayStart(pipeline(["coder:open"])));
  assert.ok(!mayStart(pipeline(["coder:asking"], { state: "waiting" })));
  assert.ok(!mayStart(pipeline([], { state: "waiting" })));
});

test("the role that failed is the likely one to start again; else the one that work is sent back to", () => {
  assert.equal(likelyRole(pipeline(["architect:passed", "coder:passed", "reviewer:failed"]), AGENTS), "reviewer");
  assert.equal(likelyRole(pipeline(["architect:passed", "coder:passed", "reviewer:sent_back", "coder:open:sent_back"]), AGENTS), "coder");
  assert.equal(likelyRole(pipeline(["architect:passed"]), AGENTS), "coder");
});

test("a turn says why it came about, and its round and attempt where they are above one", () => {
  const { turns } = pipeline(["architect:passed", "coder:failed", "coder:passed:retry", "reviewer:sent_back", "coder:open:sent_back", "coder:open:by_hand"]);
  assert.deepEqual(turns.map((turn, index) => whyWords(turn, turns[index - 1])), ["began", "took over from Miso", "tried again, after a failure", "took over from Nori", "sent back by Koji", "started by Anna"]);
  assert.deepEqual(turns.map(countWords), ["", "", "attempt 2", "", "round 2, attempt 3", "round 2, attempt 4"]);
});

test("a run knows its turn and the runs before and after it", () => {
  const line = pipeline(["architect:passed", "coder:passed", "reviewer:sent_back", "coder:not_begun:sent_back"]);
  const run = { pipeline: 1, turn: 3 };
  assert.equal(turnWords(run, line), "Turn 3 of the pipeline: took over from Nori");
  assert.deepEqual(neighbours(run, line), { before: { runId: "run_2", name: "Nori", role: "coder" }, after: null });
  assert.equal(neighbours({ pipeline: 1, turn: 1 }, line).before, null);
});

test("a run of a pipeline before the present one finds its neighbours among the feature's runs", () => {
  const line = pipeline(["architect:open"], { number: 2 });
  const runs = [[1, 1, "miso", "architect"], [1, 2, "nori", "coder"], [2, 1, "miso", "architect"], [null, null, "toro", "tester"]].map(([number, turn, id, role], at) => ({ id: `old_${at}`, pipeline: number, turn, agent_name: id, role }));
  assert.equal(turnWords({ pipeline: 1, turn: 1 }, line), "Turn 1 of pipeline 1; it is now at pipeline 2");
  assert.deepEqual(neighbours({ pipeline: 1, turn: 1 }, line, runs), { before: null, after: { runId: "old_1", name: "nori", role: "coder" } });
});

test("that it was sent back, is failing or is done is said once each, and old news only if it still needs somebody", () => {
  const news = new PipelineNews();
  const hear = (line) => news.hear("Cart", line);
  const back = ["architect:passed", "coder:passed", "reviewer:sent_back"];
  assert.deepEqual(hear(pipeline([...back, "coder:open:sent_back"])), [], "it was sent back before the page came");
  const again = [...back, "coder:passed:sent_back", "reviewer:sent_back"];
  assert.deepEqual(hear(pipeline(again)), ["Koji sent Cart back"]);
  assert.deepEqual(hear(pipeline([...again, "coder:open:sent_back"])), []);
  const failing = pipeline([...again, "coder:failed:sent_back"], { state: "failing", reason: "Nori (coder) failed." });
  assert.deepEqual(hear(failing), ["Cart is failing: Nori (coder) failed"]);
  assert.deepEqual(hear(failing), []);
  const done = pipeline([...again, "coder:passed:by_hand"], { state: "done" });
  assert.deepEqual(hear(done), ["Cart is done"]);
  assert.deepEqual(new PipelineNews().hear("Cart", done), []);
  assert.deepEqual(new PipelineNews().hear("Cart", failing), ["Cart is failing: Nori (coder) failed"]);
});
