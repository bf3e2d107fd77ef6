"""An owner's break-glass terminal in the container of a run's agent.

Off by default, and audited in the run's own log. Each wish for one leaves exactly one notice that says what
became of it (opened, refused or failed), and each that was opened one more when it ends. `opened` stands in
the log before the person sees or types anything: where it cannot be written, nobody gets in. What is typed and
shown is counted and never kept.

One terminal a run: a container has two exec sessions, and the nudge needs the other.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final

import structlog

from chat.access import Permission, Principal
from chat.errors import (
    ChatError,
    Conflict,
    Forbidden,
    NotFound,
    RunEnded,
    TerminalFailed,
    TooMany,
    Unauthenticated,
    Unavailable,
)
from chat.events import About, NoticeBody, TerminalEnd, TerminalRecord, TerminalState
from chat.ids import new_id
from chat.ports import Claims, NudgeFailure, Shell, Shells
from chat.requests import OpenTerminal
from chat.runs import ENDED, Run
from chat.service.context import Context
from chat.service.lifecycle import Lifecycle

AT_ONCE_MAX: Final = 8
"""Terminals of one process; each has a thread of its own."""
CLAIM_S: Final = 30
"""How long after the death of its process a terminal keeps others out."""
OPENING_S: Final = 60
"""The same while it is being opened, which takes less (ecs_exec.DEADLINE_S and ECS's own answers)."""
CHECK_S: Final = 2.0
"""Between two looks at whether it may go on: the run, the access, the claim, the time."""
UNCHECKED_MAX_S: Final = 15.0
"""How long it goes on while none of that can be looked at; less than CLAIM_S."""
SAY_AGAIN_S: Final = (0.2, 0.5, 1.0, 2.0)
"""The waits between attempts to write that a terminal was opened, or has ended."""
END_WORDS: Final = {
    TerminalEnd.LEFT: "it was closed",
    TerminalEnd.SHELL_ENDED: "the shell ended",
    TerminalEnd.RUN_ENDED: "the run ended",
    TerminalEnd.IDLE: "nothing was typed for too long",
    TerminalEnd.ACCESS_REMOVED: "access was taken away, or its person signed out",
    TerminalEnd.SLOW_READER: "the page did not read what was shown",
    TerminalEnd.SILENT: "the page was not heard of any more",
    TerminalEnd.SERVER_STOPPED: "the server was stopped",
    TerminalEnd.CHANNEL_LOST: "the connection to the container was lost",
    TerminalEnd.UNCHECKED: "whether it may go on could not be checked",
    TerminalEnd.BROKEN: "of an error in the server",
}
log = structlog.get_logger("terminals")


@dataclass(frozen=True, slots=True)
class _Wish:
    """Somebody's wish for a terminal."""

    id: str
    run_id: str
    by: Principal
    reason: str | None
    at: float
    """Of time.monotonic()."""


class Terminals:
    """Opens terminals. Safe for many threads."""

    def __init__(
        self,
        context: Context,
        lifecycle: Lifecycle,
        claims: Claims,
        shells: Callable[[], Shells | None],
    ) -> None:
        self._context = context
        self._audit = _Audit(lifecycle)
        self._claims = claims
        self._shells = shells
        self._open = 0
        self._lock = threading.Lock()

    @property
    def is_on(self) -> bool:
        """Whether this installation has them at all."""
        settings = self._context.settings
        return settings.exec_terminal == "on" and settings.runtime == "ecs"

    def demand_on(self) -> None:
        """Raises NotFound where there are no terminals."""
        if not self.is_on:
            raise NotFound(
                "There are no terminals here: EXEC_TERMINAL is off, or agents are no tasks."
            )

    def admit(self, principal: Principal, run_id: str) -> None:
        """Whether the principal may open one at all, asked before a connection is made for it.

        Raises NotFound, and Forbidden once that stands in the run's log.
        """
        self.demand_on()
        try:
            self._context.authorize(principal, Permission.EXEC, run_id)
        except Forbidden as error:
            self._audit.refused(self._wish(principal, run_id, None), error)
            raise

    def open(
        self,
        principal: Principal,
        run_id: str,
        request: OpenTerminal,
        *,
        stands: Callable[[], bool],
    ) -> Terminal:
        """A terminal that is open, and in the log as opened; to be run by the caller in this thread.

        `stands` tells whether the credentials that the person came with still count; it may raise
        Unavailable. Raises NotFound, Unauthenticated, Forbidden, RunEnded, Conflict, TooMany, Unavailable
        and TerminalFailed, each but the first once it stands in the log.
        """
        self.demand_on()
        self._context.run(run_id)
        wish = self._wish(principal, run_id, request.reason)
        try:
            return self._opened(wish, request, stands)
        except (TerminalFailed, Unavailable) as error:
            self._audit.failed(wish, error)
            raise
        except ChatError as error:
            self._audit.refused(wish, error)
            raise
        except Exception:
            words = "There is an error in the server; its own log has more."
            self._audit.failed(wish, TerminalFailed(words, failure=NudgeFailure.UNAVAILABLE))
            raise

    def _wish(self, principal: Principal, run_id: str, reason: str | None) -> _Wish:
        return _Wish(new_id("trm"), run_id, principal, reason, monotonic())

    def _opened(self, wish: _Wish, request: OpenTerminal, stands: Callable[[], bool]) -> Terminal:
        run = self._ready(wish, stands)
        shells = self._shells()
        if shells is None:
            raise Conflict("This installation names no cluster: ECS_CLUSTER is not set.")
        with ExitStack() as undo:
            self._one_more()
            undo.callback(self._one_less)
            self._take(wish, ttl_s=OPENING_S)
            undo.callback(self._let_go, wish)
            shell = shells.open(run, columns=request.cols, rows=request.rows)
            undo.callback(shell.close)
            self._audit.opened(wish)
            undo.pop_all()
        return Terminal(self, wish, shell, stands)

    def _ready(self, wish: _Wish, stands: Callable[[], bool]) -> Run:
        """The run, if there is a container to enter and the person may."""
        context = self._context
        if not stands():
            raise Unauthenticated("You have signed out. Sign in again.")
        context.authorize(wish.by, Permission.EXEC, wish.run_id)
        if context.log.snapshot(wish.run_id).status in ENDED:
            raise RunEnded("The run has ended, and its container with it.")
        run = context.store.run(wish.run_id)  # with its handle, which comes with the start
        if run is None or run.handle is None:
            raise Conflict("The run has no task (yet), so there is no container to enter.")
        return run

    # --- what an open terminal asks ----------------------------------------------------------------

    @property
    def idle_s(self) -> float:
        """How long nothing may be typed."""
        return float(self._context.settings.exec_terminal_idle_s)

    def why_not(self, wish: _Wish, stands: Callable[[], bool]) -> TerminalEnd | None:
        """Why it may not go on, if so. Renews the claim. Raises Unavailable."""
        context = self._context
        try:
            context.authorize(wish.by, Permission.EXEC, wish.run_id)
        except (NotFound, Forbidden):
            return TerminalEnd.ACCESS_REMOVED
        if not stands():
            return TerminalEnd.ACCESS_REMOVED
        brief = context.log.brief([wish.run_id]).get(wish.run_id)
        if brief is not None and brief.status in ENDED:
            return TerminalEnd.RUN_ENDED
        if not self._claims.take(_claim(wish.run_id), wish.id, ttl_s=CLAIM_S):
            return TerminalEnd.UNCHECKED  # it ran out, and somebody else has it now
        return None

    def ended(self, wish: _Wish, end: TerminalEnd, *, typed: int, shown: int) -> None:
        """Let go of what it held, and say so in the log."""
        self._one_less()
        self._let_go(wish)
        self._audit.closed(wish, end, typed=typed, shown=shown)

    def _one_more(self) -> None:
        with self._lock:
            if self._open >= AT_ONCE_MAX:
                raise TooMany(f"One web process has at most {AT_ONCE_MAX} terminals open.")
            self._open += 1

    def _take(self, wish: _Wish, *, ttl_s: int) -> None:
        if not self._claims.take(_claim(wish.run_id), wish.id, ttl_s=ttl_s):
            raise Conflict("There is a terminal open in this container: one at a time.")

    def _one_less(self) -> None:
        with self._lock:
            self._open -= 1

    def _let_go(self, wish: _Wish) -> None:
        try:
            self._claims.release(_claim(wish.run_id), wish.id)
        except Unavailable:
            log.warning("terminal.claim_left", run_id=wish.run_id, terminal_id=wish.id)


class Terminal:
    """An open terminal. `run` it in the thread that opened it; any thread may do the rest."""

    def __init__(
        self, terminals: Terminals, wish: _Wish, shell: Shell, stands: Callable[[], bool]
    ) -> None:
        self.id = wish.id
        self._terminals = terminals
        self._wish = wish
        self._shell = shell
        self._stands = stands
        self._why: TerminalEnd | None = None
        self._typed = self._shown = 0
        self._typed_at = self._checked_at = monotonic()
        self._check_at = self._checked_at + CHECK_S

    @property
    def backlog(self) -> int:
        """Bytes that were typed and not yet taken by the container's side."""
        return self._shell.backlog

    def type(self, data: bytes) -> None:
        """Type. Raises TooMany when more waits than is kept."""
        self.answer(data)
        self._typed_at = monotonic()

    def answer(self, data: bytes) -> None:
        """Type what the screen itself says to a program that asked it: counted, but nobody was there."""
        self._shell.write(data)
        self._typed += len(data)

    def resize(self, columns: int, rows: int) -> None:
        """Tell the terminal's size in characters."""
        self._shell.resize(columns, rows)

    def end(self, why: TerminalEnd) -> None:
        """Let `run` come to its end; the first reason counts."""
        self._why = self._why or why
        self._shell.wake()

    def run(
        self,
        show: Callable[[bytes], None],
        turned: Callable[[], None],
        room: Callable[[float], bool] = lambda _: True,
    ) -> TerminalEnd:
        """Pump until it ends, and see to it that it may go on. `show` and `turned` as in ports.Shell.

        `room` waits, so many seconds at most, until there is room for what is to be shown, and says
        whether there is; a page that does not read keeps nobody from looking whether it may go on.
        """
        end = TerminalEnd.BROKEN
        try:
            end = self._until_it_ends(show, turned, room)
        except Exception:
            log.exception("terminal.broken", run_id=self._wish.run_id, terminal_id=self.id)
        finally:
            try:
                self._shell.close()
            finally:
                self._terminals.ended(self._wish, end, typed=self._typed, shown=self._shown)
        return end

    def _until_it_ends(
        self,
        show: Callable[[bytes], None],
        turned: Callable[[], None],
        room: Callable[[float], bool],
    ) -> TerminalEnd:
        def shown(data: bytes) -> None:
            while self._why is None:
                left_s = self._check_at - monotonic()
                if left_s <= 0:
                    if (why := self._why_not()) is not None:
                        self.end(why)
                elif room(left_s):
                    self._shown += len(data)
                    show(data)
                    return

        while True:
            end = self._shell.pump(shown, turned, until=self._check_at)
            if (why := self._why) is not None:
                return why
            if end is not None:
                return TerminalEnd.CHANNEL_LOST if end.failure else TerminalEnd.SHELL_ENDED
            if (why := self._why_not()) is not None:
                return why

    def _why_not(self) -> TerminalEnd | None:
        """Why it may not go on, if so; asked every CHECK_S."""
        try:
            if monotonic() - self._typed_at > self._terminals.idle_s:
                return TerminalEnd.IDLE
            why = self._terminals.why_not(self._wish, self._stands)
            self._checked_at = monotonic()
        except Unavailable:
            late = monotonic() - self._checked_at > UNCHECKED_MAX_S
            return TerminalEnd.UNCHECKED if late else None
        finally:
            self._check_at = monotonic() + CHECK_S
        return why


class _Audit:
    """The records in the run's log, and a line in the server's own for each."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._lifecycle = lifecycle

    def opened(self, wish: _Wish) -> None:
        """Raises what the log raises: then nobody may get in."""
        words = f"{wish.by.name} opened a terminal in the agent's container: {wish.reason}"
        self._say(wish, _notice(wish, TerminalState.OPENED, words), again_s=SAY_AGAIN_S)

    def refused(self, wish: _Wish, error: ChatError) -> None:
        words = f"{wish.by.name} was refused a terminal in the agent's container. {error.detail}"
        self._tell(wish, _notice(wish, TerminalState.REFUSED, words))

    def failed(self, wish: _Wish, error: ChatError) -> None:
        failure = NudgeFailure.UNAVAILABLE.value
        if isinstance(error, TerminalFailed):
            failure = error.failure
        words = f"{wish.by.name} could not open a terminal in the agent's container. {error.detail}"
        body = _notice(wish, TerminalState.FAILED, words, lasted=True)
        self._tell(wish, body.model_copy(update={"failure": failure}))

    def closed(self, wish: _Wish, end: TerminalEnd, *, typed: int, shown: int) -> None:
        words = f"{wish.by.name}'s terminal in the agent's container ended: {END_WORDS[end]}."
        body = _notice(
            wish, TerminalState.CLOSED, words, lasted=True,
            end=end, typed_bytes=typed, shown_bytes=shown,
        )  # fmt: skip
        self._tell(wish, body, again_s=SAY_AGAIN_S)

    def _tell(self, wish: _Wish, body: NoticeBody, *, again_s: tuple[float, ...] = ()) -> None:
        """Say it, and go on where that cannot be: it has happened all the same."""
        try:
            self._say(wish, body, again_s=again_s)
        except ChatError as error:
            line = _line(wish, body)
            log.error("terminal.not_recorded", **line, problem=error.code)  # noqa: TRY400

    def _say(self, wish: _Wish, body: NoticeBody, *, again_s: tuple[float, ...]) -> None:
        """Write it; again after each of these waits, since an answer that was lost may hide a record that
        stands, and the same key finds it."""
        assert body.terminal is not None  # noqa: S101 - `_notice` made it
        once = f"terminal:{wish.id}:{body.terminal.state}"
        for wait_s in (*again_s, None):
            try:
                self._lifecycle.notice(wish.run_id, body, once=once, by=wish.by)
                break
            except Unavailable:
                if wait_s is None:
                    raise
                threading.Event().wait(wait_s)
        log.info("terminal", **_line(wish, body))


def _notice(
    wish: _Wish, state: TerminalState, words: str, *, lasted: bool = False, **said: Any
) -> NoticeBody:
    record = TerminalRecord(id=wish.id, state=state, reason=wish.reason, **said)
    duration_ms = int((monotonic() - wish.at) * 1000) if lasted else None
    return NoticeBody(
        about=About.TERMINAL, text=words[:2_000], duration_ms=duration_ms, terminal=record
    )


def _claim(run_id: str) -> str:
    return f"terminal:{run_id}"


def _line(wish: _Wish, body: NoticeBody) -> dict[str, Any]:
    """The record for the server's own log: ids, classes and counts, not the reason."""
    said: dict[str, Any] = body.model_dump(
        mode="json", include={"failure", "duration_ms", "terminal"}, exclude_none=True
    )
    record: dict[str, Any] = said.pop("terminal")
    record.pop("reason", None)
    return {
        "run_id": wish.run_id, "person_id": wish.by.id, "terminal_id": record.pop("id"),
    } | record | said  # fmt: skip
