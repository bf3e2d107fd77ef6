"""Going on hold under `run --checkpoint HOOK -- COMMAND`, and coming back, in real processes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent_hooks.loop import Agent
from agent_hooks.state import StateDir, read_json

Start = Callable[..., Any]

WAITING = """
from agent_hooks.loop import Agent, Stopped
import sys, time
agent = Agent.connect()
agent.status("waiting")
print("ready", flush=True)
try:
    while True:
        agent.wait(0.2)
        for mail in agent.drain(task_end=True):
            agent.confirm([mail.id], text=mail.text)
            print("read", mail.text, flush=True)
except Stopped:
    agent.finish("stopped", outcome="stopped")
"""
"""An agent that waits for people, and reads what they say."""


@pytest.fixture
def start(pyz: Path, env: dict[str, str], state: StateDir) -> Start:
    """The wrapper around a Python script with a hook, while it runs."""

    @contextmanager
    def running(script: str, hook: str = "", **more: str) -> Iterator[subprocess.Popen[str]]:
        given = ["--checkpoint", hook] if hook else []
        command = [
            sys.executable,
            "-I",
            str(pyz),
            "run",
            *given,
            "--",
            sys.executable,
            "-c",
            script,
        ]
        root = str(Path(__file__).parents[3])
        with subprocess.Popen(
            command, env=env | {"PYTHONPATH": root} | more, stdout=subprocess.PIPE, text=True
        ) as process:
            try:
                yield process
            finally:
                process.terminate()  # what it runs ends with it; a killed one would leave it behind
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    process.kill()

    return running


def ready(server: Any, process: subprocess.Popen[str], status: str = "waiting") -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    server.wait(lambda: server.status == status)


def test_the_hook_makes_the_checkpoint_and_the_command_ends_without_ending_the_run(
    server: Any, start: Start, tmp_path: Path
) -> None:
    hook = f"echo noted >&2; touch {tmp_path}/pushed; printf 'commit 3f2a ✓'"
    with start(WAITING, hook) as process:
        ready(server, process)
        order = server.order("checkpoint")
        assert process.wait(30) == 0
    assert server.kept["text"] == "commit 3f2a ✓"
    assert (server.status, server.ended) == ("suspended", None)
    assert server.state(order) == "in_context"
    assert (tmp_path / "pushed").exists()
    assert "noted" in server.lines()
    assert server.hold_failures == []


def test_a_program_that_knows_nothing_of_orders_is_put_on_hold_while_it_is_halted(
    server: Any, start: Start
) -> None:
    script = "import time; print('ready', flush=True)\nwhile True: time.sleep(1)"
    with start(script, "echo kept") as process:
        ready(server, process, "working")
        server.order("pause")
        server.wait(lambda: server.status == "paused")
        server.order("checkpoint")
        assert process.wait(30) == 0
    assert (server.kept["text"], server.ended) == ("kept\n", None)


@pytest.mark.parametrize(
    ("hook", "why"),
    [
        ("", "no checkpoint hook (OMAKASE_CHECKPOINT)"),
        ("echo cannot push >&2; exit 3", "ended with exit code 3: cannot push"),
        ("sleep 60", "was not done in 1 s"),
        ("sleep 60 & exit 4", "ended with exit code 4"),
        ("head -c 40000 /dev/zero", "larger than 32768 bytes"),
        ("yes", "larger than 32768 bytes"),
        (r"printf '\377'", "not UTF-8"),
        ("/no/such/hook", "ended with exit code 127"),
    ],
)
def test_when_there_is_no_checkpoint_nothing_is_ended_and_people_are_told_why(
    server: Any, start: Start, hook: str, why: str
) -> None:
    with start(WAITING, hook, OMAKASE_CHECKPOINT_S="1") as process:
        ready(server, process)
        order = server.order("checkpoint")
        server.wait(lambda: server.hold_failures)
        assert why in server.hold_failures[0]
        said = server.say("still there?")
        server.wait(lambda: server.state(said) == "in_context")
        assert process.poll() is None
        assert server.state(order) == "in_context", "it stands in nobody's way"
        assert server.status == "waiting"


def test_a_second_order_to_go_on_hold_has_its_turn_after_the_first(
    server: Any, start: Start, tmp_path: Path
) -> None:
    began = tmp_path / "began"
    with start(WAITING, f"echo x >> {began}; sleep 2; echo kept") as process:
        ready(server, process)
        server.order("checkpoint")
        server.wait(began.exists)
        server.order("checkpoint")
        assert process.wait(60) == 0
    assert server.hold_failures == []
    assert (server.status, server.kept["text"]) == ("suspended", "kept\n")


def test_a_message_that_comes_while_the_hook_runs_wins_and_the_hook_is_cut(
    server: Any, start: Start, tmp_path: Path
) -> None:
    began = tmp_path / "began"
    with start(WAITING, f"touch {began}; sleep 600; echo never") as process:
        ready(server, process)
        server.order("checkpoint")
        server.wait(began.exists)
        said = server.say("one thing more")
        server.wait(lambda: server.state(said) == "in_context")
        assert process.stdout.readline() == "read one thing more\n"
        # what comes later is not stopped by what was cut
        server.wait(lambda: server.calls["hold"] == 0)
        assert (server.kept, server.hold_failures, process.poll()) == (None, [], None)


def test_a_message_that_nobody_here_has_heard_of_is_found_by_the_barrier(
    server: Any, start: Start, until: Callable[..., Any]
) -> None:
    """It is leased to us only by the refused hold: the poll of the mailbox hangs."""
    with start(WAITING, "echo kept") as process:
        ready(server, process)
        order = server.order("checkpoint")
        server.wait(lambda: server.state(order) == "leased")
        server.fails = lambda path: "/mailbox?" in path
        server.mode = "500"
        said = server.say("did you see me?")
        server.wait(lambda: server.state(said) == "in_context" or server.kept, 40)
        assert server.kept is None
        assert process.stdout.readline() == "read did you see me?\n"
        assert (server.status, process.poll()) == ("waiting", None)
        server.mode = "ok"


def test_an_answer_that_got_lost_is_asked_for_again_and_the_command_still_ends(
    server: Any, start: Start
) -> None:
    with start(WAITING, "echo kept") as process:
        ready(server, process)
        server.fails = lambda path: path.endswith("/hold")
        server.mode = "drop"
        server.order("checkpoint")
        server.wait(lambda: server.status == "suspended")
        server.mode = "ok"
        assert process.wait(40) == 0
    assert (server.kept["text"], server.ended) == ("kept\n", None)


def test_what_it_has_said_arrives_before_it_is_put_on_hold(
    server: Any, start: Start, tmp_path: Path, until: Callable[..., Any]
) -> None:
    """It lies in the spool of a machine that may go with the process."""
    done = tmp_path / "done"
    with start(WAITING, f"echo the last words >&2; touch {done}; printf kept") as process:
        ready(server, process)
        server.fails = lambda path: path.endswith("/events")
        server.mode = "500"
        server.order("checkpoint")
        until(done.exists)
        tried = server.calls["events"]
        server.wait(lambda: server.calls["events"] >= tried + 3, 40)
        assert (server.calls["hold"], process.poll()) == (0, None)
        server.mode = "ok"
        assert process.wait(40) == 0
    assert "the last words" in server.lines()
    assert server.kept["text"] == "kept"


def test_a_stop_order_during_the_hook_stops(server: Any, start: Start, tmp_path: Path) -> None:
    began = tmp_path / "began"
    with start(WAITING, f"touch {began}; sleep 600") as process:
        ready(server, process)
        server.order("checkpoint")
        server.wait(began.exists)
        server.order("stop")
        process.wait(40)
    assert (server.ended["outcome"], server.kept) == ("stopped", None)


def test_an_agent_that_does_not_end_is_killed_in_time(server: Any, start: Start) -> None:
    script = WAITING.replace(
        "agent = Agent",
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\nagent = Agent",
    )
    with start(script.replace("except Stopped", "except (Stopped, ValueError)"), "true") as process:
        ready(server, process)
        server.order("checkpoint")
        assert process.wait(60) == 0
    assert (server.status, server.ended) == ("suspended", None)


def test_an_agent_without_a_wrapper_takes_the_order_as_nobodys_and_can_still_finish(
    server: Any, env: dict[str, str]
) -> None:
    agent = Agent.connect(env)
    agent.status("waiting")
    order = server.order("checkpoint")
    server.wait(lambda: server.state(order) == "in_context")
    assert "Nobody here" in server.mail[order].proof["text"]
    assert agent.finish("done") == []


def test_the_next_process_finds_the_checkpoint_its_steps_and_its_mail(
    server: Any, start: Start, state: StateDir, until: Callable[..., Any]
) -> None:
    first = WAITING.replace(
        'agent.status("waiting")', 'agent.step("edit").__enter__(); agent.status("waiting")'
    )
    with start(first, "printf 'goal 3'") as process:
        ready(server, process)
        server.order("checkpoint")
        assert process.wait(30) == 0
    assert server.kept["step"] == 1
    said = server.say("go on")
    server.come_back()
    second = """
import os, sys
from agent_hooks.loop import Agent
agent = Agent.connect()
print("from", open(os.environ["OMAKASE_CHECKPOINT_FILE"]).read(), flush=True)
agent.wait(30)
for mail in agent.drain():
    agent.confirm([mail.id], text=mail.text)
with agent.step("commit"):
    pass
agent.finish("done")
"""
    with start(second, "true", OMAKASE_GENERATION="1") as process:
        assert process.stdout.readline() == "from goal 3\n"
        assert process.wait(60) == 0
    assert server.state(said) == "in_context"
    assert server.ended["outcome"] == "completed"
    assert [event["body"]["step"] for event in server.of("step")] == [1, 2, 2]


def test_on_another_machine_it_is_the_same(
    server: Any, start: Start, state: StateDir, tmp_path: Path
) -> None:
    with start(WAITING, "printf 'goal 3'") as process:
        ready(server, process)
        server.order("checkpoint")
        assert process.wait(30) == 0
    server.say("go on")
    server.come_back()
    script = """
import os
from agent_hooks.loop import Agent
Agent.connect()
print("from", open(os.environ["OMAKASE_CHECKPOINT_FILE"]).read(), flush=True)
"""
    home = str(tmp_path / "another")
    with start(script, "true", OMAKASE_GENERATION="1", OMAKASE_HOME=home) as process:
        assert process.stdout.readline() == "from goal 3\n"
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def test_a_process_that_comes_back_before_the_server_does_waits_for_its_checkpoint(
    server: Any, start: Start, tmp_path: Path
) -> None:
    server.kept, server.generation, server.status = {"text": "kept", "step": 4}, 1, "starting"
    server.fails = lambda path: path.endswith("/checkpoint")
    server.mode = "500"
    script = "import os; print(open(os.environ['OMAKASE_CHECKPOINT_FILE']).read(), flush=True)"
    with start(script, OMAKASE_GENERATION="1") as process:
        server.wait(lambda: server.calls["checkpoint"] >= 2)
        server.mode = "ok"
        assert process.stdout.readline() == "kept\n"
        assert process.wait(60) == 0


def test_a_generation_without_a_checkpoint_just_begins(server: Any, start: Start) -> None:
    server.generation = 2  # two tasks found no room
    script = "import os; print(os.environ.get('OMAKASE_CHECKPOINT_FILE'), flush=True)"
    with start(script, OMAKASE_GENERATION="2") as process:
        assert process.stdout.readline() == "None\n"
        assert process.wait(60) == 0
    assert server.ended["outcome"] == "completed"


@pytest.mark.parametrize("here", [True, False])
def test_claude_code_resumes_its_session_with_what_was_said_if_the_session_is_on_this_machine(
    server: Any, pyz: Path, env: dict[str, str], state: StateDir, tmp_path: Path, here: bool
) -> None:
    transcript = tmp_path / "session.jsonl"
    if here:
        transcript.touch()
    server.kept = {"text": "", "step": 3, "session_id": "s-1", "transcript": str(transcript)}
    server.generation, server.status = 1, "starting"
    said = server.say("call it total_price")
    claude = tmp_path / "claude"
    claude.write_text(
        f"#!{sys.executable}\nimport json, sys\n"
        f"open({str(tmp_path / 'argv')!r}, 'w').write(json.dumps(sys.argv[1:]))\n"
    )
    claude.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-I", str(pyz), "run", "--", str(claude), "-p", "begin"],
        env=env | {"OMAKASE_GENERATION": "1"}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    argv = json.loads((tmp_path / "argv").read_text())
    if here:
        assert argv[:4] == ["-p", "--resume", "s-1", "--"]
        assert "call it total_price" in argv[4]
    else:
        assert argv == ["-p", "begin"]
    assert said in server.mail


def test_what_was_said_by_the_dying_process_never_reopens_the_run(
    server: Any, start: Start, state: StateDir, until: Callable[..., Any]
) -> None:
    """An agent that takes its time to die goes on talking; none of it moves the run."""
    script = WAITING.replace(
        "agent = Agent.connect()",
        "agent = Agent.connect()\nimport signal\n"
        "def late(*_):\n    agent.status('working'); time.sleep(1); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, late)",
    )
    with start(script, "true") as process:
        ready(server, process)
        server.order("checkpoint")
        assert process.wait(60) == 0
    until(lambda: not (state / "sidecar.sock").exists())
    assert (server.status, server.ended) == ("suspended", None)
    assert read_json(state / "memory.json")["ended"] == "suspended"
