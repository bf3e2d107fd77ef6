"""A terminal's WebSocket after its handshake: what is typed goes in, what is shown comes out.

    browser ── socket (the loop's thread) ── Terminal (a thread of its own) ── container

What is shown waits for the socket: while ROOM_BYTES of it are not written, the terminal's thread stands still,
so nothing more is read from the container. What is typed waits for the container: while more than FULL_BYTES
of it are not acknowledged, the socket is not read.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic
from typing import Annotated, Any, Final, Literal

from pydantic import Field, TypeAdapter, ValidationError

from chat.access import Principal
from chat.errors import ChatError, TerminalFailed
from chat.events import TerminalEnd
from chat.requests import OpenTerminal
from chat.runs import Frozen
from chat.service.terminals import END_WORDS, Terminal
from web import frames
from web.hub import HEARTBEAT_S, Hub
from web.problems import from_validation, unexpected
from web.websockets import SILENCE_S, WebSocketPeer

FIRST_FRAME_S: Final = 10.0
ROOM_BYTES: Final = 262_144
SLOW_S: Final = 20.0
"""How long the other end may read nothing while there is something to be read."""
FULL_BYTES: Final = 32_768
TAKEN_BYTES: Final = 8_192

CLOSE_CODES: Final = {
    TerminalEnd.LEFT: 1000,
    TerminalEnd.SHELL_ENDED: 1000,
    TerminalEnd.SERVER_STOPPED: 1001,
    TerminalEnd.BROKEN: 1011,
    TerminalEnd.CHANNEL_LOST: 1013,
    TerminalEnd.UNCHECKED: 1013,
    TerminalEnd.SLOW_READER: 4000,
    TerminalEnd.ACCESS_REMOVED: 4403,
    TerminalEnd.IDLE: 4408,
    TerminalEnd.SILENT: 4408,
    TerminalEnd.RUN_ENDED: 4409,
}


class Open(OpenTerminal):
    type: Literal["open"]


class Resize(Frozen):
    type: Literal["resize"]
    cols: int = Field(ge=2, le=500)
    rows: int = Field(ge=2, le=300)


class Close(Frozen):
    type: Literal["close"]


class Answer(Frozen):
    """What the screen answers a program (where the cursor is, what it can do), typed by nobody."""

    type: Literal["answer"]
    data: str


class Pong(Frozen):
    type: Literal["pong"]


_COMMAND: Final[TypeAdapter[Open | Resize | Answer | Close | Pong]] = TypeAdapter(
    Annotated[Open | Resize | Answer | Close | Pong, Field(discriminator="type")]
)


class TerminalSocket(WebSocketPeer):
    """One terminal of one page. `stands` tells whether its session was not signed out; `start` starts a
    thread."""

    __slots__ = (
        "_counted", "_full", "_gone", "_opening", "_room", "_shown", "_stuck_at", "_terminal", "_unread",
        "_why", "principal", "run_id", "stands", "start",
    )  # fmt: skip
    a_second = 200.0
    at_once = 1_000

    def __init__(
        self,
        hub: Hub,
        principal: Principal,
        run_id: str,
        *,
        stands: Callable[[], bool],
        start: Callable[..., None],
    ) -> None:
        super().__init__(hub)
        self.principal = principal
        self.run_id = run_id
        self.stands = stands
        self.start = start
        self._counted = False
        self._opening = False
        self._terminal: Terminal | None = None
        self._why: TerminalEnd | None = None
        """Of a wish to end that came before there was a terminal."""
        self._full = False
        """The socket is not read, since the container has not taken what came."""
        self._room = threading.Condition()
        self._shown = 0
        """Bytes on their way from the terminal's thread to the socket."""
        self._unread = 0
        """Those of them that the socket has not yet written."""
        self._stuck_at: float | None = None
        """Since when the terminal's thread waits for room."""
        self._gone = False
        """Nobody sees any more what is shown."""

    # the connection

    def opened(self) -> None:
        """Say hello, and wait for the wish."""
        if self.hub.stopping:
            self.expel(1001, "the server is going away")
        elif not self.hub.count(self.principal, 1):
            self.expel(4429, "too many connections")
        else:
            self._counted = True
            idle_s = self.hub.chat.terminals.idle_s
            hello = {"type": "hello", "heartbeat_ms": HEARTBEAT_S * 1_000, "idle_s": idle_s}
            self.push(frames.message(hello))
            self.hub.loop.call_later(FIRST_FRAME_S, self._still_silent)

    def _still_silent(self) -> None:
        if not self._opening:
            self.expel(4408, "nothing was asked for")

    def ended(self) -> None:
        """The connection is gone: so is the terminal."""
        if self._counted:
            self.hub.count(self.principal, -1)
        self._end(TerminalEnd.LEFT)

    def beat(self, now: float) -> None:
        """A ping of ours. A socket that we do not read cannot be heard."""
        if self._full:
            self.heard = now
        if now - self.heard > SILENCE_S:
            self._end(TerminalEnd.SILENT)
            if self._terminal is None:
                self.expel(4408, "no pong")
        else:
            self.push(frames.PING)

    def too_slow(self) -> None:
        """It cannot come to this (ROOM_BYTES), but the buffer's bound stands."""
        self._end(TerminalEnd.SLOW_READER)

    def go_away(self) -> None:
        """The process ends: the terminal first, and the socket when that has been said in the log."""
        self._end(TerminalEnd.SERVER_STOPPED)
        if self._terminal is None:
            self.expel(1001, "the server is going away")

    def resume_writing(self) -> None:
        """The other end has caught up."""
        super().resume_writing()
        self._written(self._unread)
        self._unread = 0

    def _end(self, why: TerminalEnd) -> None:
        self._why = self._why or why
        if self._terminal is not None:
            self._terminal.end(why)
        with self._room:  # its thread may be waiting there for a page that does not read
            self._gone = True
            self._room.notify_all()

    # what comes in

    def text(self, words: str) -> None:
        """A command."""
        try:
            command = _COMMAND.validate_json(words)
        except ValidationError as error:
            self._refused(from_validation(error))
            return
        if isinstance(command, Open):
            if self._opening:
                self.expel(4400, "it was asked for already")
                return
            self._opening = True
            self.start(self._work, command)
        elif isinstance(command, Close):
            self._end(TerminalEnd.LEFT)
            if self._terminal is None:
                self.expel(1000, "")
        elif isinstance(command, Resize) and self._terminal is not None:
            self._terminal.resize(command.cols, command.rows)
        elif isinstance(command, Answer):
            self._put_in(command.data.encode(), Terminal.answer)

    def binary(self, data: bytes) -> None:
        """What is typed."""
        self._put_in(data, Terminal.type)

    def _put_in(self, data: bytes, put: Callable[[Terminal, bytes], None]) -> None:
        terminal = self._terminal
        if terminal is None:
            self.expel(4400, "nothing is open yet")
            return
        try:
            put(terminal, data)
        except ChatError as error:
            self._end(TerminalEnd.BROKEN)
            self._refused(error)
            return
        if not self._full and terminal.backlog > FULL_BYTES and self.transport is not None:
            self._full = True
            self.transport.pause_reading()

    def _go_on_reading(self) -> None:
        if self._full and self.transport is not None and not self.closing:
            self._full = False
            self.transport.resume_reading()

    # the terminal's thread

    def _work(self, command: Open) -> None:
        terminals = self.hub.chat.terminals
        try:
            terminal = terminals.open(self.principal, self.run_id, command, stands=self.stands)
        except ChatError as error:
            self._on_loop(self._refused, error)
            return
        except Exception as error:  # noqa: BLE001 - the log has the rest
            self._on_loop(self._refused, unexpected(error))
            return
        self._on_loop(self._begun, terminal)
        self._on_loop(self._over, terminal.run(self._show, self._turned, self._has_room))

    def _on_loop(self, function: Callable[..., None], *args: Any) -> None:
        self.hub.loop.call_soon_threadsafe(function, *args)

    def _has_room(self, wait_s: float) -> bool:
        """Wait so long for room for what is to be seen; whether there is."""
        with self._room:
            if self._room.wait_for(lambda: self._gone or self._shown < ROOM_BYTES, wait_s):
                self._stuck_at = None
                return True
            now = monotonic()
            self._stuck_at = self._stuck_at or now - wait_s
            if now - self._stuck_at >= SLOW_S:
                self._on_loop(self._end, TerminalEnd.SLOW_READER)
                self._gone = True
            return self._gone

    def _show(self, data: bytes) -> None:
        """Hand on what is to be seen."""
        with self._room:
            if self._gone:
                return
            self._shown += len(data)
        self._on_loop(self._shown_here, data)

    def _turned(self) -> None:
        if self._full and self._terminal is not None and self._terminal.backlog < TAKEN_BYTES:
            self._on_loop(self._go_on_reading)

    def _written(self, size: int) -> None:
        with self._room:
            self._shown -= size
            self._room.notify_all()

    # the same, on the loop's thread

    def _begun(self, terminal: Terminal) -> None:
        self._terminal = terminal
        if self._why is not None:
            terminal.end(self._why)
        self.push(frames.message({"type": "opened", "id": terminal.id}))

    def _shown_here(self, data: bytes) -> None:
        self.push(frames.binary(data))
        if self.paused:
            self._unread += len(data)
        else:
            self._written(len(data))

    def _refused(self, error: ChatError) -> None:
        said: dict[str, Any] = {"type": "refused", "problem": error.problem()}
        if isinstance(error, TerminalFailed):
            said["failure"] = error.failure
        self.push(frames.message(said))
        self.expel(error.close_code, error.title)

    def _over(self, end: TerminalEnd) -> None:
        text = f"The terminal is closed: {END_WORDS[end]}."
        self.push(frames.message({"type": "closed", "end": end, "text": text}))
        self.expel(CLOSE_CODES[end], END_WORDS[end])
