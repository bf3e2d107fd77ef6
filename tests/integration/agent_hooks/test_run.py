"""`run -- COMMAND`: output, signals, exit codes, and how the run ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent_hooks.state import StateDir, read_json

Hooks = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def running(pyz: Path, env: dict[str, str], state: StateDir) -> Callable[..., Any]:
    """The wrapper around a Python script, while it runs."""

    @contextmanager
    def start(script: str) -> Iterator[subprocess.Popen[str]]:
        command = [sys.executable, "-I", str(pyz), "run", "--", sys.executable, "-c", script]
        root = str(Path(__file__).parents[3])
        with subprocess.Popen(
            command, env=env | {"PYTHONPATH": root}, stdout=subprocess.PIPE, text=True
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    return start


def test_output_passes_through_and_becomes_log_lines(
    server: Any, state: StateDir, hooks: Hooks
) -> None:
    code = (
        "import sys; print('one'); sys.stdout.flush(); sys.stdout.buffer.write(b'bad \\xff\\n');"
        "print('x' * 40000); print('last, no newline', end='')"
    )
    done = hooks("run", "--", sys.executable, "-c", code, errors="replace")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("one\n")
    assert done.stdout.endswith("last, no newline")
    lines = server.lines()
    assert lines[:2] == ["one", "bad \ufffd"]
    assert "".join(lines[2:-1]) == "x" * 40000
    assert max(map(len, lines)) <= 16_384
    assert lines[-1] == "last, no newline"
    assert server.of("log")[0]["body"]["first_line"] == 1
    statuses = [event["body"]["status"] for event in server.of("status")]
    assert statuses == ["working", "completed"]
    assert server.ended["exit_code"] == 0


def test_lines_are_numbered_without_a_hole_in_chunks_of_the_wires_size(
    server: Any, state: StateDir, hooks: Hooks
) -> None:
    hooks("run", "--", sys.executable, "-c", "for n in range(5000): print('line', n)")
    assert server.lines() == [f"line {n}" for n in range(5000)]
    number = 1
    for event in server.of("log"):
        assert event["body"]["first_line"] == number
        assert len(event["body"]["lines"]) <= 200
        number += len(event["body"]["lines"])


def test_the_exit_code_is_the_commands_and_a_failure_says_what_happened(
    server: Any, state: StateDir, hooks: Hooks
) -> None:
    code = "import sys; print('boom', file=sys.stderr); sys.exit(7)"
    assert hooks("run", "--", sys.executable, "-c", code).returncode == 7
    assert (server.ended["outcome"], server.ended["exit_code"]) == ("failed", 7)
    (error,) = server.of("error")
    assert error["body"] == {"summary": "The command ended with exit code 7.", "detail": "boom"}


def test_a_command_that_is_not_there_is_127(server: Any, state: StateDir, hooks: Hooks) -> None:
    done = hooks("run", "--", "/no/such/command")
    assert done.returncode == 127
    assert server.ended["outcome"] == "failed"


def test_a_signal_reaches_the_command_and_the_run_ends_as_stopped(
    server: Any, running: Callable[..., Any]
) -> None:
    script = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (os.write(1, b"bye\\n"), sys.exit(3)))
print("ready", flush=True)
while True: time.sleep(1)
"""
    with running(script) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 3
    assert server.ended["outcome"] == "stopped"
    assert "SIGTERM" in server.ended["summary"]
    assert server.lines() == ["ready", "bye"]


def test_a_task_that_ecs_ends_says_goodbye_with_its_reason_and_leaves_nothing_leased(
    server: Any, running: Callable[..., Any], env: dict[str, str], until: Callable[..., Any]
) -> None:
    env["ECS_CONTAINER_METADATA_URI_V4"] = "http://169.254.170.2/v4/x"
    env["OMAKASE_CAPACITY"] = "FARGATE_SPOT"
    script = """
import os, signal, sys, time
def bye(*_):
    os.write(1, b"putting away\\n")  # print may be at work just now
    time.sleep(1)
    sys.exit(0)
signal.signal(signal.SIGTERM, bye)
print("ready", flush=True)
while True: time.sleep(1)
"""
    with running(script) as process:
        assert process.stdout.readline() == "ready\n"
        unread = server.say("nobody will read me")
        until(lambda: server.state(unread) == "leased")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    words = (
        "ECS ends the task (SIGTERM). "
        "It runs on Spot capacity, which AWS may take back at any time."
    )
    assert (server.ended["outcome"], server.ended["summary"]) == ("stopped", words)
    said = [event["body"].get("detail") for event in server.of("status")]
    assert said.count(words) >= 1, "while it was still putting things away"
    assert server.lines() == ["ready", "putting away"], "its spool was sent"
    assert server.state(unread) == "undelivered"


def test_a_look_from_outside_brings_the_mail_and_says_so(
    server: Any, running: Callable[..., Any], hooks: Hooks, until: Callable[..., Any]
) -> None:
    with running("import time; print('up', flush=True); time.sleep(600)") as process:
        assert process.stdout.readline() == "up\n"
        done = hooks("look")
        assert (done.returncode, done.stdout[:16]) == (0, "omakase: looking")
        message = server.say("look!")
        done = hooks("look")
        assert done.returncode == 0, done.stderr
        until(lambda: server.state(message) == "leased")
        server.away()
        failed = hooks("look")
        assert failed.returncode == 1
        assert "omakase: looking" not in failed.stdout
        server.back()
        process.send_signal(signal.SIGINT)
        process.wait(30)


def test_stop_ends_a_command_that_knows_nothing_of_orders(
    server: Any, running: Callable[..., Any]
) -> None:
    with running("import time; print('up', flush=True); time.sleep(600)") as process:
        assert process.stdout.readline() == "up\n"
        order = server.order("stop", reason="enough")
        assert process.wait(30) == 128 + signal.SIGTERM
    assert server.ended["outcome"] == "stopped"
    assert server.state(order) == "in_context"


def test_pause_halts_a_command_that_knows_nothing_of_orders(
    server: Any, running: Callable[..., Any], until: Callable[..., Any]
) -> None:
    script = "import os,time; print(os.getpid(), flush=True); time.sleep(600)"
    with running(script) as process:
        pid = int(process.stdout.readline())

        def condition() -> str:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]

        server.order("pause")
        until(lambda: condition() == "T")
        server.wait(lambda: server.status == "paused")
        server.order("resume")
        until(lambda: condition() != "T")
        server.wait(lambda: server.status == "working")
        process.send_signal(signal.SIGINT)
        process.wait(30)


def test_a_command_that_ends_well_past_unread_mail_says_so_truthfully(
    server: Any, state: StateDir, hooks: Hooks
) -> None:
    wanted = server.say("too late for you")
    assert hooks("run", "--", sys.executable, "-c", "print('fine')").returncode == 0
    assert (server.ended["outcome"], server.ended["exit_code"]) == ("stopped", 0)
    assert "1 of its messages" in server.ended["summary"]
    assert server.state(wanted) == "undelivered"


def test_an_agent_in_the_wrapper_ends_its_own_run_with_all_its_output_before_it(
    server: Any, running: Callable[..., Any]
) -> None:
    script = """
from agent_hooks.loop import Agent
with Agent.connect() as agent:
    print("my last line", flush=True)
    assert agent.finish("Done by the agent.") == []
"""
    with running(script) as process:
        assert process.wait(30) == 0
    assert server.ended["summary"] == "Done by the agent."
    assert server.lines() == ["my last line"]
    assert server.log[-1]["kind"] == "status"


def test_the_command_goes_on_when_the_sidecar_is_killed_and_nothing_is_missing(
    server: Any, running: Callable[..., Any], state: StateDir
) -> None:
    code = "import time\nfor n in range(30):\n print('tick', n, flush=True)\n time.sleep(0.1)"
    with running(code) as process:
        assert process.stdout.readline() == "tick 0\n"
        os.kill(int(read_json(state / "local.json")["pid"]), signal.SIGKILL)
        assert process.wait(60) == 0
    assert server.lines() == [f"tick {n}" for n in range(30)]


def test_a_server_that_is_away_does_not_hold_the_command_up_and_gets_everything_later(
    server: Any, running: Callable[..., Any]
) -> None:
    server.away()
    with running("print('nobody hears me')") as process:
        assert process.stdout.readline() == "nobody hears me\n"
        assert process.wait(60) == 0
    server.back()
    server.wait(lambda: server.ended, 40)
    assert server.lines() == ["nobody hears me"]
    assert server.ended["outcome"] == "completed"
