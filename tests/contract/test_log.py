"""The run log's port on a real Redis: what each call promises by itself."""

from __future__ import annotations

from datetime import UTC, datetime

import orjson
import pytest

from chat.access import SYSTEM
from chat.adapters.redis_log import RedisLog, connect
from chat.drafts import draft, receipt
from chat.errors import IllegalMove, NotFound, Unavailable
from chat.events import MessageBody, ReceiptState, StatusBody
from chat.ids import new_id
from chat.ports import Draft, Log
from chat.runs import RunStatus, sources_of

NOW = datetime(2026, 11, 22, 9, 33, tzinfo=UTC)


@pytest.fixture
def log(redis_url: str) -> RedisLog:
    return RedisLog(connect(redis_url), on_wake=lambda _: None, lost=lambda _: None, key_ttl_s=60)


@pytest.fixture
def run_id(log: Log) -> str:
    name = new_id("run")
    assert log.create(name, token_sha256="0" * 64, drafts=[said(name, "begun")], now_ms=1)
    return name


def said(run_id: str, text: str, *, key: str | None = None) -> Draft:
    body = MessageBody(text=text)
    return draft(run_id, SYSTEM.sender(), body, now=NOW, idempotency_key=key, digest=text)


def moved(run_id: str, status: RunStatus) -> Draft:
    return draft(
        run_id, SYSTEM.sender(), StatusBody(status=status), now=NOW, status=status,
        sources=sources_of(status),
    )  # fmt: skip


def test_forwarding_looks_at_the_named_items_alone_or_at_all_that_wait(
    log: Log, run_id: str
) -> None:
    first, second, late = (
        draft(run_id, SYSTEM.sender(), MessageBody(text=text), now=NOW, mode="steer")
        for text in ("first", "second", "late")
    )
    log.append(run_id, [first, second])
    epoch, head = log.snapshot(run_id).epoch, log.snapshot(run_id).head
    assert log.mark_stored(run_id, head, epoch=epoch, since=0)
    log.append(run_id, [late])
    note = receipt(run_id, SYSTEM.sender(), ReceiptState.STORED, now=NOW)
    assert log.forward(run_id, note, [second.id, late.id, "msg_gone"]) == [second.id]
    assert log.forward(run_id, note) == [first.id]


def test_a_log_is_created_once(log: Log, run_id: str) -> None:
    assert not log.create(run_id, token_sha256="1" * 64, drafts=[said(run_id, "again")], now_ms=2)
    assert log.snapshot(run_id).head == 1
    assert log.token_sha256(run_id) == "0" * 64


def test_numbers_have_no_hole_and_stand_in_the_event_and_in_the_stream(
    log: Log, run_id: str
) -> None:
    for number in range(5):
        log.append(run_id, [said(run_id, f"{number} a"), said(run_id, f"{number} b")])
    records = log.read(run_id, after=0, limit=100)
    assert [record.seq for record in records] == list(range(1, 12))
    assert [orjson.loads(record.data)["seq"] for record in records] == list(range(1, 12))
    assert [record.seq for record in log.read(run_id, after=4, limit=2)] == [5, 6]


def test_an_append_is_whole_or_not_there(log: Log, run_id: str) -> None:
    with pytest.raises(IllegalMove):
        log.append(run_id, [said(run_id, "fine"), moved(run_id, RunStatus.UNRESPONSIVE)])
    assert log.snapshot(run_id).head == 1


def test_a_repeat_is_found_by_its_key_and_the_key_goes_in_time(log: Log, run_id: str) -> None:
    [first] = log.append(run_id, [said(run_id, "once", key="k")])
    [again] = log.append(run_id, [said(run_id, "once", key="k")])
    assert (again.record, first.repeated, again.repeated) == (first.record, False, True)
    client = log._redis  # type: ignore[attr-defined]  # its keys are what this is about
    assert 0 < client.ttl(f"run:{{{run_id}}}:key:k") <= 60


def test_words_that_look_like_the_logs_own_marks_change_nothing(log: Log, run_id: str) -> None:
    for words in ('"@ids"', '"@attempt"', '{"seq":1}', "\u0000 \u2028 🍣 \\", '"@qid"'):
        [done] = log.append(run_id, [said(run_id, words)])
        assert orjson.loads(done.record.data)["body"]["text"] == words


def test_a_trim_keeps_what_is_not_stored_and_the_last_ones(log: Log, run_id: str) -> None:
    for number in range(9):
        log.append(run_id, [said(run_id, str(number))])
    log.trim(run_id, keep=2)
    assert log.read(run_id, after=0, limit=100)[0].seq == 1
    log.mark_stored(run_id, 4)
    log.trim(run_id, keep=2)
    assert log.read(run_id, after=0, limit=100)[0].seq == 5
    log.mark_stored(run_id, 10)
    log.trim(run_id, keep=2)
    assert [record.seq for record in log.read(run_id, after=0, limit=100)] == [9, 10]


def test_the_stored_cursor_goes_forward_and_never_beyond_the_head(log: Log, run_id: str) -> None:
    log.append(run_id, [said(run_id, "two"), said(run_id, "three")])
    stored = []
    for upto in (2, 1, 99):
        assert log.mark_stored(run_id, upto)
        stored.append(log.snapshot(run_id).stored)
    assert stored == [2, 2, 3]
    assert not log.mark_stored(run_id, 3, epoch="ep_of_another_log", since=1)
    assert log.snapshot(run_id).stored == 1


def test_every_call_about_a_run_that_never_was_is_not_found(log: Log) -> None:
    for call in (
        lambda: log.snapshot("run_x"),
        lambda: log.read("run_x", after=0, limit=1),
        lambda: log.item("run_x", "msg_x"),
        lambda: log.token_sha256("run_x"),
        lambda: log.append("run_x", [said("run_x", "x")]),
        lambda: log.mark_stored("run_x", 1),
    ):
        with pytest.raises(NotFound):
            call()
    assert log.brief(["run_x"]) == {}


def test_a_redis_that_is_away_is_an_answer_to_try_again() -> None:
    away = RedisLog(connect("redis://127.0.0.1:1/0"), on_wake=lambda _: None, lost=lambda _: None)
    for call in (
        lambda: away.snapshot("run_x"),
        away.active,
        lambda: away.drain_ends("run_x"),
    ):
        with pytest.raises(Unavailable):
            call()


def test_an_idempotency_key_costs_less_than_300_bytes_an_event(log: Log, run_id: str) -> None:
    client = log._redis  # type: ignore[attr-defined]  # its keys are what this is about
    for number in range(100):
        log.append(run_id, [said(run_id, "x", key=f"agent:{number:032x}")])
    keys = list(client.scan_iter(f"run:{{{run_id}}}:key:*"))
    assert len(keys) == 100
    assert sum(client.memory_usage(key) for key in keys) / 100 < 300
