"""The WebSocket, in a real web process on a real Redis."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Self

import pytest

from chat.access import SYSTEM
from chat.adapters.embedded_redis import EmbeddedRedis
from chat.bootstrap import Chat
from chat.ids import new_id
from chat.requests import PostMessage
from chat.service.live import SINCE_MAX
from tests.serving import Api, Attached, Server, attach, pubsub_cut, until


def seqs(events: list[dict]) -> list[int]:
    return [event["seq"] for event in events]


def test_a_subscriber_is_greeted_told_where_the_run_stands_and_given_what_it_lacks(
    server: Server, anna: Api, attached: Attached
):
    attached.say("one")
    with server.live(anna) as live:
        assert live.next() == {"type": "hello", "heartbeat_ms": 15_000}
        told = live.subscribe(attached.id, after=0)
        assert (told["resume"], told["head"]) == ("ok", 2)
        assert told["snapshot"]["items"][0]["state"] == "accepted"
        assert seqs(live.events(2)) == [1, 2]


def test_what_is_said_over_http_is_on_the_socket_with_the_same_bytes(
    server: Server, anna: Api, attached: Attached
):
    with server.live(anna) as live:
        live.subscribe(attached.id, after=None)
        said = attached.say("call it total_price").json["event"]
        assert live.next("event") == {"type": "event", "run_id": attached.id, "event": said}


def test_without_a_cursor_the_reader_begins_at_the_head(
    server: Server, anna: Api, attached: Attached
):
    attached.say("before")
    with server.live(anna) as live:
        live.subscribe(attached.id, after=None)
        attached.say("after")
        assert live.next("event")["event"]["body"]["text"] == "after"


def test_who_comes_back_gets_only_what_is_missing(server: Server, anna: Api, attached: Attached):
    for word in ("a", "b", "c", "d"):
        attached.say(word)
    with server.live(anna) as live:
        epoch = live.subscribe(attached.id, after=3)["epoch"]
        assert seqs(live.events(2)) == [4, 5]
        live.close()
    attached.say("e")
    with server.live(anna) as live:
        assert live.subscribe(attached.id, after=5, epoch=epoch)["resume"] == "ok"
        attached.say("f")
        assert seqs(live.events(2)) == [6, 7]


@pytest.mark.parametrize(("after", "epoch"), [(1, "ep_another"), (99, None)])
def test_a_cursor_of_another_log_is_told_gap(
    server: Server, anna: Api, attached: Attached, after: int, epoch: str | None
):
    with server.live(anna) as live:
        assert live.subscribe(attached.id, after=after, epoch=epoch)["resume"] == "gap"
        attached.say("goes on from the head")
        assert seqs(live.events(1)) == [2]


def test_one_socket_holds_many_runs_and_lets_go_of_one(server: Server, anna: Api):
    runs = [attach(server, anna) for _ in range(3)]
    with server.live(anna) as live:
        for run in runs:
            live.subscribe(run.id, after=None)
        live.send(type="unsubscribe", run_id=runs[0].id)
        for run in runs:
            run.say("hello")
        heard = [live.next("event")["run_id"] for _ in range(2)]
        assert sorted(heard) == sorted(run.id for run in runs[1:])


def test_a_message_is_sent_once_however_often_the_socket_repeats_it(
    server: Server, anna: Api, attached: Attached
):
    with server.live(anna) as live:
        frame = {"type": "send", "run_id": attached.id, "key": "k1", "text": "once"}
        live.send(**frame)
        first = live.next("sent")
        live.send(**frame)
        second = live.next("sent")
        assert (first["repeated"], second["repeated"]) == (False, True)
        assert first["event"] == second["event"]
        live.send(**{**frame, "text": "another"})
        assert live.next("refused")["problem"]["code"] == "idempotency_mismatch"


def test_commands_of_one_socket_are_carried_out_in_their_order(
    server: Server, anna: Api, attached: Attached
):
    with server.live(anna) as live:
        for number in range(40):
            live.send(type="send", run_id=attached.id, key=f"k{number}", text=str(number))
        texts = [live.next("sent")["event"]["body"]["text"] for _ in range(40)]
        assert texts == [str(number) for number in range(40)]


def test_typing_and_read_marks_reach_the_others(server: Server, anna: Api, attached: Attached):
    ben = server.person("Ben")
    with server.live(anna) as hers, server.live(ben) as his:
        hers.subscribe(attached.id, after=None)
        his.send(type="typing", run_id=attached.id)
        assert hers.next("typing")["who"]["name"] == "Ben"
        his.send(type="read", run_id=attached.id, seq=1)
        assert hers.next("read")["seq"] == 1


def test_whoever_watches_a_project_is_told_that_its_runs_changed(
    server: Server, anna: Api, attached: Attached
):
    project_id = anna.get(attached.path()).json["run"]["project_id"]
    with server.live(anna) as live:
        live.send(type="watch", project_id=project_id)
        live.subscribe(attached.id, after=None)  # answered later than the watch was taken

        def told() -> bool:
            attach(server, anna)
            live.ws.settimeout(0.5)
            try:
                return live.next("runs") == {"type": "runs", "project_id": project_id}
            except TimeoutError:
                return False

        until(told)


def test_an_unknown_run_is_refused_and_the_socket_goes_on(
    server: Server, anna: Api, attached: Attached
):
    with server.live(anna) as live:
        refused = live.subscribe(new_id("run"))
        assert (refused["type"], refused["problem"]["status"]) == ("refused", 404)
        assert live.subscribe(attached.id)["type"] == "subscribed"


def test_streamed_text_is_whole_for_who_comes_in_the_middle(
    server: Server, anna: Api, attached: Attached
):
    message_id, words = new_id("msg"), [f"word{n} " for n in range(60)]
    done = threading.Event()

    def speak() -> None:
        offset = 0
        for word in words:
            body = {"message_id": message_id, "offset": offset, "text": word}
            reply = attached.agent.post(attached.path("/deltas"), body)
            assert reply.status == 200, reply.data
            offset = reply.json["units"]
        done.set()

    speaker = threading.Thread(target=speak)
    speaker.start()
    readers = []
    try:
        while not done.is_set():
            live = server.live(anna)
            readers.append((live, live.subscribe(attached.id, after=None)))
    finally:
        speaker.join()
    whole = "".join(words)
    for live, told in readers:
        with live:
            open_texts = told["snapshot"]["open_texts"]
            text = open_texts[0]["text"] if open_texts else ""
            while len(text) < len(whole):
                delta = live.next("delta")
                assert delta["offset"] <= len(text), "a piece is missing"
                text = text[: delta["offset"]] + delta["text"]
            assert text == whole


class Flow:
    """Appends to a run from beside the web process, until told to stop."""

    def __init__(self, chat: Chat, attached: Attached, most: int) -> None:
        self.stop = threading.Event()
        self.last = 0
        self._chat, self._attached, self._most = chat, attached, most
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        for number in range(self._most):
            if self.stop.is_set():
                break
            body = PostMessage(text=f"number {number}")
            self.last = self._chat.messages.post(SYSTEM, self._attached.id, body).seq

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self._thread.join()


def test_nobody_misses_or_repeats_anything_by_joining_in_the_middle_of_a_flow(
    server: Server, anna: Api, attached: Attached
):
    readers = []
    with Flow(server.chat, attached, 900) as flow:
        for number in range(16):
            until(lambda wanted=number * 20: flow.last >= wanted)
            live = server.live(anna)
            after = [0, None, max(0, flow.last - 5)][number % 3]
            told = live.subscribe(attached.id, after=after)
            readers.append((live, told["head"] if after is None else after))
        until(lambda: flow.last >= 600)
    for live, cursor in readers:
        with live:
            heard = seqs(live.events(flow.last - cursor))
            assert heard == list(range(cursor + 1, flow.last + 1))


def test_a_cut_connection_to_redis_leaves_no_hole_and_no_double(
    server: Server, anna: Api, attached: Attached, web_redis: EmbeddedRedis
):
    with server.live(anna) as first, server.live(anna) as second:
        first.subscribe(attached.id, after=0)
        second.subscribe(attached.id, after=None)
        with Flow(server.chat, attached, 3_000) as flow:
            for wanted in (100, 250, 400):
                until(lambda wanted=wanted: flow.last >= wanted)
                assert pubsub_cut(web_redis.url) >= 1
            until(lambda: flow.last >= 600)
        assert seqs(first.events(flow.last)) == list(range(1, flow.last + 1))
        assert seqs(second.events(flow.last - 1)) == list(range(2, flow.last + 1))


def test_what_was_said_last_before_the_cut_comes_although_nothing_follows(
    server: Server, anna: Api, attached: Attached, web_redis: EmbeddedRedis
):
    with server.live(anna) as live:
        live.subscribe(attached.id, after=None)
        pubsub_cut(web_redis.url)
        attached.say("into the silence")
        assert live.next("event")["event"]["body"]["text"] == "into the silence"


def test_a_long_history_is_replayed_to_a_reader_that_takes_its_time(
    server: Server, anna: Api, attached: Attached
):
    text = "x" * 8_000
    report = {"events": [{"key": "", "kind": "message", "body": {"text": text}}] * 50}
    for batch in range(10):
        for number, event in enumerate(report["events"]):
            report["events"][number] = {**event, "key": f"{batch}-{number}"}
        assert attached.agent.post(attached.path("/events"), report).status == 200
    with server.live(anna, sockopt=[(1, 8, 4_096)]) as live:  # SO_RCVBUF: a narrow reader
        live.subscribe(attached.id, after=0)
        assert seqs(live.events(501)) == list(range(1, 502))


def test_a_history_longer_than_one_reading_of_it_is_replayed_whole(
    server: Server, anna: Api, attached: Attached
):
    count = SINCE_MAX + 100
    for start in range(1, count + 1, 100):
        events = [
            {"key": f"k{n}", "kind": "log", "body": {"first_line": n, "lines": [{"text": "."}]}}
            for n in range(start, start + 100)
        ]
        assert attached.agent.post(attached.path("/events"), {"events": events}).status == 200
    with server.live(anna) as live:
        live.subscribe(attached.id, after=0)
        assert seqs(live.events(count + 1)) == list(range(1, count + 2))


def test_a_reader_that_stalls_is_told_to_resume_delays_nobody_and_misses_nothing(
    server: Server, anna: Api, attached: Attached
):
    with server.live(anna, sockopt=[(1, 8, 4_096)]) as slow, server.live(anna) as quick:
        slow.subscribe(attached.id, after=1)
        quick.subscribe(attached.id, after=1)
        text, sent = "y" * 30_000, 1
        for batch in range(11):  # more than the kernel's buffers and ours hold
            events = [
                {"key": f"{batch}-{n}", "kind": "message", "body": {"text": text}}
                for n in range(20)
            ]
            assert attached.agent.post(attached.path("/events"), {"events": events}).status == 200
            sent += 20
            assert seqs(quick.events(20)) == list(range(sent - 19, sent + 1))
        cursor = 1
        while True:
            opcode, data = slow.ws.recv_data()
            if opcode == 8:
                assert int.from_bytes(data[:2]) == 4_000
                break
            frame = json.loads(data)
            if frame["type"] == "event":
                assert frame["event"]["seq"] == cursor + 1
                cursor += 1
    assert cursor < sent
    with server.live(anna) as live:
        live.subscribe(attached.id, after=cursor)
        assert seqs(live.events(sent - cursor)) == list(range(cursor + 1, sent + 1))


def test_a_server_that_ends_says_come_back_to_everybody(own_server: Callable[..., Server]):
    server = own_server()
    run = attach(server)
    with server.live(run.person) as live, server.live(run.person) as idle:
        live.subscribe(run.id)
        server.process.terminate()
        assert live.closed_with() == 1001
        assert idle.closed_with() == 1001
    assert server.process.wait(20) == 0


def test_two_web_processes_show_the_same_run(
    server: Server, anna: Api, attached: Attached, own_server: Callable[..., Server]
):
    other = own_server(
        DATABASE=server.environ.get("DATABASE", f"sqlite:///{server.chat.settings.sqlite_path}")
    )
    ben = other.person("Ben")
    with server.live(anna) as here, other.live(ben) as there:
        here.subscribe(attached.id, after=None)
        there.subscribe(attached.id, after=None)
        there.send(type="send", run_id=attached.id, key="k", text="from the other process")
        assert here.next("event")["event"] == there.next("event")["event"]
