"""The real Claude Code, under our wrapper and hooks, against a scripted stand-in for its model.

"Turn n" is the n-th request to the model. The program comes from npm (tests/node/claude, pinned), once,
into an untracked folder there; without npm these tests skip, on CI they fail.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent_hooks import local
from agent_hooks.errors import SidecarAway
from agent_hooks.state import StateDir
from demo.seed import TEMPLATE
from demo.workshop import create_repository
from tests.tools import npm_packages

ROOT = Path(__file__).resolve().parents[3]
CLAUDE = ROOT / "tests" / "node" / "claude"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture(scope="session")
def claude() -> Path:
    modules = npm_packages(CLAUDE, then="@anthropic-ai/claude-code/install.cjs")
    return modules / ".bin" / "claude"


class Session:
    """One run of the program: `turns[n](request)` gives the blocks the model says in turn n."""

    def __init__(self, api: Any, command: list[str], env: dict[str, str], folder: Path) -> None:
        self.api = api
        self.folder = folder
        self._command = command
        self._env = env
        self.process: subprocess.Popen[str] | None = None

    def start(self, *options: str) -> None:
        self.process = subprocess.Popen(
            [*self._command, "-p", "Do the task.", "--allowedTools", "Bash Task Agent", *options],
            cwd=self.folder, env=self._env, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def end(self, timeout_s: float = 120) -> str:
        assert self.process is not None
        out, err = self.process.communicate(timeout=timeout_s)
        assert self.process.returncode == 0, out + err
        return out

    def request(self, number: int) -> str:
        return str(_model_api().said(self.api.requests[number]))


def _model_api() -> Any:
    return sys.modules["model_api"]


@pytest.fixture
def session(
    claude: Path, pyz: Path, env: dict[str, str], state: StateDir, tmp_path: Path
) -> Iterator[Callable[..., Session]]:
    made: list[Session] = []

    def make(script: Callable[[int, dict[str, Any]], list[dict[str, Any]]]) -> Session:
        api = _model_api().ModelApi(script)
        folder = tmp_path / "project"
        folder.mkdir()
        all_env = env | {
            "CLAUDE_CONFIG_DIR": str(tmp_path / "claude"),
            "ANTHROPIC_BASE_URL": api.url,
            "ANTHROPIC_API_KEY": "sk-ant-dummy",
            "DISABLE_AUTOUPDATER": "1",
            "DISABLE_TELEMETRY": "1",
            "DISABLE_ERROR_REPORTING": "1",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        }
        ours = [sys.executable, "-I", str(pyz)]
        subprocess.run([*ours, "install", "claude-code"], cwd=folder, env=all_env, check=True)
        made.append(Session(api, [*ours, "run", "--", str(claude)], all_env, folder))
        return made[-1]

    yield make
    for one in made:
        if one.process is not None and one.process.poll() is None:
            one.process.kill()
        one.api.close()


def tool(command: str) -> dict[str, Any]:
    return {"tool": "Bash", "input": {"command": command, "description": "a step"}}


WAIT_FOR_GO = "echo > started; while [ ! -e go ]; do sleep 0.05; done; echo gone"


def status(state: StateDir) -> dict[str, Any]:
    try:
        return local.call(state, "status")
    except SidecarAway:
        return {}


def test_what_is_said_during_a_step_is_in_the_request_of_the_next_and_only_then_seen(
    server: Any, session: Callable[..., Session], state: StateDir, until: Callable[..., Any]
) -> None:
    at_request: list[str] = []
    wanted: list[str] = []

    def script(number: int, request: dict[str, Any]) -> list[dict[str, Any]]:
        if number == 0:
            return [{"text": "I begin."}, tool(WAIT_FOR_GO)]
        if number == 1:
            at_request.append(server.state(wanted[0]))
            return [{"text": "Understood: total_price."}, tool("echo again")]
        return [{"text": "All done."}]

    run = session(script)
    run.start()
    until((run.folder / "started").exists, 60)
    wanted.append(server.say("call it total_price"))
    until(lambda: status(state).get("waiting") == 1)
    (run.folder / "go").touch()
    assert "All done." in run.end()
    assert "call it total_price" not in run.request(0)
    assert run.request(1).count("call it total_price") == 1
    assert run.request(2).count("call it total_price") == 1
    assert "The user sent a new message while you were working" in run.request(1)
    assert at_request == ["leased"]
    assert server.state(wanted[0]) == "in_context"
    proof = server.mail[wanted[0]].proof["text"]
    assert json.dumps(proof, ensure_ascii=False)[1:-1] in run.request(1)
    assert server.ended["outcome"] == "completed"
    assert server.said() == ["I begin.", "Understood: total_price.", "All done."]
    steps = [(e["body"]["step"], e["body"]["state"]) for e in server.of("step")]
    assert steps == [(1, "started"), (1, "finished"), (2, "started"), (2, "finished")]


def test_what_is_said_during_the_last_step_is_read_before_the_end(
    server: Any, session: Callable[..., Session]
) -> None:
    wanted: list[str] = []

    def script(number: int, request: dict[str, Any]) -> list[dict[str, Any]]:
        if number == 0:
            wanted.append(server.say("one more thing", mode="queue"))
        return [{"text": f"End {number}."}]

    run = session(script)
    run.start()
    assert "End 1." in run.end()
    assert "one more thing" in run.request(1)
    assert len(run.api.requests) == 2
    assert server.state(wanted[0]) == "in_context"
    assert server.ended["outcome"] == "completed"


def test_a_pause_holds_the_tool_and_resume_lets_it_run(
    server: Any, session: Callable[..., Session], state: StateDir, until: Callable[..., Any]
) -> None:
    def script(number: int, request: dict[str, Any]) -> list[dict[str, Any]]:
        if number == 0:
            server.order("pause")
            until(lambda: status(state).get("paused"))
            return [tool("touch ran")]
        return [{"text": "Done."}]

    run = session(script)
    run.start()
    server.wait(lambda: server.status == "paused", 60)
    assert not (run.folder / "ran").exists()
    assert len(run.api.requests) == 1
    server.order("resume")
    run.end()
    assert (run.folder / "ran").exists()
    assert server.ended["outcome"] == "completed"


def test_a_message_that_interrupts_denies_the_tool_with_the_words_as_its_reason(
    server: Any, session: Callable[..., Session], state: StateDir, until: Callable[..., Any]
) -> None:
    def script(number: int, request: dict[str, Any]) -> list[dict[str, Any]]:
        if number == 0:
            server.say("not that file!", mode="interrupt")
            until(lambda: status(state).get("waiting") == 1)
            return [tool("touch ran")]
        return [{"text": "Sorry."}]

    run = session(script)
    run.start()
    run.end()
    assert not (run.folder / "ran").exists()
    assert "not that file!" in run.request(1)
    assert server.ended["outcome"] == "completed"


def test_a_stop_order_ends_the_program(
    server: Any, session: Callable[..., Session], state: StateDir, until: Callable[..., Any]
) -> None:
    def script(number: int, request: dict[str, Any]) -> list[dict[str, Any]]:
        server.order("stop", reason="enough")
        until(lambda: status(state).get("stop"))
        return [tool("touch ran")]

    run = session(script)
    run.start()
    assert run.process is not None
    run.process.communicate(timeout=120)
    assert not (run.folder / "ran").exists()
    assert server.ended["outcome"] == "stopped"


def test_a_subagents_hooks_do_not_swallow_what_is_meant_for_the_agent(
    server: Any, session: Callable[..., Session], state: StateDir, until: Callable[..., Any]
) -> None:
    turns: dict[str, int] = {"main": 0, "sub": 0}
    seen: dict[str, list[str]] = {"main": [], "sub": []}

    def script(number: int, request: dict[str, Any]) -> list[dict[str, Any]]:
        text = _model_api().said(request)
        who = "sub" if "SUBTASK" in text and "Do the task." not in text else "main"
        seen[who].append(text)
        turns[who] += 1
        if who == "sub":
            if turns["sub"] == 1:
                server.say("for the agent itself")
                until(lambda: status(state).get("waiting") == 1)
                return [tool("echo sub")]
            return [{"text": "Subtask done."}]
        if turns["main"] == 1:
            given = {"description": "a part", "prompt": "SUBTASK", "subagent_type": "general-purpose",
                     "run_in_background": False}  # fmt: skip
            return [{"tool": "Agent", "input": given}]
        return [{"text": "Done."}]

    run = session(script)
    run.start()
    run.end()
    assert turns["sub"] == 2
    assert not any("for the agent itself" in text for text in seen["sub"])
    assert "for the agent itself" in seen["main"][1]
    assert server.ended["outcome"] == "completed"


def test_a_message_after_the_last_hook_resumes_the_session(
    server: Any, session: Callable[..., Session]
) -> None:
    def script(number: int, request: dict[str, Any]) -> list[dict[str, Any]]:
        if number == 0:
            # nothing can be leased from now on but through the barrier of finish
            server.fails = lambda path: "/mailbox?" in path
            server.mode = "500"
            server.say("nearly too late", mode="queue")
        return [{"text": f"End {number}."}]

    run = session(script)
    run.start()
    out = run.end()
    assert "End 0." in out
    assert "End 1." in out
    assert "nearly too late" in run.request(1)
    assert "Do the task." in run.request(1)
    assert server.ended["outcome"] == "completed"


def test_the_demo_sets_claude_code_to_work_in_a_worktree_of_its_own(
    claude: Path, pyz: Path, env: dict[str, str], state: StateDir, server: Any, tmp_path: Path
):
    """What `make run AGENT=claude` starts for each role (chat/agents.toml)."""
    repo = tmp_path / "repo"
    create_repository(repo, TEMPLATE)
    turns = [
        [tool(f"git status --short > {tmp_path}/status; git commit --allow-empty -qm Mended")],
        [{"text": "Done."}],
    ]
    api = _model_api().ModelApi(lambda number, _: turns[min(number, 1)])
    all_env = env | {
        "PATH": f"{claude.parent}{os.pathsep}{env['PATH']}",
        "CLAUDE_CONFIG_DIR": str(tmp_path / "claude"),
        "ANTHROPIC_BASE_URL": api.url,
        "ANTHROPIC_API_KEY": "sk-ant-dummy",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    }
    command = [
        sys.executable, "-m", "demo.claude_code", "--role", "coder", "--repo", str(repo),
        "--pyz", str(pyz), "--feature", "Shopping Cart",
    ]  # fmt: skip
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=all_env, capture_output=True, text=True, timeout=120, check=False
        )
    finally:
        api.close()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "You are the coder of the feature 'Shopping Cart'" in _model_api().said(api.requests[0])
    assert (tmp_path / "status").read_text() == ""  # our settings are not in the way of its commits
    log = ["git", "-C", str(repo), "log", "-1", "--format=%s", "nori"]
    assert subprocess.run(log, check=True, capture_output=True, text=True).stdout == "Mended\n"
