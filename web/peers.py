"""One end of a connection that was handed over: its outgoing bytes, bounded, and its end."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final, cast

from web.frames import Framing

if TYPE_CHECKING:
    from web.hub import Hub, Seat

HIGH_WATER_BYTES: Final = 65_536
BUFFER_MAX_BYTES: Final = 1_048_576
LINGER_S: Final = 30.0
"""How long a connection that is being closed may take to read what it was sent, and the code."""


class Peer(asyncio.Protocol):
    """A connection as the hub sees it. Everything here runs on the loop's thread.

    What is pushed while a batch is handled is joined into one write at the batch's end. What the
    other end has not read waits in the transport; beyond `buffer_max` the peer is told to resume.
    """

    __slots__ = (
        "_drained", "closing", "framing", "heard", "hub", "out", "paused", "seats", "slot", "transport",
    )  # fmt: skip
    buffer_max = BUFFER_MAX_BYTES

    def __init__(self, hub: Hub, framing: Framing) -> None:
        self.hub = hub
        self.framing = framing
        self.transport: asyncio.Transport | None = None
        self.out: list[bytes] = []
        self.paused = False
        self.closing = False
        self._drained: asyncio.Future[None] | None = None
        self.seats: dict[str, Seat] = {}
        self.heard = time.monotonic()
        self.slot = -1

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is ours from here."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's are registered nowhere
        self.transport.set_write_buffer_limits(high=HIGH_WATER_BYTES, low=HIGH_WATER_BYTES // 4)
        self.hub.entered(self)
        self.opened()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """The other end is gone, or we closed."""
        self.closing = True
        self.transport = None
        self.out.clear()
        self.resume_writing()
        self.hub.left(self)
        self.ended()

    def pause_writing(self) -> None:
        """The other end reads more slowly than we write."""
        self.paused = True

    def resume_writing(self) -> None:
        """It has caught up."""
        self.paused = False
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._drained = None

    # what the kinds of peers fill in

    def opened(self) -> None:
        """Say hello."""

    def ended(self) -> None:
        """Let go of what this kind of peer holds."""

    def beat(self, now: float) -> None:
        """Called every heartbeat: show the other end that we live, and check that it does."""

    def too_slow(self) -> None:
        """The buffer is full: close in the way that means "resume from your cursor"."""
        self.finish(b"")

    def go_away(self) -> None:
        """The process is ending: close in the way that means "come back"."""
        self.finish(b"")

    def expel(self, code: int, reason: str) -> None:  # noqa: ARG002 - for those that can say it
        """Close for a reason the other end should know, as a WebSocket close code."""
        self.finish(b"")

    # writing

    def push(self, data: bytes) -> None:
        """Send, at the end of the present batch or at once."""
        if self.closing:
            return
        if self.hub.batching:
            if not self.out:
                self.hub.dirty.append(self)
            self.out.append(data)
        else:
            self.write(data)

    def flush(self) -> None:
        """Write what was pushed during a batch."""
        out = self.out
        if not out:
            return
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        self.write(data)

    def write(self, data: bytes) -> None:
        """Write past the batch. A full buffer closes the peer."""
        transport = self.transport
        if transport is None or self.closing:
            return
        transport.write(data)
        if self.paused and transport.get_write_buffer_size() > self.buffer_max:
            self.too_slow()

    async def drained(self) -> None:
        """Wait until the other end has read most of what it was sent (or is gone)."""
        if not self.paused:
            return
        if self._drained is None:
            self._drained = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._drained)

    def finish(self, last: bytes) -> None:
        """Send the last bytes and close; a peer that does not read them is cut off after a while."""
        transport = self.transport
        if transport is None or self.closing:
            return
        self.closing = True
        self.out.clear()
        for seat in list(self.seats.values()):
            self.hub.leave(seat)
        if last:
            transport.write(last)
        transport.close()
        asyncio.get_running_loop().call_later(LINGER_S, transport.abort)
