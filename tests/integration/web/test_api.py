"""The API over HTTP: said once, paged, edited while it may be, asked and answered, ended."""

from __future__ import annotations

import hashlib

import pytest

from chat.ids import new_id
from tests.serving import Api, Attached, Server


def test_the_same_key_is_the_same_message_and_another_body_is_refused(attached: Attached):
    path = attached.path("/messages")
    first = attached.person.post(path, {"text": "once"}, Idempotency_Key="k1")
    again = attached.person.post(path, {"text": "once"}, Idempotency_Key="k1")
    other = attached.person.post(path, {"text": "twice"}, Idempotency_Key="k1")
    assert (first.status, again.status, other.status) == (201, 200, 422)
    assert first.data == again.data
    assert other.json["code"] == "idempotency_mismatch"
    assert attached.person.post(path, {"text": "once"}).status == 201, "no key: a new message"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/projects", {"name": "Shop"}),
        ("/api/projects/{project}/features", {"name": "Cart"}),
        ("/api/agent-runs", {"feature_id": "{feature}", "agent_id": "koji", "start": "attach"}),
    ],
)
def test_making_something_twice_with_one_key_makes_it_once(
    attached: Attached, path: str, body: dict
):
    run = attached.person.get(attached.path()).json["run"]
    names = {"project": run["project_id"], "feature": run["feature_id"]}
    path = path.format(**names)
    body = {name: value.format(**names) for name, value in body.items()}
    key = new_id("key")
    first = attached.person.post(path, body, Idempotency_Key=key)
    again = attached.person.post(path, body, Idempotency_Key=key)
    assert (first.status, again.status) == (201, 200)
    made = first.json.get("run", first.json)["id"]
    assert again.json.get("run", again.json)["id"] == made
    assert "token" not in again.json, "a token is shown once"


def test_a_log_is_paged_both_ways_without_a_hole(attached: Attached):
    for number in range(25):
        attached.say(str(number))
    attached.store()
    attached.say("not stored yet")
    path = attached.path("/messages")
    found, after = [], 0
    while True:
        page = attached.person.get(f"{path}?after={after}&limit=7").json
        found += [event["seq"] for event in page["events"]]
        if not page["has_more"]:
            break
        after = found[-1]
    assert found == list(range(1, page["head"] + 1))
    back, before = [], page["head"] + 1
    while True:
        page = attached.person.get(f"{path}?before={before}&limit=7").json
        back = [event["seq"] for event in page["events"]] + back
        if not page["has_more"]:
            break
        before = back[0]
    assert back == found


def test_a_page_can_be_of_one_kind_and_one_sender(attached: Attached):
    attached.say("from a person")
    body = {"events": [{"key": "1", "kind": "message", "body": {"text": "from the agent"}}]}
    attached.agent.post(attached.path("/events"), body)
    page = attached.person.get(attached.path("/messages?kind=message&sender=nori")).json
    assert [event["body"]["text"] for event in page["events"]] == ["from the agent"]
    page = attached.person.get(attached.path("/messages?kind=message&kind=status")).json
    assert {event["kind"] for event in page["events"]} == {"message", "status"}
    assert attached.person.get(attached.path("/messages?kind=gossip")).status == 422


def test_what_is_queued_is_changed_only_by_who_knows_its_version(attached: Attached):
    message_id = attached.say("first").json["event"]["id"]
    path = attached.path(f"/messages/{message_id}")
    seen = attached.person.get(path)
    assert seen.headers["etag"] == '"v1"'
    edit = {"text": "second"}
    assert attached.person.call("PATCH", path, edit, If_Match='"v0"').status == 422
    assert attached.person.call("PATCH", path, edit).status == 428
    changed = attached.person.call("PATCH", path, edit, If_Match='"v1"')
    assert (changed.status, changed.headers["etag"]) == (200, '"v2"')
    stale = attached.person.call("PATCH", path, edit, If_Match='"v1"')
    assert (stale.status, stale.json["code"]) == (412, "stale_version")
    assert attached.person.get(path).json["event"]["body"]["text"] == "second"
    attached.store()
    taken = attached.agent.get(attached.path("/mailbox?holder=h")).json["items"]
    assert [item["event"]["body"]["text"] for item in taken] == ["second"]
    late = attached.person.call("PATCH", path, edit, If_Match='"v2"')
    assert (late.status, late.json["code"]) == (409, "already_taken")
    gone = attached.person.call("DELETE", path)
    assert (gone.status, gone.json["code"]) == (409, "already_taken")


def test_the_exact_text_the_model_was_given_can_be_read_back(attached: Attached):
    message_id = attached.say("call it total_price").json["event"]["id"]
    attached.store()
    item = attached.agent.get(attached.path("/mailbox?holder=h")).json["items"][0]
    text = f"<anna>{item['event']['body']['text']}</anna>"
    digest = hashlib.sha256(text.encode()).hexdigest()
    body = {"ids": [item["event"]["id"]], "step": 5, "text": text, "sha256": digest}
    confirm = attached.agent.post(attached.path("/mailbox/confirm"), body)
    again = attached.agent.post(attached.path("/mailbox/confirm"), body)
    assert confirm.json == again.json == {"items": {message_id: "in_context"}}
    found = attached.person.get(attached.path(f"/messages/{message_id}")).json
    assert found["receipt"]["state"] == "in_context"
    assert {name: found["proof"][name] for name in ("step", "text", "sha256")} == {
        "step": 5, "text": text, "sha256": digest,
    }  # fmt: skip


def test_a_run_with_something_unread_does_not_complete(attached: Attached):
    attached.say("wait")
    attached.store()
    end = {"holder": "h", "last_seq": 2, "outcome": "completed"}
    refused = attached.agent.post(attached.path("/finish"), end)
    assert (refused.status, refused.json["code"]) == (409, "mailbox_not_empty")
    item = refused.json["current_state"]["items"][0]
    assert item["event"]["body"]["text"] == "wait"
    digest = hashlib.sha256(b"wait").hexdigest()
    body = {"ids": [item["event"]["id"]], "step": 1, "text": "wait", "sha256": digest}
    assert attached.agent.post(attached.path("/mailbox/confirm"), body).status == 200
    assert attached.agent.post(attached.path("/finish"), end).json == {"status": "completed"}
    late = attached.person.post(attached.path("/messages"), {"text": "too late"})
    assert (late.status, late.json["code"]) == (409, "run_ended")


def test_the_first_answer_wins_and_the_same_again_is_the_same(attached: Attached):
    ask = {"handle": "h", "text": "?", "options": [{"value": "a", "label": "A"},
                                                   {"value": "b", "label": "B"}]}  # fmt: skip
    asked = attached.agent.post(attached.path("/questions"), ask)
    assert asked.status == 201
    assert attached.agent.post(attached.path("/questions"), ask).status == 200
    question_id = asked.json["event"]["id"]
    open_now = attached.person.get(attached.path("/questions")).json["questions"]
    assert [event["id"] for event in open_now] == [question_id]
    path = attached.path(f"/questions/{question_id}/answer")
    assert attached.person.post(path, {"value": "a"}).status == 201
    assert attached.person.post(path, {"value": "a"}).status == 200
    other = attached.person.post(path, {"value": "b"})
    assert (other.status, other.json["code"]) == (409, "already_answered")
    assert attached.person.post(path, {"value": "nothing of it"}).status in {409, 422}
    seen = attached.agent.get(attached.path("/questions?handle=h")).json
    assert seen["answer"]["body"]["value"] == "a"


def test_names_that_are_missing_are_made_when_an_agent_registers(server: Server, anna: Api):
    names = {"project": new_id("name"), "feature": "Cart", "agent_id": "miso"}
    first = anna.post("/api/agent-runs/register", names).json["run"]
    second = anna.post("/api/agent-runs/register", names).json["run"]
    assert first["id"] != second["id"]
    assert first["feature_id"] == second["feature_id"]
    without_cookie = Api(server.port).post("/api/agent-runs/register", names)
    assert without_cookie.status == 201, "somebody on this machine"


def test_what_a_browser_asks_first_is_there(server: Server, anna: Api):
    assert Api(server.port).get("/").headers["location"] == "/sign-in"
    wanted = Api(server.port).get("/projects/prj_x/logs?run=1").headers["location"]
    assert wanted == "/sign-in?next=%2Fprojects%2Fprj_x%2Flogs%3Frun%3D1"
    for path in ("/", "/projects/prj_x", "/projects/prj_x/logs", "/sign-in"):
        page = anna.get(path)
        assert page.headers["content-type"].startswith("text/html")
    assert len(anna.get("/api/agents").json["agents"]) == 4


def test_a_method_that_is_not_there_says_which_are(anna: Api, attached: Attached):
    reply = anna.call("DELETE", "/api/projects")
    assert (reply.status, reply.json["code"]) == (405, "method_not_allowed")
    assert set(reply.headers["allow"].split(", ")) == {"GET", "HEAD", "OPTIONS", "POST"}
    head = attached.agent.call("HEAD", attached.path("/mailbox?holder=h"))
    assert head.status == 405, "a lease is no metadata"


def test_history_goes_across_the_runs_of_a_feature(attached: Attached):
    attached.say("kept")
    attached.store()
    feature_id = attached.person.get(attached.path()).json["run"]["feature_id"]
    found, cursor = [], ""
    while True:
        query = f"?limit=200&kind=message{'&cursor=' + cursor if cursor else ''}"
        page = attached.person.get(f"/api/features/{feature_id}/messages{query}").json
        found += page["events"]
        if (cursor := page["cursor"]) is None or not page["events"]:
            break
    mine = [event["body"]["text"] for event in found if event["run_id"] == attached.id]
    assert mine == ["kept"]


def test_a_run_goes_on_hold_over_http_and_what_is_said_then_waits_for_its_next_process(
    server: Server, attached: Attached, anna: Api
):
    feature_id = anna.get(attached.path()).json["run"]["feature_id"]
    body = {"feature_id": feature_id, "agent_id": "nori", "start": "launch"}
    run_id = anna.post("/api/agent-runs", body, Idempotency_Key="hold").json["run"]["id"]
    token = server.chat.tokens.of(run_id)
    ours = Attached(
        server, run_id, token, anna, Api(server.port, {"Authorization": f"Bearer {token}"})
    )
    for number, status in enumerate(("working", "waiting")):
        event = {"key": f"k{number}", "kind": "status", "body": {"status": status}}
        assert ours.agent.post(ours.path("/events"), {"events": [event]}).status == 200
    wanted = {"holder": "h", "generation": 0, "checkpoint": {"text": "commit 3f2a", "step": 4}}

    said = ours.say("wait").json["event"]["id"]
    ours.store()
    refused = ours.agent.post(ours.path("/hold"), wanted)
    assert (refused.status, refused.json["code"]) == (409, "mailbox_not_empty")
    assert [one["event"]["id"] for one in refused.json["current_state"]["items"]] == [said]
    sha256 = hashlib.sha256(b"wait").hexdigest()
    confirm = {"ids": [said], "step": 1, "text": "wait", "sha256": sha256}
    assert ours.agent.post(ours.path("/mailbox/confirm"), confirm).status == 200

    assert ours.agent.post(ours.path("/hold"), wanted).json == {"status": "suspended"}
    card = anna.get(ours.path()).json["run"]
    assert (card["status"], card["hold_at"], card["cost"]) == ("suspended", None, None)
    assert card["since"] is not None
    ours.say("go on")
    ours.store()
    assert ours.agent.get(ours.path("/mailbox?holder=h")).json["items"] == []
    kept = ours.agent.get(ours.path("/checkpoint")).json["checkpoint"]
    assert (kept["text"], kept["step"]) == ("commit 3f2a", 4)
    pause = anna.post(ours.path("/orders"), {"action": "pause"}, Idempotency_Key="p")
    assert (pause.status, pause.json["code"]) == (409, "illegal_move")
    refused = attached.agent.post(attached.path("/hold"), wanted)
    assert (refused.status, refused.json["code"]) == (409, "illegal_move")
    assert attached.agent.get(attached.path("/checkpoint")).json == {"checkpoint": None}
