"""A named command in a task's container, by ECS Exec: the nudge that says "look into your mailbox now".
(An owner's terminal is opened by the same way: ecs_shells.py.)

    ExecuteCommand (ecs) -> session{streamUrl, tokenValue} -> data channel -> output until it ends

Never the way a message travels: a session is a terminal as root without an exit code, and may be refused
with every check green. So whether a command worked is told by a sign it prints, and whatever goes
wrong is classed (ports.NudgeFailure) and comes back as a result.

Needs `ecs:ExecuteCommand` on task and cluster and `ecs:DescribeTasks` for the caller; for the task's
role the four `ssmmessages:` actions CreateControlChannel, CreateDataChannel, OpenControlChannel and
OpenDataChannel (https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs-exec.html).

Times are milliseconds in results, seconds in `deadline_s`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final, Protocol, cast

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from chat.adapters.aws_answers import whole_answers
from chat.adapters.ecs_exec_commands import COMMANDS, command_line
from chat.adapters.ecs_exec_failures import by_end, by_error, by_status, sentence
from chat.adapters.ssm_channel.client import Channel, Outcome, Unreachable, connect
from chat.adapters.ssm_channel.session import Event, Output, Ready, Session
from chat.errors import Invalid
from chat.ports import NudgeFailure, NudgeResult
from chat.runs import Run

F = NudgeFailure

CONFIG: Final = Config(
    connect_timeout=3,
    read_timeout=5,
    retries={"mode": "standard", "total_max_attempts": 2},
)
DEADLINE_S: Final = 20.0
OUTPUT_KEPT_BYTES: Final = 64 * 1024


class Ecs(Protocol):
    """The two calls this module makes, as boto3's client has them."""

    def execute_command(
        self, *, cluster: str, task: str, container: str, command: str, interactive: bool
    ) -> Mapping[str, Any]: ...

    def describe_tasks(self, *, cluster: str, tasks: list[str]) -> Mapping[str, Any]: ...


def exec_client(*, region: str, endpoint_url: str | None = None) -> Ecs:
    """A client of its own: short times and few repeats, since a nudge that is late is worth nothing."""
    client = boto3.client("ecs", region_name=region, endpoint_url=endpoint_url, config=CONFIG)
    return cast("Ecs", whole_answers(client))


@dataclass(frozen=True, slots=True)
class CommandResult:
    """How a command went; `output` is what it printed, the last OUTPUT_KEPT_BYTES of it."""

    failure: NudgeFailure | None
    detail: str
    output: bytes
    duration_ms: int

    @property
    def ok(self) -> bool:
        """Whether the command printed its sign."""
        return self.failure is None


class ExecFailed(Exception):
    """No session could be opened: its class, and as text a sentence for people."""

    def __init__(self, failure: NudgeFailure, said: str = "") -> None:
        super().__init__(sentence(failure, said))
        self.failure = failure


class EcsExec:
    """`ports.Nudge` for tasks on ECS, whose run's `handle` is the task's ARN. Safe for many threads.

    `cluster` is used for a handle that does not name one. A command and everything before it take
    `deadline_s` at most, plus ECS's own answers (CONFIG) and a second to say goodbye.
    """

    def __init__(
        self,
        ecs: Ecs,
        *,
        container: str,
        cluster: str = "default",
        deadline_s: float = DEADLINE_S,
        session: Callable[[str], Session] = lambda token: Session(token=token),
    ) -> None:
        self._ecs = ecs
        self._container = container
        self._cluster = cluster
        self._deadline_s = deadline_s
        self._session = session

    def nudge(self, run: Run) -> NudgeResult:
        """Run `look` in the run's task."""
        if run.handle is None:
            return NudgeResult(False, F.AGENT_NOT_READY, "The task has not been started yet.", 0)
        result = self.run(run.handle, "look")
        return NudgeResult(result.ok, result.failure, result.detail, result.duration_ms)

    def run(self, task: str, name: str, *arguments: str) -> CommandResult:
        """Run a named command in the task and wait for its end.

        Raises Invalid for a command that is not named here; every other failure is in the result.
        """
        command_line(name, *arguments)
        sign = COMMANDS[name].sign
        if sign is None:
            raise Invalid(f"The command {name!r} is opened for a person, not run.")
        started = monotonic()
        deadline = started + self._deadline_s
        said = _Said()
        failure: NudgeFailure | None
        try:
            with self.open(task, name, *arguments, deadline=deadline) as channel:
                outcome = channel.run(said, deadline=deadline)
        except ExecFailed as error:
            failure, detail = error.failure, str(error)
        else:
            failure, detail = _judge(outcome, said, sign.encode())
        duration_ms = int((monotonic() - started) * 1000)
        return CommandResult(failure, detail, bytes(said.output), duration_ms)

    def open(self, task: str, name: str, *arguments: str, deadline: float) -> Channel:
        """Start a named command and open its channel, to be pumped and closed by the caller.

        `deadline` in seconds of time.monotonic(). Raises ExecFailed, and Invalid as `run` does.
        """
        url, token = self._execute(task, command_line(name, *arguments))
        try:
            return connect(url, self._session(token), deadline=deadline)
        except Unreachable as error:
            late = error.status is None and monotonic() >= deadline
            failure = F.TIMEOUT if late else by_status(error.status)
            raise ExecFailed(failure, str(error)) from error

    def _execute(self, task: str, line: str) -> tuple[str, str]:
        cluster = self._cluster_of(task)
        try:
            answer = self._ecs.execute_command(
                cluster=cluster,
                task=task,
                container=self._container,
                command=line,
                interactive=True,
            )
        except (ClientError, BotoCoreError) as error:
            failure, said = by_error(error)
            if failure in {F.NOT_CONNECTED, F.AGENT_NOT_READY}:
                failure = self._why_not(cluster, task, failure)
            raise ExecFailed(failure, said) from error
        session = answer.get("session") or {}
        url, token = session.get("streamUrl"), session.get("tokenValue")
        if not url or not token:
            raise ExecFailed(F.PROTOCOL, "no stream in the answer")
        return str(url), str(token)

    def _cluster_of(self, task: str) -> str:
        """Of an ARN in its present form, arn:aws:ecs:REGION:ACCOUNT:task/CLUSTER/ID."""
        match = re.fullmatch(r"arn:[^:]+:ecs:[^:]*:[^:]*:task/([^/]+)/[^/]+", task)
        return match[1] if match else self._cluster

    def _why_not(self, cluster: str, task: str, otherwise: NudgeFailure) -> NudgeFailure:
        """What the task itself says: gone, its exec agent not running, or nothing that explains it."""
        try:
            found = self._ecs.describe_tasks(cluster=cluster, tasks=[task]).get("tasks") or []
        except (ClientError, BotoCoreError):
            return otherwise
        if not found or found[0].get("lastStatus") in {"STOPPED", "DEPROVISIONING", "STOPPING"}:
            return F.TASK_GONE
        if not found[0].get("enableExecuteCommand"):
            return F.AGENT_NOT_READY
        agents = [
            agent.get("lastStatus")
            for container in found[0].get("containers", [])
            if container.get("name") == self._container
            for agent in container.get("managedAgents", [])
            if agent.get("name") == "ExecuteCommandAgent"
        ]
        return otherwise if agents == ["RUNNING"] else F.AGENT_NOT_READY


class _Said:
    """What a command says: called with each event of its session."""

    def __init__(self) -> None:
        self.output = bytearray()
        self.ready = False

    def __call__(self, event: Event) -> None:
        self.ready = self.ready or isinstance(event, Ready)
        if isinstance(event, Output):
            self.output += event.data
            del self.output[:-OUTPUT_KEPT_BYTES]


def _judge(outcome: Outcome, said: _Said, sign: bytes) -> tuple[NudgeFailure | None, str]:
    """The sign decides; without it the reason is looked for in how the session ended."""
    if sign in said.output:
        return None, "The command said that it worked."
    failure, reason = F.TIMEOUT, "the exec agent did not answer"
    if outcome.ended is not None:
        failure, reason = by_end(outcome.ended, bytes(said.output))
    elif outcome.lost is not None:
        failure, reason = F.UNAVAILABLE, outcome.lost
    elif said.ready:
        reason = "it is still running"
    return failure, sentence(failure, reason)
