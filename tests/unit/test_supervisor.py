"""scripts/supervisor.py with real processes, in a process of its own: it adopts orphans."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from supervisor import TIED

SCRIPTS = Path(__file__).parents[2] / "scripts"
HARNESS = """
import os, signal, sys
from pathlib import Path
from supervisor import Supervisor, services_of, spawn
def say(line):
    os.write(1, (line + "\\n").encode())  # whole lines, whichever thread says them
supervisor = Supervisor(lambda name, line: say(f"{name}| {line}"))
signal.signal(signal.SIGTERM, lambda *_: supervisor.stopping.set())
for name, command in services_of(Path(sys.argv[1])).items():
    supervisor.add(name, lambda line=command: spawn(line, os.environ))
say("all started")
supervisor.run()
say("all stopped")
"""


class Running:
    """The supervisor's process, and the lines it prints."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.seen: list[str] = []
        self._lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def line(self, pattern: str) -> re.Match[str]:
        """The next line that matches; fails when the output ends or nothing comes for 20 seconds."""
        with contextlib.suppress(queue.Empty):
            while (line := self._lines.get(timeout=20)) is not None:
                self.seen.append(line)
                if match := re.search(pattern, line):
                    return match
        raise AssertionError(f"no line like {pattern!r} in {self.seen}")

    def stop(self) -> None:
        self.process.terminate()
        self.line("all stopped")
        assert self.process.wait(20) == 0


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def supervise(tmp_path: Path) -> Iterator[Callable[[str], Running]]:
    running: list[Running] = []

    def start(procfile: str) -> Running:
        (tmp_path / "Procfile").write_text(procfile)
        process = subprocess.Popen(
            [sys.executable, "-c", HARNESS, str(tmp_path / "Procfile")],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(SCRIPTS), "WHO": "everybody"},
            stdout=subprocess.PIPE,
            text=True,
        )
        running.append(Running(process))
        return running[-1]

    yield start
    for one in running:
        one.process.kill()
        one.process.wait()


def test_lines_come_behind_the_name_and_variables_are_expanded(supervise):
    running = supervise("hello: sh -c 'echo \"hello $WHO\"; exec sleep 60'\n")

    running.line(r"^hello\| hello everybody$")
    running.stop()


def test_a_killed_process_comes_back_and_the_others_run_on(supervise):
    running = supervise(
        "one: sh -c 'echo one $$; exec sleep 60'\ntwo: sh -c 'echo two $$; exec sleep 60'\n"
    )
    pids = {}
    while len(pids) < 2:
        match = running.line(r"\| (one|two) (\d+)")
        pids[match[1]] = int(match[2])

    os.kill(pids["one"], signal.SIGKILL)

    running.line(r"^one\| ended with signal 9; again in 0.5 s")
    assert int(running.line(r"\| one (\d+)")[1]) != pids["one"]
    assert is_running(pids["two"])
    running.stop()
    assert not is_running(pids["two"])


def test_one_that_ends_at_once_waits_longer_each_time(supervise):
    running = supervise("short: sh -c 'exit 3'\n")

    for pause in ("0.5", "1", "2"):
        running.line(rf"^short\| ended with code 3; again in {pause} s")
    running.stop()


def test_services_stop_in_the_opposite_order(supervise):
    line = "sh -c 'trap \"echo bye; exit\" TERM; echo up; while :; do sleep 0.05; done'"
    running = supervise(f"first: {line}\nsecond: {line}\n")
    running.line(r"\| up")
    running.line(r"\| up")

    running.stop()

    byes = [line for line in running.seen if line.endswith("bye")]
    assert byes == ["second| bye", "first| bye"]


@pytest.mark.skipif(sys.platform != "linux", reason="adopting orphans is a thing of Linux")
def test_an_agent_whose_worker_was_killed_lives_on_and_ends_with_us(supervise):
    running = supervise(
        "worker: sh -c 'setsid sh -c \"echo agent \\$\\$; exec sleep 600\" & echo worker $$; wait'\n"
    )
    pids = {}
    while len(pids) < 2:
        match = running.line(r"\| (agent|worker) (\d+)")
        pids[match[1]] = int(match[2])

    os.kill(pids["worker"], signal.SIGKILL)
    running.line("ended with signal 9")
    assert is_running(pids["agent"])

    running.stop()
    assert not is_running(pids["agent"])


@pytest.mark.skipif(sys.platform != "linux", reason="what a process forked is found on Linux")
def test_what_a_killed_service_forked_does_not_outlive_it(supervise):
    running = supervise("web: sh -c 'sleep 600 & echo child $!; exec sleep 600'\n")
    child = int(running.line(r"child (\d+)")[1])
    parent = int(Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[1])

    os.kill(parent, signal.SIGKILL)
    running.line(r"child (\d+)")  # of its successor

    assert not is_running(child)
    running.stop()


@pytest.mark.skipif(not TIED, reason="needs setpriv of util-linux")
def test_services_end_when_the_supervisor_is_killed(supervise):
    running = supervise("one: sh -c 'echo one $$; exec sleep 600'\n")
    pid = int(running.line(r"one (\d+)")[1])

    service = os.pidfd_open(pid)  # readable once that process has ended (pidfd_open(2))

    running.process.kill()

    ended, _, _ = select.select([service], [], [], 20)
    os.close(service)
    assert ended


def test_a_service_is_started_once_though_somebody_looks_while_it_is_added():
    """In a process of its own, since a supervisor takes every stranger below it for its own."""
    told = """
import subprocess
from supervisor import Supervisor
supervisor, started = Supervisor(print), []
def start():
    started.append(1)
    if len(started) == 1:
        supervisor.look()  # as the watching thread may, at this very moment
    return subprocess.Popen(["sleep", "60"], start_new_session=True)
supervisor.add("one", start)
print("started", len(started))
supervisor.stop()
"""
    done = subprocess.run(
        [sys.executable, "-c", told],
        cwd=SCRIPTS,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "started 1\n"
