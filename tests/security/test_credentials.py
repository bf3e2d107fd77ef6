"""Whose credential opens what: cookies, run tokens, tickets (security.md 1, 4, 5, 19)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis
from flask import Flask

from tests.serving import Api, Attached, Reply, Server, attach, until
from web import auth

AGENTS = [
    ("GET", "/mailbox?holder=h", None),
    ("POST", "/mailbox/confirm", {"ids": ["x"], "step": 1, "text": "t", "sha256": "0" * 64}),
    ("POST", "/mailbox/release", {"holder": "h"}),
    ("POST", "/heartbeat", {"holder": "h"}),
    ("POST", "/events", {"events": [{"key": "k", "kind": "message", "body": {"text": "t"}}]}),
    ("POST", "/deltas", {"message_id": "msg_x", "offset": 0, "text": "t"}),
    ("POST", "/questions", {"handle": "h", "text": "t"}),
    ("POST", "/finish", {"holder": "h", "last_seq": 0, "outcome": "completed"}),
    ("POST", "/hold", {"holder": "h", "generation": 0, "checkpoint": {"text": "t"}}),
    ("GET", "/checkpoint", None),
]
PEOPLES = [
    ("GET", "", None),
    ("GET", "/messages", None),
    ("POST", "/messages", {"text": "t"}),
    ("GET", "/messages/msg_x", None),
    ("PATCH", "/messages/msg_x", {"text": "t"}),
    ("DELETE", "/messages/msg_x", None),
    ("GET", "/messages/stream", None),
    ("POST", "/orders", {"action": "pause"}),
    ("POST", "/questions/que_x/answer", {"text": "t"}),
]


@pytest.mark.parametrize(("method", "path", "body"), AGENTS)
def test_the_agents_paths_take_no_cookie_and_no_other_runs_token(
    server: Server, anna: Api, attached: Attached, method: str, path: str, body: object
):
    full = attached.path(path)
    assert Api(server.port).call(method, full, body).status == 401
    assert anna.call(method, full, body).status == 401
    assert Api(server.port, {"Authorization": "Bearer "}).call(method, full, body).status == 401
    assert Api(server.port, {"Authorization": "Basic x"}).call(method, full, body).status == 401
    forged = Api(server.port, {"Authorization": "Bearer omk_" + "A" * 43})
    assert forged.call(method, full, body).status == 404
    other = attach(server, anna)
    strange = other.agent.call(method, full, body)
    nowhere = other.agent.call(method, "/api/agent-runs/run_nowhere" + path, body)
    assert (strange.status, nowhere.status) == (404, 404)
    assert strange.json == nowhere.json, "the answer tells whether the run is there"


@pytest.mark.parametrize(("method", "path", "body"), PEOPLES)
def test_peoples_paths_take_no_token_and_nobody(
    server: Server, attached: Attached, method: str, path: str, body: object
):
    full = attached.path(path)
    assert Api(server.port).call(method, full, body).status == 401
    assert attached.agent.call(method, full, body).status == 403
    both = Api(server.port, {**attached.person.headers, **attached.agent.headers})
    assert both.call(method, full, body).status == 403


def test_a_token_dies_with_its_run(attached: Attached):
    done = attached.agent.post(
        attached.path("/finish"), {"holder": "h", "last_seq": 0, "outcome": "stopped"}
    )
    assert done.status == 200, done.data
    after = attached.agent.post(attached.path("/heartbeat"), {"holder": "h"})
    assert (after.status, after.json["code"]) == (401, "run_ended")


@pytest.mark.parametrize("cookie", ["omakase_session=forged", "omakase_session=eyJ3aG8iOnt9fQ.x.y"])
def test_a_forged_cookie_is_nobody(server: Server, cookie: str):
    assert Api(server.port, {"Cookie": cookie}).get("/api/session").status == 401


def test_the_cookie_is_kept_from_scripts_and_from_other_sites(server: Server):
    cookie = Api(server.port).post("/api/session", {"name": "Anna"}).headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie


def test_signing_out_takes_the_cookie_back(server: Server, anna: Api):
    reply = anna.call("DELETE", "/api/session")
    assert reply.status == 204
    assert "Max-Age=0" in reply.headers["set-cookie"]


def cookie_of(server: Server, reply: Reply) -> dict[str, Any]:
    """What the signed cookie says that came with the answer."""
    app = Flask("cookies")
    auth.register(app, server.chat.settings)
    serializer = app.session_interface.get_signing_serializer(app)
    value = reply.headers["set-cookie"].partition("omakase_session=")[2].partition(";")[0]
    said: dict[str, Any] = serializer.loads(value)
    return said


@contextmanager
def redis_that_notes_nothing(server: Server) -> Iterator[None]:
    server.chat.redis.execute_command("ACL", "SETUSER", "default", "-set")
    try:
        yield
    finally:
        server.chat.redis.execute_command("ACL", "SETUSER", "default", "+set")


@pytest.mark.parametrize("method", ["DELETE", "POST"])
def test_a_session_whose_end_cannot_be_noted_is_not_said_to_have_ended_and_can_be_ended_again(
    own_server: Callable[..., Server], method: str
):
    server = own_server()
    signed_in = Api(server.port).post("/api/session", {"name": "Anna"})
    sid = cookie_of(server, signed_in)["sid"]
    anna = Api(server.port, {"Cookie": signed_in.headers["set-cookie"].split(";")[0]})
    body = {"name": "Ben"} if method == "POST" else None
    with redis_that_notes_nothing(server):
        reply = anna.call(method, "/api/session", body)
    assert (reply.status, reply.json["code"]) == (503, "unavailable")
    assert "copy of this browser's cookie" in reply.json["detail"]
    assert cookie_of(server, reply) == {"_permanent": True, "sid": sid}
    assert not server.chat.redis.exists(f"signed-out:{sid}")
    browser = Api(server.port, {"Cookie": reply.headers["set-cookie"].split(";")[0]})
    assert browser.get("/api/session").status == 401
    assert browser.call(method, "/api/session", body).status in {201, 204}
    assert server.chat.redis.exists(f"signed-out:{sid}")


def test_signing_in_over_a_session_ends_it(server: Server):
    signed_in = Api(server.port).post("/api/session", {"name": "Anna"})
    anna = Api(server.port, {"Cookie": signed_in.headers["set-cookie"].split(";")[0]})
    again = anna.post("/api/session", {"name": "Anna"})
    assert server.chat.redis.exists(f"signed-out:{cookie_of(server, signed_in)['sid']}")
    assert not server.chat.redis.exists(f"signed-out:{cookie_of(server, again)['sid']}")


@pytest.mark.parametrize(
    "header",
    ["X_Forwarded_For", "Forwarded", "X_Real_IP", "Via", "X_Forwarded_Proto", "X_Forwarded_Host"],
)
def test_local_sign_in_is_shut_when_somebody_is_in_between(server: Server, header: str):
    reply = Api(server.port).post("/api/session", {"name": "Eve"}, **{header: "127.0.0.1"})
    assert reply.status == 403
    body = {"project": "P", "feature": "F", "agent_id": "nori"}
    reply = Api(server.port).post("/api/agent-runs/register", body, **{header: "127.0.0.1"})
    assert reply.status == 401


def test_local_sign_in_can_be_switched_off(own_server: Callable[..., Server]):
    server = own_server(LOCAL_SIGN_IN="off")
    assert Api(server.port).post("/api/session", {"name": "Eve"}).status == 403


def test_behind_a_proxy_with_https_the_cookie_is_secure_and_the_spoofed_address_is_not_believed(
    own_server: Callable[..., Server],
):
    server = own_server(PUBLIC_URL="https://omakase.example", TRUSTED_PROXIES="1")
    reply = Api(server.port).post(
        "/api/session", {"name": "Eve"}, X_Forwarded_For="127.0.0.1, 127.0.0.1"
    )
    assert reply.status == 403
    reply = Api(server.port).post("/api/session", {"name": "Anna"}, Host="omakase.example")
    assert reply.status == 201
    assert "Secure" in reply.headers["set-cookie"]
    assert reply.headers["strict-transport-security"].startswith("max-age=")


def ticket_of(person: Api) -> str:
    reply = person.post("/api/tickets", b"{}", Content_Type="application/json")
    assert reply.status == 201, reply.data
    return str(reply.json["ticket"])


def test_a_ticket_opens_a_socket_once(server: Server, anna: Api, attached: Attached):
    ticket = ticket_of(anna)
    with server.live(None, origin=None) as live:
        live.send(type="auth", ticket=ticket)
        assert live.next()["type"] == "hello"
        assert live.subscribe(attached.id)["type"] == "subscribed"
    with server.live(None, origin=None) as live:
        live.send(type="auth", ticket=ticket)
        assert live.closed_with() == 4401


def test_of_many_who_show_the_same_ticket_one_comes_in(server: Server, anna: Api):
    ticket, came = ticket_of(anna), []
    sockets = [server.live(None, origin=None) for _ in range(8)]

    def show(live) -> None:
        live.send(type="auth", ticket=ticket)
        opcode, _ = live.ws.recv_data()
        came.append(opcode == 1)

    threads = [threading.Thread(target=show, args=(live,)) for live in sockets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for live in sockets:
        live.ws.shutdown()
    assert sorted(came) == [False] * 7 + [True]


def test_a_ticket_that_is_too_old_is_worth_nothing(server: Server, anna: Api):
    with redis.Redis.from_url(server.chat.settings.redis_url) as client:
        of_others = set(client.keys("ticket:*"))
        ticket = ticket_of(anna)
        [key] = set(client.keys("ticket:*")) - of_others
        assert 0 < client.ttl(key) <= 60
        assert ticket.encode() not in key, "the ticket itself is kept"
        client.pexpire(key, 1)
        until(lambda: not client.exists(key))
    with server.live(None, origin=None) as live:
        live.send(type="auth", ticket=ticket)
        assert live.closed_with() == 4401


def test_before_its_ticket_a_socket_may_do_nothing(server: Server, attached: Attached):
    with server.live(None, origin=None) as live:
        live.send(type="subscribe", run_id=attached.id)
        assert live.closed_with() == 4401


def test_the_log_holds_no_words_and_no_secrets(server: Server, anna: Api, attached: Attached):
    ticket = ticket_of(anna)
    with server.live(None, origin=None) as live:
        live.send(type="auth", ticket=ticket)
        live.next("hello")
    attached.say("the password is swordfish")
    attached.person.get(attached.path("/messages/nowhere?x=swordfish"))
    log = server.log.read_text()
    assert attached.id in log
    for secret in ("swordfish", ticket, attached.token, anna.headers["Cookie"]):
        assert secret not in log
