from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_hooks.spool import MAX_BYTES, Spool, SpoolFull, frame

ROOT = Path(__file__).resolve().parents[3]


OPEN: list[Spool] = []


def opened(folder: Path, *, max_bytes: int = MAX_BYTES) -> Spool:
    OPEN.append(Spool(folder, max_bytes=max_bytes))
    return OPEN[-1]


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while OPEN:
        OPEN.pop().close()


def event(number: int, kind: str = "message", size: int = 0) -> dict[str, Any]:
    body: dict[str, Any] = {"text": f"{number}" + "x" * size}
    if kind == "log":
        body = {"first_line": number, "lines": [{"text": "x" * size}]}
    return {"op": "event", "event": {"key": f"k{number}", "kind": kind, "body": body}}


def drained(spool: Spool) -> list[dict[str, Any]]:
    records = []
    while (batch := spool.next_batch()).records:
        records += batch.records
        spool.acknowledge(batch)
    return records


def test_what_went_in_comes_out_in_order_and_leaves_an_empty_file(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    records = [event(number) for number in range(250)]
    spool.append(records[:100])
    spool.append(records[100:])
    assert drained(spool) == records
    assert spool.pending_bytes() == 0
    assert (tmp_path / "spool.bin").stat().st_size < 100


def test_batches_keep_to_the_limits_of_the_wire(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.append([event(number, size=10_000) for number in range(60)])
    batch = spool.next_batch()
    assert 20 <= len(batch.records) <= 26
    spool.append([event(number) for number in range(500)])
    sizes = []
    while (batch := spool.next_batch()).records:
        sizes.append(len(batch.records))
        spool.acknowledge(batch)
    assert max(sizes) == 100
    assert sum(sizes) == 560


def test_a_confirmation_keeps_its_place_between_events_and_goes_alone(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    confirm = {"op": "confirm", "ids": ["m"], "step": 1, "text": "t", "sha256": "0"}
    spool.append([event(1), event(2), confirm, event(3)])
    batches = []
    while (batch := spool.next_batch()).records:
        batches.append([record["op"] for record in batch.records])
        spool.acknowledge(batch)
    assert batches == [["event", "event"], ["confirm"], ["event"]]


def test_what_is_acknowledged_is_not_sent_again_after_a_restart(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.append([event(number) for number in range(10)])
    spool.acknowledge(spool.next_batch(max_events=4))
    again = opened(tmp_path)
    assert drained(again) == [event(number) for number in range(4, 10)]


@given(cut=st.integers(min_value=0), garbage=st.binary(max_size=40))
def test_a_file_torn_at_any_byte_keeps_all_whole_records_before(
    tmp_path_factory: pytest.TempPathFactory, cut: int, garbage: bytes
) -> None:
    folder = tmp_path_factory.mktemp("spool")
    spool = opened(folder)
    records = [event(number, size=number) for number in range(5)]
    spool.append(records)
    spool.close()
    path = folder / "spool.bin"
    data = path.read_bytes()
    head = data.index(b"\n") + 1
    cut = head + cut % (len(data) - head + 1)
    path.write_bytes(data[:cut] + garbage)
    ends = [head, *(head + n for n in itertools.accumulate(len(frame(r)) for r in records))]
    whole = max(number for number, end in enumerate(ends) if end <= cut)
    again = opened(folder)
    assert drained(again)[:whole] == records[:whole]
    again.append([event(99)])
    assert drained(again) == [event(99)]
    again.close()


def test_a_writer_killed_at_any_moment_leaves_an_unbroken_beginning(tmp_path: Path) -> None:
    script = f"""
import sys; sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from agent_hooks.spool import Spool
spool = Spool(Path({str(tmp_path)!r}))
for n in range(10**6):
    event = {{"key": str(n), "kind": "message", "body": {{"text": "x" * (n % 500)}}}}
    spool.append([{{"op": "event", "event": event}}], durable=n % 7 == 0)
    if n % 50 == 0: print(n, flush=True)
"""
    first = 0
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            promised = 0
            for _ in range(5):
                promised = int(writer.stdout.readline())
            os.kill(writer.pid, signal.SIGKILL)
        spool = opened(tmp_path)
        keys = [int(record["event"]["key"]) for record in drained(spool)]
        spool.close()
        assert keys == list(range(len(keys)))
        assert len(keys) > promised
        first += len(keys)
    assert first > 0


def test_when_it_is_full_log_lines_go_first_and_a_line_says_how_many(tmp_path: Path) -> None:
    spool = opened(tmp_path, max_bytes=100_000)
    spool.append([event(1)])
    for number in range(2, 202):
        spool.append([event(number, "log", 1_000)])
    spool.append([event(500)])
    records = drained(spool)
    kinds = [record["event"]["kind"] for record in records]
    assert kinds[0] == kinds[-1] == "message"
    note = records[1]["event"]["body"]
    assert note["first_line"] == 2
    kept = kinds.count("log") - 1
    assert note["lines"][0]["text"].startswith(f"[{200 - kept} lines are missing")
    assert [r["event"]["body"]["first_line"] for r in records[2:-1]] == list(range(202 - kept, 202))


def test_messages_are_never_dropped_not_even_when_it_is_full(tmp_path: Path) -> None:
    spool = opened(tmp_path, max_bytes=10_000)

    def fill() -> None:
        for number in range(100):
            spool.append([event(number, size=500)])

    with pytest.raises(SpoolFull):
        fill()
    numbers = [record["event"]["key"] for record in drained(spool)]
    assert numbers == [f"k{number}" for number in range(len(numbers))]
    assert len(numbers) > 10


def test_an_acknowledgement_of_before_lines_were_dropped_removes_nothing(tmp_path: Path) -> None:
    spool = opened(tmp_path, max_bytes=50_000)
    spool.append([event(1)])
    batch = spool.next_batch()
    for number in range(2, 100):
        spool.append([event(number, "log", 1_000)])
    spool.acknowledge(batch)
    assert drained(spool)[0] == event(1)
