"""An owner's terminal in a task's container, by ECS Exec (ports.Shells).

    EcsExec.open("shell") -> data channel -> handshake -> the shell's first words -> pumped until its end

A shell counts as begun when it has said something (its prompt), or has been silent for SETTLE_S without
ending: an image without a shell, a KMS key or a third session are told only after the channel is open.

What a shell prints is passed on and nothing else is done with it: it is in no failure's words and no log.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from time import monotonic
from types import MappingProxyType
from typing import Final

from chat.adapters.ecs_exec import DEADLINE_S, EcsExec, ExecFailed
from chat.adapters.ecs_exec_failures import by_end, sentence
from chat.adapters.ssm_channel.client import Channel, Outcome
from chat.adapters.ssm_channel.outbound import Full
from chat.adapters.ssm_channel.session import EndReason, Event, Output, Ready
from chat.errors import TerminalFailed, TooMany
from chat.ports import NudgeFailure, ShellEnd
from chat.runs import Run

F = NudgeFailure
SETTLE_S: Final = 2.0

WORDS: Final[Mapping[NudgeFailure, str]] = MappingProxyType(
    {
        F.NO_SHELL: "There is no shell in the agent's image.",
        F.TIMEOUT: "The task's exec agent did not answer in time.",
        F.COMMAND_FAILED: "The shell ended as soon as it had begun.",
    }
)
"""Where the nudge's own words (ecs_exec_failures.WORDS) would speak of its command."""


class EcsShells:
    """Shells in tasks whose run's `handle` is the task's ARN. Safe for many threads."""

    def __init__(self, way_in: EcsExec, *, deadline_s: float = DEADLINE_S) -> None:
        self._way_in = way_in
        self._deadline_s = deadline_s

    def open(self, run: Run, *, columns: int, rows: int) -> EcsShell:
        """A shell that has begun, `deadline_s` at most after ECS's own answers."""
        if run.handle is None:
            raise TerminalFailed("The task has not been started yet.", failure=F.AGENT_NOT_READY)
        deadline = monotonic() + self._deadline_s
        try:
            channel = self._way_in.open(run.handle, "shell", deadline=deadline)
        except ExecFailed as error:
            words = WORDS.get(error.failure, str(error))
            raise TerminalFailed(words, failure=error.failure) from error
        try:
            channel.resize(columns, rows)
            shell = EcsShell(channel)
            shell.begin(deadline=deadline)
        except BaseException:
            channel.close()
            raise
        return shell


class EcsShell:
    """A shell on an open channel (ports.Shell)."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._said = bytearray()
        """What was said and not shown yet."""
        self._ready = False

    def begin(self, *, deadline: float) -> None:
        """Wait until the shell has begun. Raises TerminalFailed."""

        def hear(event: Event) -> None:
            self._hear(event)
            self._channel.wake()

        settled = deadline
        while not self._said:
            was_ready = self._ready
            outcome = self._channel.run(hear, deadline=min(deadline, settled))
            if outcome.ended is not None or outcome.lost is not None:
                raise _failed(outcome, bytes(self._said))
            if self._ready and not was_ready:
                settled = monotonic() + SETTLE_S
            if monotonic() >= min(deadline, settled):
                break
        if not self._ready:
            raise TerminalFailed(WORDS[F.TIMEOUT], failure=F.TIMEOUT)

    @property
    def backlog(self) -> int:
        """Bytes that were written and not yet acknowledged by the exec agent."""
        return self._channel.backlog

    def write(self, data: bytes) -> None:
        """Type these bytes."""
        try:
            self._channel.write(data)
        except Full as error:
            raise TooMany("The container takes no more input at the moment.") from error

    def resize(self, columns: int, rows: int) -> None:
        """Tell the terminal's size; left out while the container takes no input."""
        with suppress(Full):
            self._channel.resize(columns, rows)

    def wake(self) -> None:
        """Let `pump` return soon."""
        self._channel.wake()

    def pump(
        self, show: Callable[[bytes], None], turned: Callable[[], None], *, until: float
    ) -> ShellEnd | None:
        """Pump; what one read brings is shown in one piece."""

        def turn() -> None:
            if self._said:
                said, self._said = bytes(self._said), bytearray()
                show(said)
            turned()

        outcome = self._channel.run(self._hear, deadline=until, on_turn=turn)
        if outcome.lost is not None:
            return ShellEnd(F.UNAVAILABLE)
        if outcome.ended is None:
            return None
        ended_itself = outcome.ended.reason is EndReason.CLOSED
        return ShellEnd(None if ended_itself else by_end(outcome.ended, b"")[0])

    def close(self) -> None:
        """Ask the agent to end the shell, and let go."""
        self._channel.close()

    def _hear(self, event: Event) -> None:
        if isinstance(event, Ready):
            self._ready = True
        elif isinstance(event, Output):
            self._said += event.data


def _failed(outcome: Outcome, printed: bytes) -> TerminalFailed:
    """Why it did not begin. What the command printed may decide the class, and is not repeated."""
    failure, said = F.UNAVAILABLE, outcome.lost or ""
    if outcome.ended is not None:
        failure, _ = by_end(outcome.ended, printed)
        said = outcome.ended.detail
    words = WORDS.get(failure) or sentence(failure, said)
    return TerminalFailed(words, failure=failure)
