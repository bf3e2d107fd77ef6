"""The runtime's port, on processes of this machine and on ECS (a fake one on the wire)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from chat.adapters.local_runtime import LocalRuntime
from chat.ports import Runtime
from chat.runs import Run
from tests.ecs_world import runtime_on
from tests.fake_aws import FakeAws
from tests.serving import until

SLEEPER = [sys.executable, "-c", "import time; time.sleep(60)"]


@dataclass
class Place:
    """A runtime, and how a test brings its agents to work and to an end."""

    runtime: Runtime
    again: Runtime
    """Another worker's."""
    works: Callable[[str], None]
    obeys: Callable[[], None]
    """From now on who is told to stop does."""


@pytest.fixture(params=["local", "ecs"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "local":
        one, other = (LocalRuntime(tmp_path, lambda _: (SLEEPER, tmp_path)) for _ in range(2))
        yield Place(one, other, lambda _: None, lambda: None)
        for folder in tmp_path.iterdir():
            one.stop(f"local:{folder.name}", grace_s=0)
        return
    fake: FakeAws = request.getfixturevalue("aws")

    def obeys() -> None:
        fake.on_stop = lambda arn: fake.move(arn, "STOPPED", exit_code=143)

    def works(handle: str) -> None:
        fake.move(handle, "RUNNING")

    yield Place(runtime_on(fake), runtime_on(fake), works, obeys)


ENV = {"OMAKASE_TOKEN": "t", "OMAKASE_SERVER": "http://web", "OMAKASE_RUN_ID": "r"}


def start(runtime: Runtime, run: Run) -> str:
    return runtime.start(run, token="t", env=ENV).handle


def test_the_same_run_again_is_the_same_agent_from_any_worker(
    place: Place, new_run: Callable[..., Run]
) -> None:
    run, other = new_run(), new_run()
    handle = start(place.runtime, run)
    assert [start(place.runtime, run), start(place.again, run)] == [handle, handle]
    assert start(place.runtime, other) != handle


def test_a_started_agent_runs_until_it_is_told_to_stop(
    place: Place, new_run: Callable[..., Run]
) -> None:
    handle = start(place.runtime, new_run())
    place.works(handle)
    assert place.again.describe([handle])[handle].running
    assert not place.again.describe([handle])[handle].pending
    place.obeys()
    place.runtime.stop(handle, grace_s=10, reason="Omakase: enough")
    until(lambda: not place.again.describe([handle])[handle].running)


def test_stopping_what_is_gone_or_never_was_is_no_error(
    place: Place, new_run: Callable[..., Run]
) -> None:
    handle = start(place.runtime, new_run())
    place.works(handle)
    place.obeys()
    for _ in range(3):
        place.runtime.stop(handle, grace_s=0)
    until(lambda: not place.runtime.describe([handle])[handle].running)
    place.runtime.stop(handle, grace_s=0)
    place.runtime.stop(handle[:-4] + "0000", grace_s=0)


def test_an_ended_run_settles_once_nothing_of_it_is_left_and_again(
    place: Place, new_run: Callable[..., Run]
) -> None:
    run = new_run()
    handle = start(place.runtime, run)
    place.works(handle)
    place.obeys()
    place.runtime.stop(handle, grace_s=0)
    until(lambda: not place.runtime.describe([handle])[handle].running)
    run = run.model_copy(update={"handle": handle})
    for _ in range(2):
        assert not place.runtime.settle([run], overdue=[])[run.id].running


def test_nothing_is_asked_for_nothing(place: Place) -> None:
    assert place.runtime.describe([]) == {}
    assert place.runtime.settle([], overdue=[]) == {}
