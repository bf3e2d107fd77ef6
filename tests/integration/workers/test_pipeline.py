"""A pipeline through real Celery workers, one of which is killed while the work is on its way.

No agent can be started here (AGENT=none), so each role fails, is tried once more, and fails again; the
person skips it, and the next one begins. Every step of that is a worker's.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from chat.adapters.embedded_redis import EmbeddedRedis
from chat.pipeline import handover_id
from chat.requests import SkipRole
from chat.roles import ROLES
from tests.integration.workers.test_workers import Machine, kill, wait_until
from tests.pipelines import Line, feature
from tests.world import ANNA


@pytest.fixture
def machine(redis_server: EmbeddedRedis, tmp_path: Path) -> Iterator[Machine]:
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()
    made = Machine(
        {
            "STATE_DIR": str(tmp_path / "state"),
            "SECRET_KEY": "only-for-tests-" * 3,
            "REDIS_URL": redis_server.url,
            "AGENT": "none",
        }
    )
    yield made
    made.close()


def is_told(line: Line, turns: int) -> bool:
    """Whether people were told that it is failing after so many turns."""
    row = line.world.chat.store.feature(line.feature_id)
    assert row is not None
    assert row.pipeline is not None
    return row.pipeline.told == turns


def test_roles_follow_one_another_through_workers_that_are_killed(machine: Machine) -> None:
    victim = machine.workers[machine.somebody()]
    line = feature(machine.world)
    line.start()
    for number, role in enumerate(ROLES.line):
        if number == 1:
            kill(victim)  # with whatever it has taken
            machine.somebody()
        turns = 2 * (number + 1)

        looks = itertools.count()

        def comes_there(turns: int = turns, looks: itertools.count[int] = looks) -> bool:
            if next(looks) % 20 == 0:
                machine.queue("sweep")  # as beat does it
            return is_told(line, turns)

        wait_until(comes_there, f"the {role} has failed twice, and people were told")
        assert (line.state(), line.turns()[-2:]) == (
            "failing",
            [(role, "next"), (role, "retry")],
        )
        machine.world.chat.pipelines.skip(ANNA, line.feature_id, SkipRole(role=role))
    wait_until(lambda: line.state() == "done", "every role is skipped")
    runs = line.runs()
    assert [run.id for run in runs] == [turn["run_id"] for turn in line.view()["turns"]]
    assert len(runs) == 2 * len(ROLES.line)
    for run in runs:
        events = line.events(run.id)
        said = Counter(event["id"] for event in events if event["kind"] == "message")
        assert said == {handover_id(run.id): 1}
        words = [event["body"]["summary"] for event in events if event["kind"] == "error"]
        assert "could not be started" in words[0]
        assert len(words) == 1 + (run.turn is not None and run.turn % 2 == 0)
    wait_until(lambda: not machine.world.chat.store.projects()[0].places, "it has left the queue")
