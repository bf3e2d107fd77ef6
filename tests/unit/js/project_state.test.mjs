import assert from "node:assert/strict";
import test from "node:test";
import { ProjectState } from "../../../web/static/js/live/project-state.js";

globalThis.document = /** @type {any} */ ({ visibilityState: "visible" });
globalThis.requestAnimationFrame = (callback) => setTimeout(callback, 0);

/** A server with features that wait for one another, and a record of what it was asked. */
function world() {
  const features = [{ id: "cart" }, { id: "pay" }];
  const lines = new Map([
    ["cart", { feature_id: "cart", state: "running", after: [] }],
    ["pay", { feature_id: "pay", state: "waiting", after: [{ feature_id: "cart", name: "Cart", done: false }] }],
  ]);
  const asked = [];
  let hinted = () => {};
  const api = {
    project: async () => ({ id: "prj", name: "Shop" }),
    agents: async () => [],
    runs: async () => (asked.push("runs"), []),
    features: async () => (asked.push("features"), [...features]),
    pipelines: async () => (asked.push("pipelines"), [...lines.values()].map((one) => structuredClone(one))),
    pipeline: async (id) => (asked.push(id), structuredClone(lines.get(id))),
  };
  const feed = { signal: { subscribe: () => () => {} }, follow: () => {} };
  const client = { api, watch: (_id, listener) => ((hinted = listener), () => {}), acquire: () => feed, release: () => {}, feeds: new Map(), readMarks: new Map() };
  return { client, features, lines, asked, hint: (frame) => hinted(frame) };
}

const settled = () => new Promise((done) => setTimeout(done, 10));

async function loaded() {
  const made = world();
  const state = new ProjectState("prj", /** @type {any} */ (made.client));
  await state.load();
  made.asked.length = 0;
  return { ...made, state };
}

test("a hint about one feature fetches that one's pipeline alone", async () => {
  const { state, lines, asked, hint } = await loaded();
  lines.get("cart").state = "waiting";
  hint({ type: "features", feature_id: "cart" });
  await settled();
  assert.equal(state.pipelines.get("cart").state, "waiting");
  assert.deepEqual(asked, ["cart"]);
});

test("a feature that is done is done for those that come after it too", async () => {
  const { state, lines, asked, hint } = await loaded();
  lines.get("cart").state = "done";
  lines.get("pay").after[0].done = true;
  hint({ type: "features", feature_id: "cart" });
  await settled();
  assert.equal(state.pipelines.get("pay").after[0].done, true);
  assert.deepEqual(asked, ["cart", "pay"]);
});

test("hints that come while one is answered are answered by one more fetch", async () => {
  const { asked, hint } = await loaded();
  for (let i = 0; i < 5; i++) hint({ type: "features", feature_id: "cart" });
  await settled();
  assert.deepEqual(asked, ["cart", "cart"]);
});

test("a feature that was not known is fetched with all the others", async () => {
  const { state, features, lines, asked, hint } = await loaded();
  features.push({ id: "tax" });
  lines.set("tax", { feature_id: "tax", state: "idle", after: [] });
  hint({ type: "features", feature_id: "tax" });
  await settled();
  assert.deepEqual(asked, ["features", "pipelines"]);
  assert.deepEqual(state.features.map((one) => one.id), ["cart", "pay", "tax"]);
});

test("after a reconnect everything is fetched again, and hints of runs fetch no pipeline", async () => {
  const { asked, hint } = await loaded();
  hint({ type: "runs" });
  await settled();
  assert.deepEqual(asked, ["runs"]);
  hint({ type: "all" });
  await settled();
  assert.deepEqual([...asked].sort(), ["features", "pipelines", "runs", "runs"]);
});

/** Let the next call of `name` answer only when told to, with what was there when it was asked. */
function slow(api, name) {
  const fast = api[name];
  let answer = () => {};
  api[name] = async (...args) => {
    api[name] = fast;
    const said = await fast(...args);
    await new Promise((done) => (answer = done));
    return said;
  };
  return () => answer();
}

for (const way of ["a run of a feature that was not known", "the page's own first look"]) {
  test(`an older answer to ${way} never replaces a newer one`, async () => {
    const { state, client, features, lines, hint } = await loaded();
    const answer = slow(client.api, "pipelines");
    if (way.startsWith("a run")) {
      features.push({ id: "tax" });
      lines.set("tax", { feature_id: "tax", state: "waiting", after: [] });
      client.api.runs = async () => [{ id: "run", feature_id: "tax", agent_id: "nori", head: 0, status: "queued" }];
      hint({ type: "runs" });
    } else void state.load();
    await settled();
    lines.get("cart").state = "done";
    lines.get("pay").after[0].done = true;
    hint({ type: "features", feature_id: "cart" });
    await settled();
    answer();
    await settled();
    assert.equal(state.pipelines.get("cart").state, "done");
    assert.deepEqual(state.features.map((one) => one.id), features.map((one) => one.id));
  });
}

test("a fetch that failed is done once more, with all that was due, and its problem goes", async () => {
  const { state, client, lines, asked, hint } = await loaded();
  const { pipeline } = client.api;
  state.retryMs = 20;
  client.api.pipeline = async (id) => {
    client.api.pipeline = pipeline;
    throw new Error(`no ${id}`);
  };
  lines.get("cart").state = "waiting";
  hint({ type: "features", feature_id: "cart" });
  await settled();
  assert.notEqual(state.problem, "");
  await new Promise((done) => setTimeout(done, 40));
  assert.equal(state.pipelines.get("cart").state, "waiting");
  assert.equal(state.problem, "");
  assert.deepEqual(asked, ["cart"]);
});

test("where it stays down nobody asks again and again, and the next hint asks for all that is due", async () => {
  const { state, client, lines, asked, hint } = await loaded();
  const { pipeline } = client.api;
  let tries = 0;
  state.retryMs = 1;
  client.api.pipeline = async () => {
    tries++;
    throw new Error("down");
  };
  lines.get("cart").state = "waiting";
  hint({ type: "features", feature_id: "cart" });
  await new Promise((done) => setTimeout(done, 40));
  assert.equal(tries, 2);
  client.api.pipeline = pipeline;
  hint({ type: "features", feature_id: "pay" });
  await settled();
  assert.deepEqual(asked, ["cart", "pay"]);
  assert.equal(state.pipelines.get("cart").state, "waiting");
  assert.equal(state.problem, "");
});

test("what went wrong with the runs is not made good by the pipelines", async () => {
  const { state, client, hint } = await loaded();
  client.api.runs = async () => {
    throw new Error("down");
  };
  hint({ type: "all" });
  await settled();
  assert.notEqual(state.problem, "");
});
