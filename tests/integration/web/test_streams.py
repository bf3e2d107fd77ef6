"""Server-sent events, read as bytes off a real connection."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Self

from chat.ids import new_id
from tests.serving import Api, Attached, Server, attach, raw


class Stream:
    """A reader of the event stream format (WHATWG HTML section 9.2.6)."""

    def __init__(self, run: Attached, query: str = "", **headers: str) -> None:
        self.sock: socket.socket = raw(run.server.port)
        sent = {"Host": "127.0.0.1", **run.person.headers, **headers}
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in sent.items())
        path = run.path(f"/messages/stream{query}")
        self.sock.sendall(f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode())
        self.file = self.sock.makefile("rb")
        self.status = int(self.file.readline().split()[1])
        self.headers = {}
        while line := self.file.readline().strip():
            name, _, value = line.decode().partition(": ")
            self.headers[name.lower()] = value

    def next(self) -> dict[str, str] | None:
        """The next event's fields, None at the end."""
        fields: dict[str, str] = {}
        for line in self.file:
            words = line.decode().rstrip("\n")
            if not words and fields:
                return fields
            if words and not words.startswith(":"):
                name, _, value = words.partition(": ")
                fields[name] = value
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.sock.close()


def test_a_stream_begins_with_where_the_run_stands_then_events_with_their_ids(attached: Attached):
    attached.say("one")
    with Stream(attached, "?after=0") as stream:
        assert (stream.status, stream.headers["content-type"]) == (
            200, "text/event-stream; charset=utf-8",
        )  # fmt: skip
        first = stream.next()
        assert first["event"] == "connection"
        assert "id" not in first
        told = json.loads(first["data"])
        assert (told["resume"], told["head"]) == ("ok", 2)
        events = [stream.next(), stream.next()]
        assert [event["event"] for event in events] == ["status", "message"]
        assert [event["id"] for event in events] == [f"{told['epoch']}:1", f"{told['epoch']}:2"]
        attached.say("two")
        assert json.loads(stream.next()["data"])["body"]["text"] == "two"


def test_last_event_id_wins_over_after(attached: Attached):
    for word in "abc":
        attached.say(word)
    with Stream(attached, "?after=0") as stream:
        stream.next()
        seen = [stream.next() for _ in range(3)][-1]["id"]
    with Stream(attached, "?after=0", Last_Event_ID=seen) as stream:
        assert json.loads(stream.next()["data"])["resume"] == "ok"
        assert json.loads(stream.next()["data"])["seq"] == 4


def test_an_id_of_another_log_is_told_gap(attached: Attached):
    with Stream(attached, Last_Event_ID="ep_another:1") as stream:
        assert json.loads(stream.next()["data"])["resume"] == "gap"


def test_deltas_pass_without_an_id(attached: Attached):
    with Stream(attached) as stream:
        stream.next()
        body = {"message_id": new_id("msg"), "offset": 0, "text": "Thinking"}
        attached.agent.post(attached.path("/deltas"), body)
        delta = stream.next()
        assert (delta["event"], "id" in delta) == ("delta", False)
        assert json.loads(delta["data"])["text"] == "Thinking"


def test_a_stream_of_a_run_that_is_not_there_is_a_plain_404(server: Server, anna: Api):
    reply = anna.get("/api/agent-runs/run_nowhere/messages/stream")
    assert (reply.status, reply.json["code"]) == (404, "not_found")


def test_a_server_that_ends_ends_its_streams(own_server: Callable[..., Server]):
    server = own_server()
    run = attach(server)
    with Stream(run) as stream:
        stream.next()
        server.process.terminate()
        assert stream.next() is None
    assert server.process.wait(20) == 0
