"""Role x action, over HTTP and over the WebSocket: a level that is not named for it may not."""

from __future__ import annotations

import pytest
from flask import Flask

from chat.ids import new_id
from tests.serving import Api, Attached, Server
from web import auth

LEVELS = ["viewer", "commenter", "operator", "owner"]
READ, WRITE, STEER, MAKE = LEVELS, LEVELS[1:], LEVELS[2:], LEVELS[3:]


def person_of(server: Server, level: str) -> Api:
    """Somebody whom sign-in would have given this level."""
    app = Flask("cookies")
    auth.register(app, server.chat.settings)
    serializer = app.session_interface.get_signing_serializer(app)
    who = {"id": new_id("usr"), "name": level, "level": level}
    cookie = serializer.dumps({"_permanent": True, "who": who})
    return Api(server.port, {"Cookie": f"omakase_session={cookie}"})


ACTIONS = [
    ("read the log", "GET", "{run}/messages", None, READ),
    ("read the run", "GET", "{run}", None, READ),
    ("read the questions", "GET", "{run}/questions", None, READ),
    ("list the projects", "GET", "/api/projects", None, READ),
    ("say something", "POST", "{run}/messages", {"text": "t"}, WRITE),
    ("edit", "PATCH", "{run}/messages/{message}", {"text": "u"}, WRITE),
    ("take back", "DELETE", "{run}/messages/{message}", None, WRITE),
    ("answer", "POST", "{run}/questions/{question}/answer", {"text": "yes"}, STEER),
    ("order", "POST", "{run}/orders", {"action": "check_in", "every_steps": 3}, STEER),
    ("look at a pipeline", "GET", "/api/features/{feature}/pipeline", None, READ),
    ("look at all pipelines", "GET", "/api/projects/{project}/pipelines", None, READ),
    ("start a pipeline", "POST", "/api/features/{fresh}/pipeline", {}, STEER),
    ("say what comes after what", "PUT", "/api/features/{feature}/after", {"after": []}, STEER),
    ("make a project", "POST", "/api/projects", {"name": "P"}, MAKE),
    ("make a feature", "POST", "/api/projects/{project}/features", {"name": "F"}, MAKE),
    ("make a run", "POST", "/api/agent-runs",
     {"feature_id": "{feature}", "agent_id": "nori", "start": "attach"}, MAKE),
    ("register an agent", "POST", "/api/agent-runs/register",
     {"feature_id": "{feature}", "agent_id": "nori"}, MAKE),
]  # fmt: skip


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("what", "method", "path", "body", "allowed"), ACTIONS)
def test_each_level_may_do_what_is_its_own_and_no_more(
    server: Server, attached: Attached, level: str, what: str, method: str, path: str,
    body: dict | None, allowed: list[str],
):  # fmt: skip
    actor = person_of(server, level)
    run = attached.person.get(attached.path()).json["run"]
    author = actor if level in WRITE else attached.person  # words are changed by who wrote them
    said = author.post(attached.path("/messages"), {"text": "first"})
    question = attached.agent.post(attached.path("/questions"), {"handle": "h", "text": "?"})
    features = f"/api/projects/{run['project_id']}/features"
    names = {
        "fresh": attached.person.post(features, {"name": "Fresh"}).json["id"],
        "run": attached.path(),
        "project": run["project_id"],
        "feature": run["feature_id"],
        "message": said.json["event"]["id"],
        "question": question.json["event"]["id"],
    }
    if body is not None:
        body = {k: v.format(**names) if isinstance(v, str) else v for k, v in body.items()}
    head = attached.person.get(attached.path("/messages")).json["head"]
    reply = actor.call(method, path.format(**names), body, If_Match='"v1"')
    if level in allowed:
        assert reply.status in {200, 201}, reply.data
    else:
        assert (reply.status, reply.json["code"]) == (403, "forbidden")
        assert attached.person.get(attached.path("/messages")).json["head"] == head


@pytest.mark.parametrize("level", LEVELS)
def test_the_same_holds_on_the_socket(server: Server, attached: Attached, level: str):
    with server.live(person_of(server, level)) as live:
        assert live.subscribe(attached.id)["type"] == "subscribed"
        live.send(type="send", run_id=attached.id, key="k", text="t")
        answer = live.next("sent", "refused")
        assert answer["type"] == ("sent" if level in WRITE else "refused")
        if level not in WRITE:
            assert answer["problem"]["code"] == "forbidden"
            live.send(type="typing", run_id=attached.id)
            assert live.next("refused")["problem"]["status"] == 403
