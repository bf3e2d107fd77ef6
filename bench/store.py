"""Events that one worker process brings into the database in a second, against a Celery task per event.

Ours: one `store` task drains the log in batches. The peer: a task for each event, with the same payload,
the same database and a worker of the same settings; its tasks are all in the queue before it may begin.
One worker process each, never at the same time. On SQLite, and on DynamoDB's stand-in (dynalite).
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence

import npm
from celery import Celery

from bench import ROOT
from bench.figure import median, options, say, skip
from bench.load import appends
from bench.stage import Stage, until
from chat.ports import Record

CELERY = "--without-gossip --without-mingle --loglevel=INFO --concurrency=1"
PEER = "peer@bench"
"""The peer's worker by its name: ours hears the same broadcasts, and must not take its tasks."""


def write(stage: Stage, run: str, count: int) -> list[Record]:
    """A log of that many messages, as fast as Redis takes them."""
    pipe = stage.chat.redis.connection_pool.get_connection()
    sent = appends(stage, [run] * count)
    for start in range(0, count, 500):
        pipe.send_packed_command(sent[start : start + 500])
        for _ in sent[start : start + 500]:
            pipe.read_response()
    stage.chat.redis.connection_pool.release(pipe)
    return stage.chat.log.read(run, after=0, limit=count + 10)


def ours(stage: Stage, events: int) -> float:
    """Events a second of one drain."""
    run = stage.runs(1)[0][0]
    write(stage, run, events)
    head = stage.chat.log.snapshot(run).head
    client = Celery("client", broker=stage.redis.url)
    began = time.perf_counter()
    client.send_task("store", args=(run,), queue="live")
    until(lambda: stage.chat.log.brief([run])[run].stored >= head, "drained", 120)
    took = time.perf_counter() - began
    stored = stage.chat.store.events(run, before=head + 1, limit=1).records
    assert stored
    assert stored[-1].seq == head
    return head / took


def peer(stage: Stage, events: int) -> float:
    """Events a second of one task each."""
    run = stage.runs(1)[0][0]
    stage.chat.delivery.drain(run)
    records: Sequence[Record] = write(stage, run, events)[-events:]
    last = records[-1].seq
    client = Celery("client", broker=stage.redis.url)
    client.control.cancel_consumer("peer", destination=[PEER], reply=True, timeout=2)
    with client.producer_pool.acquire() as producer:
        for record in records:
            client.send_task(
                "keep",
                args=(run, record.seq, record.data.decode()),
                queue="peer",
                producer=producer,
            )
    began = time.perf_counter()
    client.control.add_consumer("peer", destination=[PEER])
    until(lambda: stage.chat.store.event(run, last) is not None, "all tasks done", 120)
    return events / (time.perf_counter() - began)


def dynalite() -> subprocess.Popen[bytes]:
    """A second implementation of DynamoDB, in memory. Raises npm.NpmError."""
    folder = ROOT / "tests" / "node"
    npm.install(folder)
    return subprocess.Popen(
        ["node", str(folder / "dynalite.js")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


def compare(
    name: str, target: str, sizes: tuple[int, int, int], env: dict[str, str] | None = None
) -> None:
    events, tasks, rounds = sizes
    with Stage(env) as stage:
        stage.chat.store.create_schema()
        stage.worker(concurrency=1)
        worker = stage.start(
            "peer-worker", f"celery -A bench.peer_tasks worker {CELERY} -n {PEER} -Q peer"
        )
        until(lambda: b" ready." in worker.said(), "the peer's worker")
        mine, theirs = [], []
        for _ in range(rounds):
            mine.append(ours(stage, events))
            theirs.append(peer(stage, tasks))
    say(f"events stored, {name} / one Celery task each", median(mine), "/s", floor=median(theirs),
        target=target, note="one worker process")  # fmt: skip


def main() -> None:
    quick = options(__doc__).quick
    compare("SQLite", ">= 20", (2_000, 100, 1) if quick else (20_000, 1_000, 3))
    try:
        server = dynalite()
    except npm.NpmError as error:
        skip("events stored, DynamoDB stand-in / one Celery task each", str(error), ">= 10")
        return
    try:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        compare(
            "DynamoDB stand-in", ">= 10", (500, 50, 1) if quick else (5_000, 300, 3),
            {"DATABASE": f"dynamodb://?endpoint=http://127.0.0.1:{port}&region=eu-central-1"},
        )  # fmt: skip
    finally:
        server.kill()
        server.wait()


if __name__ == "__main__":
    main()
