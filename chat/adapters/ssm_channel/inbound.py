"""The other side's stream: each frame once, in order, with a bounded buffer for those that come early.

A frame that is taken or was taken before is acknowledged; one for which there is no room is not, and
so the other side sends it again. (The vendor's client is silent on repeats, and then a lost
acknowledgement is never made good.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from chat.adapters.ssm_channel.frames import Flags, Frame

EARLY_MAX_FRAMES: Final = 1_024
EARLY_MAX_BYTES: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a frame: whether to acknowledge it, and the frames whose turn it now is."""

    acknowledge: bool
    ready: tuple[Frame, ...] = ()


class Inbound:
    """A stream's order. `expected` is the sequence number whose turn it is."""

    def __init__(self) -> None:
        self.expected = 0
        self._started = False
        self._early: dict[int, Frame] = {}
        self._early_bytes = 0

    @property
    def hole(self) -> bool:
        """Whether something is known to be missing: later frames are here already."""
        return bool(self._early)

    def take(self, frame: Frame) -> Taken:
        """Take a frame of the stream, or leave it."""
        if not self._started and frame.flags & Flags.SYN and not self._early:
            self.expected = frame.sequence
        if frame.sequence < self.expected or frame.sequence in self._early:
            return Taken(acknowledge=True)
        if frame.sequence > self.expected:
            return Taken(acknowledge=self._keep(frame))
        ready = [frame]
        self._started = True
        self.expected += 1
        while (follower := self._early.pop(self.expected, None)) is not None:
            self._early_bytes -= len(follower.payload)
            ready.append(follower)
            self.expected += 1
        return Taken(acknowledge=True, ready=tuple(ready))

    def _keep(self, frame: Frame) -> bool:
        room = (
            frame.sequence - self.expected <= EARLY_MAX_FRAMES
            and self._early_bytes + len(frame.payload) <= EARLY_MAX_BYTES
        )
        if room:
            self._early[frame.sequence] = frame
            self._early_bytes += len(frame.payload)
        return room
