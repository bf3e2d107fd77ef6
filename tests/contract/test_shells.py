"""The owner's shell through boto3's own client and a real WebSocket, against the agent on frame level."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from time import monotonic
from typing import Any

import pytest

from chat.adapters.ecs_exec import EcsExec
from chat.adapters.ecs_shells import EcsShells
from chat.errors import Invalid, TerminalFailed
from chat.ids import new_id
from chat.ports import NudgeFailure, Shell, ShellEnd, Shells
from chat.runs import Role, Run, StartKind
from tests.serving import until
from tests.ssm_agent import ChannelServer, FakeAgent, secret

TASK = "arn:aws:ecs:eu-central-1:123456789012:task/agents/0123456789abcdef"
PROMPT = b"# "
F = NudgeFailure


class Ecs:
    """ExecuteCommand as a client has it, answered with a channel's address."""

    def __init__(self, url: str = "ws://127.0.0.1:1/") -> None:
        self.url = url

    def execute_command(self, **_: Any) -> dict[str, Any]:
        return {"session": {"streamUrl": self.url, "tokenValue": secret()}}

    def describe_tasks(self, **_: Any) -> dict[str, Any]:
        return {"tasks": []}


def make_run(handle: str | None = TASK) -> Run:
    return Run(
        id=new_id("run"), project_id=new_id("prj"), feature_id=new_id("ftr"), agent_id="nori",
        agent_name="Nori", role=Role.CODER, start=StartKind.LAUNCH, handle=handle,
        created_at="2026-11-22T09:33:00.000Z",
    )  # fmt: skip


Opened = Callable[..., Shell]


@pytest.fixture
def opened() -> Iterator[Opened]:
    """opened(agent, …): a shell whose other side is that agent."""
    with ExitStack() as stack:

        def make(agent: FakeAgent, *, deadline_s: float = 10, **options: Any) -> Shell:
            channel = stack.enter_context(ChannelServer(agent, **options).running())
            ecs = Ecs(channel.url)
            shells: Shells = EcsShells(EcsExec(ecs, container="agent"), deadline_s=deadline_s)
            shell = shells.open(make_run(), columns=132, rows=43)
            stack.callback(shell.close)
            return shell

        yield make


def pumped(shell: Shell, until_s: float = 10) -> tuple[ShellEnd | None, bytes]:
    shown = bytearray()
    end = shell.pump(shown.extend, lambda: None, until=monotonic() + until_s)
    return end, bytes(shown)


def test_the_first_words_are_shown_and_the_size_is_the_one_that_was_asked_for(opened: Opened):
    agent = FakeAgent(output=PROMPT, close=None)
    shell = opened(agent)
    end, shown = pumped(shell, 0)
    assert (end, shown) == (None, PROMPT)
    thread = pump(shell)
    until(lambda: agent.sizes == [{"cols": 132, "rows": 43}])
    shell.wake()
    thread.join()  # one thread at a time: closing is another's


def pump(shell: Shell) -> threading.Thread:
    thread = threading.Thread(target=pumped, args=(shell,), daemon=True)
    thread.start()
    return thread


def test_what_is_typed_arrives_and_the_backlog_counts_what_has_not(opened: Opened):
    agent = FakeAgent(output=PROMPT, close=None)
    shell = opened(agent)
    shell.write(b"x" * 5_000)
    assert shell.backlog >= 5_000
    thread = pump(shell)
    until(lambda: len(agent.received) == 5_000)
    until(lambda: shell.backlog == 0)
    shell.wake()
    thread.join(5)
    assert not thread.is_alive()


def test_waking_lets_the_pump_return_also_when_it_had_not_begun(opened: Opened):
    shell = opened(FakeAgent(output=PROMPT, close=None))
    shell.wake()
    began = monotonic()
    assert pumped(shell, 60)[0] is None
    assert monotonic() - began < 20


def test_turned_is_called_when_something_was_taken(opened: Opened):
    shell = opened(FakeAgent(output=PROMPT, close=None))
    shell.write(b"ls\r")

    def turned() -> None:
        if shell.backlog == 0:
            shell.wake()

    assert shell.pump(lambda _: None, turned, until=monotonic() + 30) is None
    assert shell.backlog == 0


def test_a_shell_that_ends_has_no_failure_and_everything_was_shown(opened: Opened):
    words = b"line\r\n" * 2_000
    end, shown = pumped(opened(FakeAgent(output=words, expects=0)))
    assert (end, shown) == (ShellEnd(None), words)


def test_closing_ends_the_command_in_the_container(opened: Opened):
    agent = FakeAgent(output=PROMPT, close=None)
    shell = opened(agent)
    shell.close()
    shell.close()
    assert agent.terminated
    shell.write(b"nobody hears this")
    shell.resize(80, 24)


def test_a_connection_that_is_lost_is_a_failure(opened: Opened):
    shell = opened(FakeAgent(output=PROMPT, close=None), leave_after=6)
    shell.write(b"x")
    shell.resize(90, 30)
    shell.write(b"y")
    shell.write(b"z")
    assert pumped(shell)[0] == ShellEnd(F.UNAVAILABLE)


@pytest.mark.parametrize(
    ("agent", "options", "failure"),
    [
        ({"at_once": "Unable to start command: exec"}, {}, F.NO_SHELL),
        ({"actions": ({"ActionType": "KMSEncryption", "ActionParameters": {}},)}, {}, F.ENCRYPTED),
        ({}, {"refuse": 403}, F.DENIED),
        ({}, {"refuse": 503}, F.UNAVAILABLE),
        ({}, {"leave_after": 1}, F.UNAVAILABLE),
        ({"close": ""}, {}, F.COMMAND_FAILED),
    ],
)
def test_what_does_not_begin_is_classed(
    opened: Opened, agent: dict[str, Any], options: dict[str, Any], failure: NudgeFailure
):
    with pytest.raises(TerminalFailed) as failed:
        opened(FakeAgent(**agent), **options)
    assert failed.value.failure == failure
    assert failed.value.detail


def test_an_agent_that_never_answers_is_given_up_at_the_deadline(opened: Opened):
    began = monotonic()
    with pytest.raises(TerminalFailed) as failed:
        opened(FakeAgent(), deadline_s=0.5, raw=lambda wire: wire.recv(1) and wire.recv(65_536))
    assert failed.value.failure in {F.TIMEOUT, F.UNAVAILABLE}
    assert monotonic() - began < 20


def test_a_run_without_a_task_is_not_asked_for():
    shells = EcsShells(EcsExec(Ecs(), container="agent"))
    with pytest.raises(TerminalFailed) as failed:
        shells.open(make_run(handle=None), columns=80, rows=24)
    assert failed.value.failure == F.AGENT_NOT_READY


def test_a_shell_is_opened_and_never_run_like_a_command():
    way_in = EcsExec(Ecs(), container="agent")
    with pytest.raises(Invalid, match="not run"):
        way_in.run(TASK, "shell")
