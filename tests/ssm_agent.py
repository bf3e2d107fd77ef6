"""The other side of the SSM data channel: an agent on frame level, the weather between, and a real server.

Its framing is written from the vendor's description alone and shares nothing with ours. It behaves as
amazon-ssm-agent does: asks for the handshake, throws away input before it is complete, sends again what
is not acknowledged, and closes when everything is. Unlike it, it acknowledges repeats, since
otherwise a lost acknowledgement could never be made good.
"""

from __future__ import annotations

import base64
import hashlib
import heapq
import json
import select
import socket
import ssl
import struct
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Ping,
    RejectConnection,
    Request,
    TextMessage,
)
from wsproto.utilities import LocalProtocolError, RemoteProtocolError


@dataclass
class Raw:
    """A frame's fields as they stand in its bytes."""

    type: str
    sequence: int
    flags: int
    id: str
    payload_type: int
    payload: bytes
    created: int = 0


def pack(
    kind: str,
    sequence: int,
    payload: bytes,
    *,
    payload_type: int = 0,
    flags: int = 0,
    name: uuid.UUID | None = None,
) -> bytes:
    name = name or uuid.uuid4()
    low, high = name.int & (2**64 - 1), name.int >> 64
    return b"".join(
        (
            struct.pack(">i", 116),
            kind.encode().ljust(32),
            struct.pack(">i", 1),
            struct.pack(">q", int(time.time() * 1000)),
            struct.pack(">q", sequence),
            struct.pack(">q", flags),
            struct.pack(">QQ", low, high),
            hashlib.sha256(payload).digest(),
            struct.pack(">i", payload_type),
            struct.pack(">i", len(payload)),
            payload,
        )
    )


def unpack(data: bytes) -> Raw:
    (header,) = struct.unpack_from(">i", data, 0)
    (length,) = struct.unpack_from(">i", data, 116)
    assert header == 116
    assert len(data) == 120 + length
    assert hashlib.sha256(data[120:]).digest() == data[80:112]
    low, high = struct.unpack_from(">QQ", data, 64)
    return Raw(
        type=data[4:36].decode().strip(),
        created=struct.unpack_from(">q", data, 40)[0],
        sequence=struct.unpack_from(">q", data, 48)[0],
        flags=struct.unpack_from(">q", data, 56)[0],
        id=str(uuid.UUID(int=high << 64 | low)),
        payload_type=struct.unpack_from(">i", data, 112)[0],
        payload=data[120:],
    )


@dataclass
class FakeAgent:
    """One session's agent. `close` is what `channel_closed` says, None never closes by itself."""

    output: bytes = b""
    expects: int = 0
    """Bytes of input after which the command ends."""
    handshake: bool = True
    actions: tuple[dict[str, Any], ...] = (
        {"ActionType": "SessionType", "ActionParameters": {"SessionType": "InteractiveCommands"}},
    )
    close: str | None = ""
    chunk: int = 1_024
    again_ms: int = 50
    at_once: str | None = None
    """Close with this before anything else."""

    received: bytearray = field(default_factory=bytearray)
    sizes: list[dict[str, int]] = field(default_factory=list)
    responses: list[dict[str, Any]] = field(default_factory=list)
    acknowledged: list[dict[str, Any]] = field(default_factory=list)
    heard: list[Raw] = field(default_factory=list)
    thrown_away: int = 0
    terminated: bool = False
    closed: bool = False
    _sequence: int = 0
    _unacknowledged: dict[int, tuple[bytes, int]] = field(default_factory=dict)
    _expected: int = 0
    _early: dict[int, Raw] = field(default_factory=dict)
    _complete: bool = False
    _now: int = 0

    def start(self, now: int) -> list[bytes]:
        self._now = now
        if self.at_once is not None:
            return self._close(self.at_once)
        if not self.handshake:
            self._complete = True
            return self._speak() + self._end()
        request = {"AgentVersion": "3.3.1142.0", "RequestedClientActions": list(self.actions)}
        return [self._send(5, json.dumps(request).encode())]

    def hear(self, data: bytes, now: int) -> list[bytes]:
        """Take a message; what to answer."""
        self._now = now
        if self.closed:
            return []
        try:
            frame = unpack(data)
        except (AssertionError, struct.error, UnicodeDecodeError):
            return []  # damaged on the way: sent again
        self.heard.append(frame)
        if frame.type == "acknowledge":
            assert (frame.sequence, frame.flags, frame.payload_type) == (0, 3, 0)
            content = json.loads(frame.payload)
            assert content["AcknowledgedMessageType"] == "output_stream_data"
            assert content["IsSequentialMessage"] is True
            self.acknowledged.append(content)
            self._unacknowledged.pop(content["AcknowledgedMessageSequenceNumber"], None)
            return self._end()
        assert frame.type == "input_stream_data"
        assert frame.flags == (1 if frame.sequence == 0 else 0)
        assert len(frame.payload) <= 1_024
        out = [self._acknowledge(frame)]
        if frame.sequence < self._expected or frame.sequence in self._early:
            return out
        self._early[frame.sequence] = frame
        while (ready := self._early.pop(self._expected, None)) is not None:
            self._expected += 1
            out += self._take(ready)
        return out + self._end()

    def tick(self, now: int) -> list[bytes]:
        """What is to be sent again."""
        self._now = now
        out = []
        for sequence, (data, at) in self._unacknowledged.items():
            if not self.closed and at + self.again_ms <= now:
                self._unacknowledged[sequence] = (data, now)
                out.append(data)
        return out

    def _take(self, frame: Raw) -> list[bytes]:
        if frame.payload_type == 6:
            response = json.loads(frame.payload)
            self.responses.append(response)
            failed = [a for a in response["ProcessedClientActions"] if a["ActionStatus"] != 1]
            if failed:
                return self._close(
                    "----------ERROR-------\nEncountered error while initiating handshake. "
                    f"{failed[0]['ActionType']} failed on client with status 2"
                )
            self._complete = True
            done = {"HandshakeTimeToComplete": 1_000_000, "CustomerMessage": "Welcome."}
            return [self._send(7, json.dumps(done).encode()), *self._speak()]
        if not self._complete:
            self.thrown_away += 1
        elif frame.payload_type == 1:
            self.received += frame.payload
        elif frame.payload_type == 3:
            self.sizes.append(json.loads(frame.payload))
        elif frame.payload_type == 10:
            assert frame.payload == b"\0\0\0\2"
            self.terminated = True
            return self._close("")
        return []

    def _speak(self) -> list[bytes]:
        starts = range(0, len(self.output), self.chunk)
        return [self._send(1, self.output[start : start + self.chunk]) for start in starts]

    def _send(self, payload_type: int, payload: bytes) -> bytes:
        flags = 1 if self._sequence == 0 else 0
        data = pack(
            "output_stream_data", self._sequence, payload, payload_type=payload_type, flags=flags
        )
        self._unacknowledged[self._sequence] = (data, self._now)
        self._sequence += 1
        return data

    def _acknowledge(self, frame: Raw) -> bytes:
        content = {
            "AcknowledgedMessageType": frame.type,
            "AcknowledgedMessageId": frame.id,
            "AcknowledgedMessageSequenceNumber": frame.sequence,
            "IsSequentialMessage": True,
        }
        return pack("acknowledge", 0, json.dumps(content).encode(), flags=3)

    def _end(self) -> list[bytes]:
        over = self._complete and not self._unacknowledged and len(self.received) >= self.expects
        return self._close(self.close) if over and self.close is not None else []

    def _close(self, said: str) -> list[bytes]:
        if self.closed:
            return []
        self.closed = True
        content = {"MessageType": "channel_closed", "SchemaVersion": 1, "Output": said}
        return [pack("channel_closed", 0, json.dumps(content).encode())]


Fate = tuple[int, ...] | str
"""What becomes of a message: its copies' delays in ms (none: it is lost), or "damaged"."""


@dataclass
class Weather:
    """Lets messages through as the fates say, one after the other; after the last, all and at once.

    The end is never lost: it comes from the service, over a connection that does not lose.
    """

    fates: list[Fate]

    def on_the_way(self, data: bytes) -> list[tuple[int, bytes]]:
        if b"channel_closed" in data[:36] or not self.fates:
            return [(0, data)]
        fate = self.fates.pop(0)
        if isinstance(fate, str):
            return [(0, data[:-1] + bytes([data[-1] ^ 1]))]
        return [(delay, data) for delay in fate]


@dataclass
class Visit:
    """One WebSocket connection as the server saw it."""

    target: str
    opening: dict[str, Any] = field(default_factory=dict)
    left: bool = False
    done: threading.Event = field(default_factory=threading.Event)


class ChannelServer:
    """A real WebSocket server on loopback with an agent behind it.

    `refuse` answers the upgrade with that status; `raw` takes over the socket instead of everything
    else; `leave_after` drops the connection after so many messages were sent.
    """

    def __init__(
        self,
        agent: FakeAgent,
        *,
        fates: list[Fate] | None = None,
        refuse: int | None = None,
        raw: Callable[[socket.socket], None] | None = None,
        leave_after: int | None = None,
        tls: ssl.SSLContext | None = None,
        small_window: bool = False,
    ) -> None:
        self.agent = agent
        self.weather = Weather(fates or [])
        self.visits: list[Visit] = []
        self.problems: list[BaseException] = []
        self._refuse, self._raw, self._leave_after, self._tls = refuse, raw, leave_after, tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        if small_window:  # what the kernel takes for a reader that does not read
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2_048)
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        scheme = "wss" if tls else "ws"
        host = "localhost" if tls else "127.0.0.1"
        self.url = f"{scheme}://{host}:{self._listener.getsockname()[1]}/v1/data-channel/s-1?role=x"

    @contextmanager
    def running(self) -> Iterator[ChannelServer]:
        thread = threading.Thread(target=self._accept, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            thread.join(5)
            for visitor in self._threads:
                visitor.join(5)
            self._listener.close()
        assert not self.problems, self.problems

    def _accept(self) -> None:
        while not self._stop.is_set():
            if select.select([self._listener], [], [], 0.02)[0]:
                wire, _ = self._listener.accept()
                thread = threading.Thread(target=self._serve, args=(wire,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, wire: socket.socket) -> None:
        try:
            if self._tls:
                wire.settimeout(5)
                wire = self._tls.wrap_socket(wire, server_side=True)
            with wire:
                (self._raw or self._talk)(wire)
        except (OSError, LocalProtocolError, RemoteProtocolError):
            pass  # the other side left in the middle, which is its right
        except BaseException as error:  # noqa: BLE001 - a thread's failure is the test's failure
            self.problems.append(error)

    def _talk(self, wire: socket.socket) -> None:
        websocket = WSConnection(ConnectionType.SERVER)
        visit = Visit("")
        queue: list[tuple[int, int, bytes]] = []
        sent = counter = 0

        def now() -> int:
            return int(time.monotonic() * 1000)

        def post(messages: list[bytes]) -> None:
            nonlocal counter
            for message in messages:
                for delay, data in self.weather.on_the_way(message):
                    counter += 1
                    heapq.heappush(queue, (now() + delay, counter, data))

        while not self._stop.is_set():
            while queue and queue[0][0] <= now():
                wire.sendall(websocket.send(BytesMessage(heapq.heappop(queue)[2])))
                sent += 1
                if self._leave_after is not None and sent >= self._leave_after:
                    return
            pending = isinstance(wire, ssl.SSLSocket) and wire.pending()
            if not pending and not select.select([wire], [], [], 0.005)[0]:
                if visit.opening:
                    post(self.agent.tick(now()))
                continue
            data = wire.recv(65_536)
            websocket.receive_data(data or None)
            for event in websocket.events():
                match event:
                    case Request():
                        if self._refuse:
                            refusal = RejectConnection(status_code=self._refuse)
                            wire.sendall(websocket.send(refusal))
                            return
                        visit.target = event.target
                        self.visits.append(visit)
                        wire.sendall(websocket.send(AcceptConnection()))
                    case TextMessage():
                        visit.opening = json.loads(event.data)
                        post(self.agent.start(now()))
                    case BytesMessage():
                        post(self.agent.hear(bytes(event.data), now()))
                    case Ping():
                        wire.sendall(websocket.send(event.response()))
                    case CloseConnection():
                        visit.left = True
                        visit.done.set()
                        wire.sendall(websocket.send(event.response()))
                        return
            if not data:
                visit.done.set()
                return


def secret() -> str:
    """A token as long as AWS's."""
    return base64.b64encode(uuid.uuid4().bytes * 8).decode()
