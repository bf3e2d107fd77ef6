"""A session over a WebSocket: one thread pumps, any thread may write.

    with connect(url, Session(token=…), deadline=monotonic() + 5) as channel:
        outcome = channel.run(on_event, deadline=monotonic() + 20)

`run` reads and writes until the session has ended, the connection is gone, or the deadline has come, and
never longer. All deadlines are seconds of time.monotonic(). Leaving the block asks the agent
to end the command if it has not ended (a session left alone occupies one of the container's two for
20 minutes), for at most GOODBYE_S, and closes the socket.

Addresses are wss://, with the certificate checked; ws:// is taken for loopback alone, where tests live.
"""

from __future__ import annotations

import contextlib
import ipaddress
import selectors
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Ping,
    Pong,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)
from wsproto.events import Event as WebSocketEvent
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from chat.adapters.ssm_channel.frames import FRAME_MAX_BYTES
from chat.adapters.ssm_channel.session import Ended, Event, Session, State

READ_BYTES: Final = 64 * 1024
UNSENT_MAX_BYTES: Final = 512 * 1024
"""While more than this cannot be sent, nothing more is made or read: the other side must read first."""
PING_S: Final = 300.0
GOODBYE_S: Final = 1.0


class Unreachable(Exception):
    """No WebSocket could be opened there. `status` is the HTTP status of a refusal."""

    def __init__(self, detail: str, *, status: int | None = None) -> None:
        super().__init__(detail)
        self.status = status


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run of the pump ended: with the session's end, without its connection, or by the clock."""

    ended: Ended | None = None
    lost: str | None = None

    @property
    def timed_out(self) -> bool:
        """Whether the deadline came first."""
        return self.ended is None and self.lost is None


def connect(
    url: str, session: Session, *, deadline: float, tls: ssl.SSLContext | None = None
) -> Channel:
    """Open the WebSocket and send the token. Raises Unreachable, at the deadline at the latest."""
    host, port, target, secure = _address(url)
    try:
        plain = socket.create_connection((host, port), timeout=_left(deadline))
    except OSError as error:
        raise Unreachable(f"{host} cannot be reached: {error}") from error
    wire = plain
    try:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if secure:
            plain.settimeout(_left(deadline))
            wire = (tls or ssl.create_default_context()).wrap_socket(plain, server_hostname=host)
        standard = port == (443 if secure else 80)
        shown = f"[{host}]" if ":" in host else host
        websocket = WSConnection(ConnectionType.CLIENT)
        hello = Request(host=shown if standard else f"{shown}:{port}", target=target)
        wire.sendall(websocket.send(hello))
        _await_acceptance(wire, websocket, deadline)
        return Channel(wire, websocket, session)
    except (OSError, RemoteProtocolError, LocalProtocolError) as error:
        wire.close()
        raise Unreachable(f"no WebSocket at {host}: {error}") from error
    except BaseException:
        wire.close()
        raise


def _address(url: str) -> tuple[str, int, str, bool]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise Unreachable("the address of the stream is malformed") from error
    secure = parts.scheme == "wss"
    if not host or not (secure or (parts.scheme == "ws" and _is_loopback(host))):
        raise Unreachable("the address of the stream is not wss://HOST/…")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return host, port or (443 if secure else 80), target, secure


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _left(deadline: float) -> float:
    """Seconds until then; a socket takes 0 for "do not wait", so never quite that."""
    return max(deadline - monotonic(), 0.001)


def _await_acceptance(wire: socket.socket, websocket: WSConnection, deadline: float) -> None:
    while True:
        if monotonic() >= deadline:
            raise Unreachable("the WebSocket was not accepted in time")
        wire.settimeout(_left(deadline))
        data = wire.recv(1)  # byte by byte, so that no frame is taken along with the answer's end
        websocket.receive_data(data or None)
        for event in websocket.events():
            match event:
                case AcceptConnection():
                    return
                case RejectConnection():
                    raise Unreachable(
                        f"the WebSocket was refused with HTTP status {event.status_code}",
                        status=event.status_code,
                    )
                case RejectData():
                    pass
        if not data:
            raise Unreachable("the connection was closed before the WebSocket was accepted")


class Channel:
    """An open WebSocket with its session. Made by `connect`."""

    def __init__(self, wire: socket.socket, websocket: WSConnection, session: Session) -> None:
        self._wire = wire
        self._websocket = websocket
        self._session = session
        self._lock = threading.Lock()
        self._unsent = bytearray()
        self._message = bytearray()
        self._ended: Ended | None = None
        self._lost: str | None = None
        self._deaf = False  # the other side takes nothing more
        self._woken = False
        self._ping_at = monotonic() + PING_S
        self._bell, self._ringer = socket.socketpair()
        for end in (wire, self._bell, self._ringer):
            end.setblocking(False)
        self._unsent += websocket.send(TextMessage(session.opening()))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def write(self, data: bytes) -> None:
        """Type bytes into the command's terminal. Any thread. Raises outbound.Full."""
        self._tell(lambda: self._session.write(data))

    def type_text(self, text: str) -> None:
        """Type text, Enter as a carriage return. Any thread. Raises outbound.Full."""
        self._tell(lambda: self._session.type_text(text))

    def resize(self, columns: int, rows: int) -> None:
        """Tell the terminal's size. Any thread."""
        self._tell(lambda: self._session.resize(columns, rows))

    def terminate(self) -> None:
        """Ask the agent to end the command; `run` returns when it has. Any thread."""
        self._tell(self._session.terminate)

    def wake(self) -> None:
        """Let `run` return soon, as if its deadline had come; also one that has not begun. Any thread."""
        self._woken = True
        self._tell(lambda: None)

    @property
    def backlog(self) -> int:
        """Bytes that were written and are not acknowledged. Any thread."""
        with self._lock:
            return self._session.backlog

    def run(
        self,
        on_event: Callable[[Event], None],
        *,
        deadline: float,
        on_turn: Callable[[], None] | None = None,
    ) -> Outcome:
        """Pump until the end, the loss of the connection, or the deadline; may be called again then.

        `on_event` is called in this thread with each event of the session, and `Ended` is the last;
        `on_turn` after the events of one read. While either waits, nothing more is read.
        """
        return self._run(on_event, deadline, on_turn, heed_wake=True)

    def _run(
        self,
        on_event: Callable[[Event], None],
        deadline: float,
        on_turn: Callable[[], None] | None,
        *,
        heed_wake: bool,
    ) -> Outcome:
        with selectors.DefaultSelector() as selector:
            selector.register(self._wire, selectors.EVENT_READ)
            selector.register(self._bell, selectors.EVENT_READ)
            while self._ended is None and self._lost is None:
                with self._lock:
                    events = self._session.tick(_now_ms())
                    wake_s = self._fill()
                self._deliver(events, on_event)
                woken = heed_wake and self._woken
                if woken or monotonic() >= deadline or self._ended is not None:
                    break
                if on_turn is not None:
                    on_turn()
                self._wait(selector, min(deadline, wake_s))
                self._deliver(self._read(), on_event)
        self._woken = False
        if on_turn is not None:
            on_turn()
        return Outcome(ended=self._ended, lost=None if self._ended else self._lost)

    def close(self) -> None:
        """Say goodbye, at most GOODBYE_S long, and close the socket. Harmless again."""
        if self._wire.fileno() == -1:
            return
        goodbye = monotonic() + GOODBYE_S
        if self._session.state is State.READY:
            self._session.terminate()
            # whoever closes has often been woken, and that must not cut the goodbye short
            self._run(_ignore, goodbye, None, heed_wake=False)
        self._say(CloseConnection(code=1000))
        while self._unsent and self._lost is None and monotonic() < goodbye:
            self._flush()
            if self._unsent:
                self._wire_is_writable(goodbye)
        for end in (self._wire, self._bell, self._ringer):
            end.close()

    # --- the pump's parts -------------------------------------------------------------------------

    def _tell(self, what: Callable[[], None]) -> None:
        with self._lock:
            what()
        with contextlib.suppress(OSError):  # full: the pump is about to wake up anyway
            self._ringer.send(b"\0")

    def _fill(self) -> float:
        """Put what is due into the buffer and send what goes; returns when to come back."""
        now = monotonic()
        if len(self._unsent) <= UNSENT_MAX_BYTES:
            for data in self._session.outgoing(_now_ms()):
                self._say(BytesMessage(data))
            if now >= self._ping_at:
                self._ping_at = now + PING_S
                self._say(Ping(b"keepalive"))
        self._flush()
        wake_ms = self._session.wake_ms()
        return min(self._ping_at, wake_ms / 1000 if wake_ms is not None else self._ping_at)

    def _say(self, what: WebSocketEvent) -> None:
        if self._deaf:
            return
        try:
            self._unsent += self._websocket.send(what)
        except LocalProtocolError:  # they have closed it, and that is about to be read
            self._lost = self._lost or "the WebSocket is closed"

    def _flush(self) -> None:
        while self._unsent:
            try:
                sent = self._wire.send(self._unsent[:READ_BYTES])
            except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                return
            except OSError:
                # what they said before they left is still to be read, and reading finds the end
                self._unsent.clear()
                self._deaf = True
                return
            del self._unsent[:sent]

    def _wait(self, selector: selectors.BaseSelector, until: float) -> None:
        wanted = selectors.EVENT_WRITE if self._unsent else 0
        if len(self._unsent) <= UNSENT_MAX_BYTES:
            wanted |= selectors.EVENT_READ
            if isinstance(self._wire, ssl.SSLSocket) and self._wire.pending():
                return
        selector.modify(self._wire, wanted)
        selector.select(max(until - monotonic(), 0))
        with contextlib.suppress(BlockingIOError):
            while self._bell.recv(READ_BYTES):
                pass

    def _wire_is_writable(self, deadline: float) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._wire, selectors.EVENT_WRITE)
            selector.select(_left(deadline))

    def _read(self) -> list[Event]:
        """What came, as events. A loss is noted behind them, so that none of them is lost with it."""
        if len(self._unsent) > UNSENT_MAX_BYTES:
            return []
        events: list[Event] = []
        try:
            data = self._wire.recv(READ_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return []
        except OSError as error:
            data, reason = b"", f"the connection broke: {error}"
        else:
            reason = "the connection was closed"
        with self._lock:
            try:
                self._websocket.receive_data(data or None)
                for heard in self._websocket.events():
                    events += self._hear(heard)
            except (RemoteProtocolError, LocalProtocolError) as error:
                self._lost = self._lost or f"what came is no WebSocket: {error}"
            if not data:
                self._lost = self._lost or reason
            if self._lost is not None:
                events += self._session.lost()
        return events

    def _hear(self, heard: WebSocketEvent) -> list[Event]:
        match heard:
            case BytesMessage() | TextMessage():
                data = heard.data.encode() if isinstance(heard.data, str) else bytes(heard.data)
                self._message += data
                if len(self._message) > FRAME_MAX_BYTES:
                    self._message.clear()
                    self._lost = "a message is larger than any frame"
                elif heard.message_finished and self._lost is None:
                    message, self._message = bytes(self._message), bytearray()
                    return self._session.receive(message, _now_ms())
            case Ping():
                self._say(heard.response())
            case CloseConnection():
                reason = f": {heard.reason}" if heard.reason else ""
                self._lost = (
                    self._lost or f"the WebSocket was closed with code {heard.code}{reason}"
                )
            case Pong():
                pass
        return []

    def _deliver(self, events: list[Event], on_event: Callable[[Event], None]) -> None:
        for event in events:
            if isinstance(event, Ended):
                self._ended = event
                with self._lock:
                    self._fill()  # the last acknowledgements
            on_event(event)


def _now_ms() -> int:
    return int(monotonic() * 1000)


def _ignore(event: Event) -> None:
    del event
