"""One pass of the watcher over 5,000 running tasks: its calls to AWS, and its seconds.

ECS is a fake on the wire (tests/fake_aws.py) in a process of its own, so boto3, its JSON and its HTTP are
real and the network's way to AWS is not in the figure: `with 50 ms a call` adds that for each call. The
store is SQLite and the log a real Redis. The floor is the least number of calls, tasks / 100.
"""

from __future__ import annotations

import math
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import boto3

from bench.figure import median, options, say
from chat.access import SYSTEM
from chat.adapters import embedded_redis
from chat.adapters.aws_answers import whole_answers
from chat.adapters.ecs_faults import CONFIG
from chat.adapters.ecs_runtime import BATCH, EcsRuntime
from chat.bootstrap import bootstrap
from chat.drafts import draft, iso
from chat.events import StatusBody
from chat.runs import Role, Run, RunStatus, StartKind
from chat.settings import load_settings
from tests.ecs_world import PLACE
from tests.fake_aws import ACCOUNT, KEYS, REGION, FakeAws

WAY_S = 0.05


class NoTasks:
    """A Tasks that loses everything."""

    def enqueue(self, name: str, *args: str) -> None:
        """Nobody is there."""


def fake(count: int, there: Any) -> None:
    """The other process: an account with so many running tasks."""
    aws = FakeAws()
    for number in range(count):
        arn = arn_of(number)
        aws.tasks[arn] = {
            "taskArn": arn, "lastStatus": "RUNNING", "desiredStatus": "RUNNING", "version": 3,
            "startedBy": f"run {number}", "startedAt": time.time(),
            "containers": [{"name": "agent", "lastStatus": "RUNNING"}],
        }  # fmt: skip
    there.send(aws.url)
    there.recv()
    aws.close()


def arn_of(number: int) -> str:
    return f"arn:aws:ecs:{REGION}:{ACCOUNT}:task/agents/{number:032x}"


class Counted:
    """A client that counts its DescribeTasks."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.calls = 0

    def describe_tasks(self, **asked: Any) -> Any:
        self.calls += 1
        return self._client.describe_tasks(**asked)


def timed(what: Callable[[], object]) -> float:
    began = time.perf_counter()
    what()
    return time.perf_counter() - began


def main() -> None:
    quick = options(__doc__).quick
    count, rounds = (500, 3) if quick else (5_000, 5)
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=fake, args=(count, there), daemon=True)
    process.start()
    redis = None
    try:
        url = here.recv()
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            redis = embedded_redis.start(folder / "redis", appendfsync="everysec")
            settings = load_settings(
                {"STATE_DIR": str(folder), "REDIS_URL": redis.url, "RUNTIME": "ecs"}
            )
            client = Counted(
                whole_answers(boto3.client("ecs", REGION, endpoint_url=url, config=CONFIG, **KEYS))
            )
            chat = bootstrap(settings, tasks=NoTasks(), runtime=EcsRuntime(client, None, PLACE))
            chat.store.create_schema()
            with closing(chat.redis):
                now = chat.clock.now()
                for number in range(count):
                    run = Run(
                        id=f"run_{number:026d}", project_id="prj", feature_id="ftr",
                        agent_id="nori", agent_name="Nori", role=Role.CODER,
                        start=StartKind.LAUNCH, created_at=iso(now), handle=arn_of(number),
                        launched_at=iso(now), status=RunStatus.WORKING,
                    )  # fmt: skip
                    chat.store.put_run(run)
                    body = StatusBody(status=RunStatus.WORKING)
                    first = draft(run.id, SYSTEM.sender(), body, now=now)
                    chat.log.create(
                        run.id, token_sha256="x", drafts=[first],  # noqa: S106 - nobody signs in here
                        now_ms=int(now.timestamp() * 1000),
                    )  # fmt: skip
                cold = timed(chat.delivery.watch)
                client.calls = 0
                seconds = median([timed(chat.delivery.watch) for _ in range(rounds)])
                calls = client.calls / rounds
                chat.store.close()  # type: ignore[attr-defined]  # it is SQLite here
        least = math.ceil(count / BATCH)
        tasks = f"{count:,} running tasks"
        say(f"one pass over {tasks}: calls to AWS", calls, "calls", floor=least, target="<= 1")
        say(f"one pass over {tasks}: seconds", seconds, "s", target="<= 15",
            note=f"the first, which reads every row, {cold:.2f} s; with {WAY_S * 1000:.0f} ms a call "
                 f"{seconds + calls * WAY_S:.1f} s of the 15 between two passes")  # fmt: skip
    finally:
        here.send(None)
        process.join(10)
        process.kill()
        if redis is not None:
            redis.stop()


if __name__ == "__main__":
    main()
