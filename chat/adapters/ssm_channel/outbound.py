"""Our stream: numbered from 0, cut into chunks, and sent again until it is acknowledged.

Times are milliseconds of any clock that does not go back. A frame is sent again 200 ms after it went
out, then after 400, 800, 1,000, 1,000 …: the plugin's first and longest wait (`config.go`), which it
adapts to the round trip in between. The first frame carries SYN, as the agent's own does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from chat.adapters.ssm_channel.frames import PAYLOAD_OFFSET, Flags, Frame, MessageType, encode

CHUNK_BYTES: Final = 1_024
RESEND_FIRST_MS: Final = 200
RESEND_MAX_MS: Final = 1_000
ATTEMPTS_MAX: Final = 60
"""About a minute without an acknowledgement."""
WINDOW_FRAMES: Final = 32
"""Sent and not acknowledged at a time."""
WAITING_MAX_BYTES: Final = 1024 * 1024


class Full(Exception):
    """More waits to be sent than the bound allows; the other side does not acknowledge."""


@dataclass(slots=True)
class _Sent:
    data: bytes
    payload_type: int
    due_ms: int
    attempts: int


class Outbound:
    """A stream that is being sent. `new_id` makes the frames' ids, `wall_ms` their time of creation."""

    def __init__(self, *, new_id: Callable[[], UUID], wall_ms: Callable[[], int]) -> None:
        self._new_id = new_id
        self._wall_ms = wall_ms
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._waiting_bytes = 0
        self._pressing = 0
        """How many of those that wait, the first ones, do not wait for the window."""
        self._sent: dict[int, _Sent] = {}
        self._next = 0

    @property
    def empty(self) -> bool:
        """Whether everything was sent and acknowledged."""
        return not self._waiting and not self._sent

    @property
    def backlog(self) -> int:
        """Bytes of payload that wait or are under way."""
        return self._waiting_bytes + sum(
            len(sent.data) - PAYLOAD_OFFSET for sent in self._sent.values()
        )

    @property
    def given_up(self) -> bool:
        """Whether a frame was sent as often as it may be and nobody acknowledged it."""
        return any(sent.attempts > ATTEMPTS_MAX for sent in self._sent.values())

    def add(self, payload_type: int, payload: bytes) -> None:
        """Queue a payload as chunks. Raises Full, and then none of it is queued."""
        if self._waiting_bytes + len(payload) > WAITING_MAX_BYTES:
            raise Full(f"{self._waiting_bytes} bytes wait to be sent")
        self._waiting_bytes += len(payload)
        for start in range(0, len(payload), CHUNK_BYTES):
            self._waiting.append((payload_type, payload[start : start + CHUNK_BYTES]))

    def put_first(self, payload_type: int, payload: bytes) -> None:
        """Queue a payload of one chunk ahead of everything that waits, to be sent whatever the window."""
        self._waiting_bytes += len(payload)
        self._pressing += 1
        self._waiting.appendleft((payload_type, payload))

    def send(self, payload_type: int, payload: bytes, now_ms: int) -> bytes:
        """Number a payload ahead of everything that waits, and give its first bytes to be sent."""
        frame = Frame(
            type=MessageType.INPUT,
            id=self._new_id(),
            created_ms=self._wall_ms(),
            sequence=self._next,
            flags=Flags.SYN if self._next == 0 else Flags.NONE,
            payload_type=payload_type,
            payload=payload,
        )
        data = encode(frame)
        self._sent[self._next] = _Sent(data, payload_type, now_ms + RESEND_FIRST_MS, 1)
        self._next += 1
        return data

    def acknowledge(self, sequence: int) -> None:
        """Forget a frame that has arrived; a number that is not under way is passed over."""
        self._sent.pop(sequence, None)

    def settle(self, payload_type: int) -> None:
        """Forget the frames of this type: that they have arrived is known from what followed."""
        for sequence in [n for n, sent in self._sent.items() if sent.payload_type == payload_type]:
            del self._sent[sequence]

    def due(self, now_ms: int, *, new: bool) -> list[bytes]:
        """What to send now: repeats, and, if `new`, what waits, as far as the window allows."""
        out = []
        for sent in self._sent.values():
            if sent.due_ms <= now_ms:
                sent.due_ms = now_ms + min(RESEND_FIRST_MS << min(sent.attempts, 8), RESEND_MAX_MS)
                sent.attempts += 1
                out.append(sent.data)
        while new and self._waiting and (self._pressing or len(self._sent) < WINDOW_FRAMES):
            payload_type, payload = self._waiting.popleft()
            self._pressing = max(self._pressing - 1, 0)
            self._waiting_bytes -= len(payload)
            out.append(self.send(payload_type, payload, now_ms))
        return out

    def wake_ms(self) -> int | None:
        """When the next repeat is due."""
        return min((sent.due_ms for sent in self._sent.values()), default=None)
