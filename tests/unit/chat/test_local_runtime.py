"""Agents as processes: started once, found again, never mistaken for another, gone when told."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from chat.adapters.local_runtime import LocalRuntime
from chat.ids import new_id
from chat.runs import Role, Run, StartKind
from tests.serving import until

SLEEPER = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]
STUBBORN = [
    sys.executable,
    "-c",
    """import os, signal, time
signal.signal(15, signal.SIG_IGN)
os.fork()
print('up', os.getpid(), flush=True)
time.sleep(60)""",
]


class Place:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.argv = SLEEPER
        self.starts = 0
        self.runtime = LocalRuntime(folder, self._command)
        self.run = Run(
            id=new_id("run"), project_id="p", feature_id="f", agent_id="nori", agent_name="Nori",
            role=Role.CODER, start=StartKind.LAUNCH, created_at="2026-11-22T09:33:00.000Z",
        )  # fmt: skip

    def _command(self, _: Run) -> tuple[list[str], Path]:
        self.starts += 1
        return self.argv, self.folder

    def start(self) -> str:
        return self.runtime.start(self.run, token="t", env={"OMAKASE_TOKEN": "t"}).handle

    @property
    def note(self) -> Path:
        return self.folder / self.run.id / "process.json"

    def running(self) -> bool:
        handle = f"local:{self.run.id}"
        return self.runtime.describe([handle])[handle].running

    def output(self) -> str:
        return (self.folder / self.run.id / "output.log").read_text()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    if made.note.exists() and made.running():
        os.killpg(json.loads(made.note.read_text())["pid"], signal.SIGKILL)


def test_two_launches_at_once_start_one_process(place: Place) -> None:
    other = LocalRuntime(place.folder, place._command)
    with ThreadPoolExecutor(4) as pool:
        starts = [
            pool.submit(runtime.start, place.run, token="t", env={})
            for runtime in (place.runtime, other) * 4
        ]
        assert {start.result().handle for start in starts} == {f"local:{place.run.id}"}
    assert place.starts == 1
    assert place.running()


def test_a_process_that_took_over_the_number_is_not_ours_and_is_left_alone(place: Place) -> None:
    handle = place.start()
    pid = json.loads(place.note.read_text())["pid"]
    place.note.write_text(json.dumps({"pid": pid, "started": 1}))
    try:
        assert not place.running()
        place.runtime.stop(handle, grace_s=0)
        assert Path(f"/proc/{pid}").exists()
    finally:
        os.killpg(pid, signal.SIGKILL)


def test_a_process_ends_when_asked(place: Place) -> None:
    handle = place.start()
    place.runtime.stop(handle, grace_s=30)
    until(lambda: not place.running())


def test_one_that_will_not_end_is_killed_with_all_its_children(place: Place) -> None:
    place.argv = STUBBORN
    handle = place.start()
    until(lambda: place.output().count("up") == 2)
    pids = [int(line.split()[1]) for line in place.output().splitlines()]
    place.runtime.stop(handle, grace_s=0.05)
    until(lambda: not any(alive(pid) for pid in pids))


def test_what_a_vanished_process_leaves_behind_is_killed(place: Place) -> None:
    place.argv = STUBBORN
    handle = place.start()
    until(lambda: place.output().count("up") == 2)
    leader = json.loads(place.note.read_text())["pid"]
    [child] = [
        pid
        for pid in map(int, [w.split()[1] for w in place.output().splitlines()])
        if pid != leader
    ]
    os.kill(leader, signal.SIGKILL)
    until(lambda: not place.running())
    assert alive(child)
    place.runtime.stop(handle, grace_s=10)
    until(lambda: not alive(child))


def test_a_program_that_is_not_there_is_an_error_and_may_be_tried_again(place: Place) -> None:
    place.argv = ["/nowhere/to/be/found"]
    with pytest.raises(OSError, match="nowhere"):
        place.start()
    place.argv = SLEEPER
    assert place.start()
    assert place.running()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False
