"""Pipelines over HTTP: started once, taken on, refused with what stands, shown with their runs."""

from __future__ import annotations

import pytest
import websocket

from chat.ids import new_id
from tests.serving import Api, Server, until


@pytest.fixture
def path(anna: Api) -> str:
    project = anna.post("/api/projects", {"name": "Shop"}).json["id"]
    made = anna.post(f"/api/projects/{project}/features", {"name": "Cart"})
    assert (made.status, made.json["state"], made.json["after"]) == (201, "idle", [])
    return f"/api/features/{made.json['id']}/pipeline"


def test_a_pipeline_is_started_shown_and_refused_a_second_time(
    server: Server, anna: Api, path: str
):
    key = new_id("key")
    idle = anna.get(path).json
    assert (idle["state"], idle["number"], idle["turns"]) == ("idle", None, [])
    first = anna.post(path, {"skip": ["tester"]}, Idempotency_Key=key)
    again = anna.post(path, {"skip": ["tester"]}, Idempotency_Key=key)
    other = anna.post(path, {}, Idempotency_Key=key)
    more = anna.post(path, {})
    assert (first.status, again.status, other.status, more.status) == (201, 200, 422, 409)
    assert more.json["current_state"]["number"] == 1
    server.chat.pipelines.advance(first.json["feature_id"])
    shown = anna.get(path).json
    assert (shown["state"], shown["skipped"]) == ("running", ["tester"])
    turn = shown["turns"][0]
    assert (turn["role"], turn["agent_name"], turn["why"]) == ("architect", "Miso", "next")
    card = anna.get(f"/api/agent-runs/{turn['run_id']}").json["run"]
    assert (card["pipeline"], card["turn"], card["role"]) == (1, 1, "architect")
    feature = anna.get(path.removesuffix("/pipeline")).json
    assert feature["state"] == "running"
    at_work = anna.post(path + "/skip", {"role": "architect"})
    assert (at_work.status, at_work.json["code"]) == (409, "conflict")
    assert anna.post(path + "/skip", {"role": "coder"}).json["skipped"] == ["tester", "coder"]
    assert anna.post(path + "/restart", {"role": "coder"}).status == 409


def test_whoever_watches_a_project_is_told_which_feature_changed(
    server: Server, anna: Api, path: str
):
    feature = anna.get(path.removesuffix("/pipeline")).json
    with server.live(anna) as live:
        live.send(type="watch", project_id=feature["project_id"])

        def told() -> bool:
            anna.call("PUT", path.removesuffix("pipeline") + "after", {"after": []})
            live.ws.settimeout(0.5)
            try:
                return live.next("features") == {
                    "type": "features",
                    "project_id": feature["project_id"],
                    "feature_id": feature["id"],
                }
            except websocket.WebSocketTimeoutException:
                return False

        until(told)


def test_a_projects_pipelines_are_one_answer(anna: Api, path: str):
    feature = anna.get(path.removesuffix("/pipeline")).json
    all_of_it = anna.get(f"/api/projects/{feature['project_id']}/pipelines")
    assert (all_of_it.status, all_of_it.json) == (200, {"pipelines": [anna.get(path).json]})
    assert anna.get("/api/projects/prj_nowhere/pipelines").status == 404


def test_a_circle_of_features_is_refused_in_words(anna: Api, path: str):
    here = path.removesuffix("/pipeline")
    project = anna.get(here).json["project_id"]
    feature_id = anna.get(here).json["id"]
    later = anna.post(
        f"/api/projects/{project}/features", {"name": "Pay", "after": [feature_id]}
    ).json
    assert later["after"] == [feature_id]
    refused = anna.call("PUT", here + "/after", {"after": [later["id"]]})
    assert refused.status == 422
    assert "this feature after 'Pay' after this feature" in refused.json["detail"]


def test_what_nobody_started_is_neither_skipped_nor_started_again(anna: Api, path: str):
    for way in ("/skip", "/restart"):
        refused = anna.post(path + way, {"role": "coder"})
        assert (refused.status, refused.json["code"]) == (409, "conflict")
    assert anna.post("/api/features/ftr_nowhere/pipeline", {}).status == 404
    assert anna.post(path, {"skip": ["cook"]}).status == 422
