"""Each limit, one below and one above (security.md 13)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.serving import Api, Attached, Server, attach, until


def test_a_body_may_have_so_many_bytes_and_none_more(own_server: Callable[..., Server]):
    server = own_server(BODY_MAX_BYTES="4096")
    run = attach(server)

    def of(size: int) -> bytes:
        frame = b'{"text":""}'
        return b'{"text":"' + b"x" * (size - len(frame)) + b'"}'

    def post(body: bytes) -> int:
        return run.person.post(run.path("/messages"), body, Content_Type="application/json").status

    assert post(of(4096)) == 201
    assert post(of(4097)) == 413
    assert (
        run.agent.post(run.path("/events"), of(4097), Content_Type="application/json").status == 413
    )


def test_a_text_may_have_so_many_characters_and_none_more(attached: Attached):
    path = attached.path("/messages")
    assert attached.person.post(path, {"text": "x" * 32_768}).status == 201
    assert attached.person.post(path, {"text": "x" * 32_769}).status in {413, 422}
    assert attached.person.post(path, {"text": ""}).status == 422


@pytest.mark.parametrize(
    ("key", "status"),
    [("k" * 128, 201), ("k" * 129, 422), ("with space", 422), ("tab\tbed", 422), ("é", 422)],
)
def test_an_idempotency_key_is_short_and_printable(attached: Attached, key: str, status: int):
    reply = attached.person.post(
        attached.path("/messages"), {"text": "t"}, Idempotency_Key=key.encode().decode("latin-1")
    )
    assert reply.status == status


def test_messages_are_counted_by_the_minute_over_both_doors(own_server: Callable[..., Server]):
    server = own_server(MESSAGES_PER_MINUTE="6")
    run = attach(server)
    for _ in range(6):
        run.say("t")
    spent = run.person.post(run.path("/messages"), {"text": "t"})
    # the minute may turn in the middle: then six more fit
    for _ in range(7):
        if spent.status == 429:
            break
        spent = run.person.post(run.path("/messages"), {"text": "t"})
    assert (spent.status, spent.json["code"]) == (429, "rate_spent")
    assert 1 <= int(spent.headers["retry-after"]) <= 60
    with server.live(run.person) as live:
        live.send(type="send", run_id=run.id, key="k", text="t")
        assert live.next("refused", "sent")["type"] == "refused"


def test_one_principal_holds_so_many_connections_and_another_still_comes_in(
    own_server: Callable[..., Server],
):
    server = own_server(CONNECTIONS_PER_PRINCIPAL="3")
    anna, ben = server.person("Anna"), server.person("Ben")
    sockets = [server.live(anna) for _ in range(3)]
    for live in sockets:
        assert live.next()["type"] == "hello"
    with server.live(anna) as fourth:
        assert fourth.closed_with() == 4429
    with server.live(ben) as other:
        assert other.next()["type"] == "hello"
    sockets[0].ws.close()

    def fits() -> bool:
        with server.live(anna) as again:
            opcode, _ = again.ws.recv_data()
            return opcode == 1

    until(fits)
    for live in sockets[1:]:
        live.ws.shutdown()


def test_broken_json_and_strange_bytes_are_told_so(anna: Api):
    for body in (b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"name": "\\ud800"}', b"NaN", b"null"):
        reply = anna.post("/api/projects", body, Content_Type="application/json")
        assert reply.status in {400, 422}, (body[:20], reply.data)
