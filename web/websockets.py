"""A WebSocket after its handshake: bytes in, whole messages out, with every limit (security.md 13)."""

from __future__ import annotations

import time
from typing import Any, ClassVar, Final

from wsproto.frame_protocol import Frame, FrameDecoder, MessageDecoder, Opcode, ParseFailed

from web import frames
from web.hub import HEARTBEAT_S, Hub
from web.peers import Peer

SILENCE_S: Final = 2 * HEARTBEAT_S + 5


class WebSocketPeer(Peer):
    """One browser page's connection. What it says comes to `text` and `binary`."""

    __slots__ = ("_allowance", "_decoder", "_messages", "_pieces", "_refilled", "_size")
    a_second: ClassVar[float] = 30.0
    at_once: ClassVar[int] = 120
    """How many messages it may send: a bucket that holds `at_once` and fills `a_second`."""

    def __init__(self, hub: Hub) -> None:
        super().__init__(hub, frames.WEBSOCKET)
        self._decoder: FrameDecoder | None = None
        self._messages = MessageDecoder()
        self._pieces: list[Any] = []
        self._size = 0
        self._allowance = float(self.at_once)
        self._refilled = self.heard

    # what the kinds fill in

    def text(self, words: str) -> None:
        """A whole text message."""

    def binary(self, data: bytes) -> None:  # noqa: ARG002 - for those that take it
        """A whole binary message."""
        self.expel(1003, "text only")

    # the connection

    def beat(self, now: float) -> None:
        """A ping of ours: a browser that is offline keeps its socket open and silent."""
        if now - self.heard > SILENCE_S:
            self.expel(4408, "no pong")
        else:
            self.push(frames.PING)

    def too_slow(self) -> None:
        """The other end does not read."""
        self.expel(4000, "resume from your cursor")

    def go_away(self) -> None:
        """The process ends."""
        self.expel(1001, "the server is going away")

    def expel(self, code: int, reason: str) -> None:
        """Close with a code and its reason."""
        self.finish(frames.close(code, reason))

    # frames

    def data_received(self, data: bytes) -> None:
        """Bytes from the other end. An idle socket keeps no parser."""
        if self.closing:
            return
        self.heard = time.monotonic()
        if self._decoder is None:
            self._decoder = FrameDecoder(client=False)
        decoder = self._decoder
        try:
            decoder.receive_bytes(data)
            while self._open() and (frame := decoder.process_buffer()) is not None:
                self._frame(frame)
        except ParseFailed as error:
            self.expel(int(error.code), "not a frame as RFC 6455 has it")
            return
        if decoder.header is None and not len(decoder.buffer):
            self._decoder = None

    def _open(self) -> bool:
        return not self.closing

    def _frame(self, frame: Frame) -> None:
        if not frame.opcode.iscontrol():
            frame = self._messages.process_frame(frame)
        if frame.opcode is Opcode.TEXT:
            assert isinstance(frame.payload, str)  # noqa: S101 - what wsproto promises
            if self._took(frame, len(frame.payload.encode())):
                whole = "".join(self._whole())
                if self._may_go_on():
                    self.text(whole)
        elif frame.opcode is Opcode.PING:
            if self._may_go_on():
                assert isinstance(frame.payload, bytes)  # noqa: S101 - what wsproto promises
                self.push(frames.pong(frame.payload))
        elif frame.opcode is Opcode.CLOSE:
            self.expel(1000, "")
        elif frame.opcode is Opcode.BINARY and self._took(frame, len(frame.payload)):
            data = b"".join(self._whole())
            if self._may_go_on():
                self.binary(data)

    def _took(self, frame: Frame, size: int) -> bool:
        """Keep a piece of a message; True when it was the last one."""
        self._size += size
        if self._size > self.hub.chat.settings.frame_max_bytes:
            self.expel(1009, "larger than a frame may be")
            return False
        self._pieces.append(frame.payload)
        return bool(frame.message_finished)

    def _whole(self) -> list[Any]:
        """The pieces of the message; all are of one kind."""
        pieces, self._pieces, self._size = self._pieces, [], 0
        return pieces

    def _may_go_on(self) -> bool:
        """One more message."""
        self._allowance = min(
            float(self.at_once),
            self._allowance + (self.heard - self._refilled) * self.a_second,
        )
        self._refilled = self.heard
        if self._allowance < 1:
            self.expel(4429, "too many frames")
            return False
        self._allowance -= 1
        return True
