"""The thin hook as a process of its own, and what the sidecar lets it print."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent_hooks import hook_script, local
from agent_hooks.state import StateDir, read_json


class Claude:
    """Plays Claude Code: fires hooks, and writes the transcript as it does."""

    def __init__(self, state: StateDir, script: Path, transcript: Path) -> None:
        self._state = state
        self._script = script
        self._transcript = transcript
        self._answers = 0
        transcript.touch()

    def command(self, event: str) -> list[str]:
        return [sys.executable, "-I", "-S", str(self._script), event]

    def env(self) -> dict[str, str]:
        return {"OMAKASE_STATE_DIR": str(self._state.path)}

    def stdin(self, event: str, **more: Any) -> bytes:
        base = {
            "session_id": "s1", "transcript_path": str(self._transcript),
            "hook_event_name": event, "tool_name": "Bash", "tool_use_id": "toolu_1",
        }  # fmt: skip
        return json.dumps({**base, **more}).encode()

    def fire(self, event: str, **more: Any) -> Any:
        done = subprocess.run(
            self.command(event), env=self.env(), input=self.stdin(event, **more),
            capture_output=True, check=True, timeout=30,
        )  # fmt: skip
        assert done.stderr == b""
        return json.loads(done.stdout) if done.stdout else None

    def write(self, entry: dict[str, Any]) -> None:
        with self._transcript.open("a") as file:
            file.write(json.dumps(entry) + "\n")

    def model_answers(self, text: str = "") -> None:
        self._answers += 1
        content = [{"type": "text", "text": text}] if text else []
        message = {"id": f"msg_model_{self._answers}", "content": content}
        self.write({"type": "assistant", "uuid": f"u{self._answers}", "message": message})

    def context_enters(self, text: str) -> None:
        attachment = {"type": "hook_additional_context", "content": [text]}
        self.write({"type": "attachment", "attachment": attachment})

    def hook_ran(self, text: str) -> None:
        self.write({"type": "attachment", "attachment": {"type": "hook_success", "stdout": text}})


@pytest.fixture
def claude(server: Any, state: StateDir, tmp_path: Path) -> Claude:
    made = Claude(state, hook_script.write(tmp_path), tmp_path / "transcript.jsonl")
    local.ensure_sidecar(state)
    made.model_answers()
    made.fire("SessionStart", source="startup")
    return made


def context(answer: Any) -> str:
    return str(answer["hookSpecificOutput"]["additionalContext"])


@pytest.fixture
def said(server: Any, state: StateDir, until: Callable[..., Any]) -> Callable[..., str]:
    """Say something, and wait until the sidecar has it."""

    def say(text: str, **more: Any) -> str:
        before = local.call(state, "status")["waiting"]
        wanted = str(server.say(text, **more))
        until(lambda: local.call(state, "status")["waiting"] == before + 1)
        return wanted

    return say


def test_an_empty_mailbox_prints_nothing(claude: Claude) -> None:
    for event in ("PreToolUse", "PostToolUse", "UserPromptSubmit", "Stop"):
        assert claude.fire(event) is None


def test_printed_is_not_seen_until_the_model_has_answered_to_it(
    server: Any,
    claude: Claude,
    said: Callable[..., str],
    state: StateDir,
    until: Callable[..., Any],
) -> None:
    wanted = said("call it total_price")
    text = context(claude.fire("PostToolUse"))
    assert "call it total_price" in text
    claude.hook_ran(text)
    claude.context_enters(text)
    assert claude.fire("PreToolUse") is None
    assert server.state(wanted) == "leased"
    claude.model_answers("Understood.")
    server.wait(lambda: server.state(wanted) == "in_context")
    assert server.mail[wanted].proof["text"] == text
    server.wait(lambda: "Understood." in server.said())


def test_what_the_model_was_not_shown_is_offered_again(
    server: Any,
    claude: Claude,
    said: Callable[..., str],
    state: StateDir,
    until: Callable[..., Any],
) -> None:
    wanted = said("dropped on the way")
    text = context(claude.fire("PostToolUse"))
    claude.hook_ran(text)  # it ran, but its text went nowhere
    claude.model_answers()
    claude.model_answers()
    until(lambda: local.call(state, "status")["waiting"] == 1)
    assert server.state(wanted) == "leased"
    assert "dropped on the way" in context(claude.fire("PostToolUse"))


def test_parallel_hooks_inject_a_message_once(claude: Claude, said: Callable[..., str]) -> None:
    said("only once")
    running = [
        subprocess.Popen(
            claude.command("PostToolUse"), env=claude.env(),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )
        for _ in range(6)
    ]  # fmt: skip
    printed = []
    for number, process in enumerate(running):
        out, _ = process.communicate(claude.stdin("PostToolUse", tool_use_id=f"t{number}"), 30)
        printed.append(out)
    assert sum(b"only once" in out for out in printed) == 1


def test_a_subagents_hook_gets_nothing(claude: Claude, said: Callable[..., str]) -> None:
    said("for the agent")
    assert claude.fire("PostToolUse", agent_id="sub_1") is None
    assert "for the agent" in context(claude.fire("PostToolUse"))


def test_a_restarted_sidecar_gives_the_model_nothing_twice_and_still_confirms(
    server: Any, claude: Claude, said: Callable[..., str], state: StateDir
) -> None:
    wanted = said("through the crash")
    text = context(claude.fire("PostToolUse"))
    claude.context_enters(text)
    os.kill(int(read_json(state / "local.json")["pid"]), signal.SIGKILL)
    local.ensure_sidecar(state)
    server.wait(lambda: server.mail[wanted].attempt == 2)
    assert claude.fire("PostToolUse") is None
    claude.model_answers()
    server.wait(lambda: server.state(wanted) == "in_context")
    assert server.mail[wanted].proof["text"] == text


def test_stop_blocks_with_what_came_and_never_when_there_is_nothing(
    claude: Claude, said: Callable[..., str], server: Any
) -> None:
    server.say("after the task", mode="queue")
    answer = claude.fire("Stop", stop_hook_active=False)
    assert answer["decision"] == "block"
    assert "after the task" in answer["reason"]
    assert set(answer) == {"decision", "reason"}
    assert claude.fire("Stop", stop_hook_active=True) is None


def test_stop_never_blocks_so_often_in_a_row_that_claude_gives_up(
    claude: Claude, server: Any
) -> None:
    blocked = 0
    for number in range(9):
        server.say(f"again {number}")
        if claude.fire("Stop", stop_hook_active=number > 0) is not None:
            blocked += 1
    assert blocked == 7


def test_a_long_message_comes_whole_over_several_hooks(
    server: Any, claude: Claude, said: Callable[..., str]
) -> None:
    words = "\n".join(f"line {number} of many" for number in range(1_500))
    wanted = said(words)
    texts = []
    while answer := claude.fire("PostToolUse"):
        texts.append(context(answer))
        assert len(texts[-1]) <= 9_000
        claude.context_enters(texts[-1])
        claude.model_answers()
    assert len(texts) >= 3
    server.wait(lambda: server.state(wanted) == "in_context")
    proof = server.mail[wanted].proof["text"]
    assert all(f"line {number} of many" in proof for number in range(1_500))


def test_without_a_sidecar_the_hook_is_silent_and_quick(state: StateDir, tmp_path: Path) -> None:
    claude = Claude(state, hook_script.write(tmp_path), tmp_path / "t.jsonl")
    began = time.monotonic()
    assert claude.fire("PostToolUse") is None
    assert time.monotonic() - began < 2.0


def test_a_sidecar_that_does_not_answer_costs_a_hook_a_moment_and_no_more(
    state: StateDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claude = Claude(state, hook_script.write(tmp_path), tmp_path / "t.jsonl")
    monkeypatch.chdir(state.path)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind("sidecar.sock")
        silent.listen(8)
        claude.fire("PostToolUse")  # warm
        began = time.monotonic()
        assert claude.fire("PostToolUse") is None
        spent = time.monotonic() - began
    (state / "sidecar.sock").unlink()
    assert 0.2 <= spent < 1.5


def test_a_server_that_hangs_does_not_hold_a_hook_up(
    server: Any, claude: Claude, said: Callable[..., str]
) -> None:
    server.mode = "hang"
    began = time.monotonic()
    assert claude.fire("PostToolUse") is None
    assert time.monotonic() - began < 2.0


@pytest.mark.parametrize("stdin", [b"", b"no json", b"[]", b"\xff\x00", b'{"hook_event_name": 7}'])
def test_whatever_it_is_given_a_hook_ends_well_and_in_silence(claude: Claude, stdin: bytes) -> None:
    done = subprocess.run(
        claude.command("PostToolUse"),
        env=claude.env(),
        input=stdin,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_a_session_start_brings_the_sidecar_back(
    server: Any, state: StateDir, tmp_path: Path, until: Callable[..., Any]
) -> None:
    claude = Claude(state, hook_script.write(tmp_path), tmp_path / "t.jsonl")
    assert claude.fire("SessionStart", source="startup") is None
    server.wait(lambda: server.calls["mailbox"] >= 1)
    until(lambda: local.call(state, "ping")["ok"] if (state / "local.json").exists() else False)


def test_a_pause_holds_a_tool_until_resumed(
    server: Any, claude: Claude, state: StateDir, until: Callable[..., Any]
) -> None:
    server.order("pause")
    until(lambda: local.call(state, "status")["paused"])
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(claude.fire("PreToolUse")))
    thread.start()
    server.wait(lambda: server.status == "paused")
    assert answers == []
    server.order("resume")
    thread.join(20)
    assert answers == [None]


def test_stop_order_denies_the_tool_and_ends_the_session(
    server: Any, claude: Claude, state: StateDir, until: Callable[..., Any]
) -> None:
    order = server.order("stop", reason="enough")
    until(lambda: local.call(state, "status")["stop"])
    assert claude.fire("PreToolUse") == {
        "continue": False,
        "stopReason": "Anna stopped the run. enough",
        "hookSpecificOutput": {
            "hookEventName": "PreToolUse",
            "permissionDecision": "deny",
            "permissionDecisionReason": "Anna stopped the run. enough",
        },
    }
    server.wait(lambda: server.state(order) == "in_context")
