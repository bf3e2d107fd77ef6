"""Rooms: what one channel brings, in order, to those who sit in it.

How somebody sits down without a hole or a double (`RunRoom.join`):

    1. the channel is subscribed and Redis has said so; from here `ring` holds what arrives
    2. the run's snapshot is read, and what the cursor lacks is read from the log
    3. as soon as the cursor has reached `top`, or the ring holds everything after it, the rest is taken
       from the ring and the seat is live: one step of the loop, so nothing can come in between
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import structlog

from chat.access import SYSTEM, Permission, Principal
from chat.errors import ChatError
from chat.events import EventJson
from chat.ports import Record
from web.frames import Framing
from web.peers import Peer

if TYPE_CHECKING:
    from web.hub import Hub

_log = structlog.get_logger(__name__)
RING_MAX_BYTES: Final = 131_072
RING_MAX_ENTRIES: Final = 512
REPLAY_CHUNK: Final = 256
_SEQ_AT: Final = len(b'{"seq":')
_FILL_TRIES: Final = 40


def seq_and_epoch(payload: bytes) -> tuple[int, bytes]:
    """The number and the epoch of an event's JSON, which begins with both (redis_log.lua)."""
    comma = payload.index(b",", _SEQ_AT)
    start = comma + len(b',"epoch":"')
    return int(payload[_SEQ_AT:comma]), payload[start : payload.index(b'"', start)]


@dataclass(slots=True)
class Entry:
    """Something a room has handed on: `seq` is 0 for what has no number; `at` counts arrivals."""

    at: int
    seq: int
    payload: bytes


@dataclass(slots=True)
class State:
    """A run at `head`, as the wire shows it."""

    head: int
    epoch: str
    shown: EventJson
    greetings: dict[tuple[Framing, str], bytes] = field(default_factory=dict)


class Seat:
    """A connection's place in a room. `cursor` is the last number it was sent."""

    __slots__ = ("cursor", "left", "live", "name", "peer", "principal", "room")

    def __init__(self, peer: Peer, room: Room, principal: Principal) -> None:
        self.peer = peer
        self.room = room
        self.name = room.name
        self.principal = principal
        self.cursor = 0
        self.live = False
        self.left = False


class Room:
    """A channel and the seats in it, by the framing they need."""

    def __init__(self, hub: Hub, channel: bytes, name: str) -> None:
        self.hub = hub
        self.channel = channel
        self.name = name
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.live: dict[Framing, dict[Seat, None]] = {}
        self.joining: set[Seat] = set()
        self.watchers: set[Callable[[bytes], None]] = set()
        self.empty_since: float | None = time.monotonic()

    def arrived(self, payloads: list[bytes]) -> None:
        """What one read of Redis brought for this room."""
        raise NotImplementedError

    def acknowledged(self) -> None:
        """The channel is subscribed."""
        if not self.ready.done():
            self.ready.set_result(None)

    def lost(self) -> None:
        """The channel is deaf until it is acknowledged again."""
        if self.ready.done():
            self.ready = asyncio.get_running_loop().create_future()

    def occupy(self) -> None:
        """Somebody is in it."""
        self.empty_since = None

    def remove(self, seat: Seat) -> None:
        """Somebody leaves."""
        self.joining.discard(seat)
        if (seats := self.live.get(seat.peer.framing)) is not None:
            seats.pop(seat, None)
            if not seats:
                del self.live[seat.peer.framing]
        self.check_empty()

    def watch(self, watcher: Callable[[bytes], None]) -> None:
        """Call `watcher` with every numbered event's JSON until `unwatch`."""
        self.watchers.add(watcher)
        self.occupy()

    def unwatch(self, watcher: Callable[[bytes], None]) -> None:
        """Stop calling it."""
        self.watchers.discard(watcher)
        self.check_empty()

    def check_empty(self) -> None:
        """Note the moment at which the last one left."""
        if not self.live and not self.joining and not self.watchers and self.empty_since is None:
            self.empty_since = time.monotonic()

    def sit(self, seat: Seat) -> None:
        """Live from here on."""
        self.joining.discard(seat)
        seat.live = True
        self.live.setdefault(seat.peer.framing, {})[seat] = None

    async def listening(self) -> None:
        """Wait until the channel is subscribed."""
        while not self.ready.done():
            await asyncio.shield(self.ready)


class Hint(Room):
    """A project's room: unnumbered frames, passed on as they are. A missed hint is made up for by one more."""

    def arrived(self, payloads: list[bytes]) -> None:
        for framing, seats in self.live.items():
            joined = b"".join(framing.passing(payload) for payload in payloads)
            for seat in seats:
                seat.peer.push(joined)

    def acknowledged(self) -> None:
        super().acknowledged()
        if self.live:
            name = self.name.encode()
            kinds = (b"runs", b"features")
            self.arrived([b'{"type":"%s","project_id":"%s"}' % (kind, name) for kind in kinds])

    async def join(self, seat: Seat) -> None:
        """Sit down."""
        self.occupy()
        self.joining.add(seat)
        await self.listening()
        if not seat.left:
            self.sit(seat)


class RunRoom(Room):
    """A run's room: numbered events without a hole or a double, and what passes between them."""

    def __init__(self, hub: Hub, channel: bytes, run_id: str) -> None:
        super().__init__(hub, channel, run_id)
        self.run_id = run_id
        self.wire_id = run_id.encode()
        self.top: int | None = None
        self.epoch = b""
        self.ring: deque[Entry] = deque()
        self.ring_bytes = 0
        self.at = 0
        self.held: list[bytes] | None = None
        """What arrives while a hole is filled; None when none is."""
        self._state_now: asyncio.Task[State] | None = None
        self._state_next: asyncio.Task[State] | None = None

    # arriving

    def arrived(self, payloads: list[bytes]) -> None:
        if self.held is not None:
            self.held.extend(payloads)
            return
        entries: list[Entry] = []
        for index, payload in enumerate(payloads):
            seq = 0
            if payload.startswith(b'{"seq":'):
                seq, epoch = seq_and_epoch(payload)
                if self.epoch and epoch != self.epoch:
                    self.rebuilt()
                    return
                if self.top is not None and seq <= self.top:
                    continue
                if self.top is not None and seq > self.top + 1:
                    self.hand_on(entries)
                    self.fill(payloads[index:])
                    return
                self.top, self.epoch = seq, epoch
            self.at += 1
            entries.append(Entry(self.at, seq, payload))
        self.hand_on(entries)

    def hand_on(self, entries: list[Entry]) -> None:
        """Push entries to every live seat: the numbered ones among them follow one another."""
        if not entries:
            return
        self.keep(entries)
        numbered = [entry.seq for entry in entries if entry.seq]
        first, last = (numbered[0], numbered[-1]) if numbered else (0, 0)
        for framing, seats in self.live.items():
            framed = [self.framed(framing, entry) for entry in entries]
            joined = framed[0] if len(framed) == 1 else b"".join(framed)
            for seat in seats:
                if not first:
                    seat.peer.push(joined)
                elif seat.cursor == first - 1:
                    seat.cursor = last
                    seat.peer.push(joined)
                else:
                    self.push_some(seat, entries, framed)
        if self.watchers and numbered:
            for watcher in tuple(self.watchers):
                for entry in entries:
                    if entry.seq:
                        watcher(entry.payload)

    def push_some(self, seat: Seat, entries: list[Entry], framed: list[bytes]) -> None:
        """For a seat that got some of the entries from the log already."""
        for entry, data in zip(entries, framed, strict=True):
            if not entry.seq:
                seat.peer.push(data)
            elif entry.seq > seat.cursor:
                seat.cursor = entry.seq
                seat.peer.push(data)

    def framed(self, framing: Framing, entry: Entry) -> bytes:
        """An entry's bytes on one kind of connection."""
        if entry.seq:
            return framing.event(self.wire_id, entry.payload)
        return framing.passing(entry.payload)

    def keep(self, entries: list[Entry]) -> None:
        """Remember entries in the ring, for those who come back in a moment."""
        self.ring.extend(entries)
        self.ring_bytes += sum(len(entry.payload) for entry in entries)
        while self.ring and (self.ring_bytes > RING_MAX_BYTES or len(self.ring) > RING_MAX_ENTRIES):
            self.ring_bytes -= len(self.ring.popleft().payload)

    # holes

    def fill(self, rest: list[bytes], *, greet: bool = False) -> None:
        """Read from the log what was not heard, and hold what arrives until then."""
        self.held = list(rest)
        self.hub.spawn(self._fill(greet=greet))

    async def _fill(self, *, greet: bool) -> None:
        """Until `top` has reached the log's head; then the held events follow it.

        `greet` sends the snapshot first: after an outage, what has no number was missed too.
        """
        for attempt in range(_FILL_TRIES):
            try:
                state = await self.state()
                if state.epoch.encode() != self.epoch:
                    break
                if greet:
                    self.greet_again(state)
                    greet = False
                if await self._reach(state.head):
                    held, self.held = self.held or [], None
                    self.in_one_batch(lambda held=held: self.arrived(held))  # type: ignore[misc]
                    self.wake()
                    return
            except ChatError as error:
                _log.warning("live.fill_failed", run_id=self.run_id, code=error.code)
            await asyncio.sleep(min(2.0, 0.05 * 2**attempt))
        self.rebuilt()

    async def _reach(self, head: int) -> bool:
        """Hand on what the log holds after `top`. False when it does not go on without a hole."""
        while self.top is not None and self.top < head:
            records = await self.hub.read(self.log_after, self.top)
            if not records or records[0].seq != self.top + 1:
                return False
            entries = []
            for record in records:
                self.at += 1
                entries.append(Entry(self.at, record.seq, record.data))
            self.top = records[-1].seq
            self.in_one_batch(lambda entries=entries: self.hand_on(entries))  # type: ignore[misc]
        return True

    def in_one_batch(self, work: Callable[[], None]) -> None:
        """What is pushed meanwhile goes out as one write per connection."""
        self.hub.batching = True
        try:
            work()
        finally:
            self.hub.flush()

    def greet_again(self, state: State) -> None:
        """Tell the live seats where the run stands."""
        for framing, seats in self.live.items():
            greeting = self.greeting(framing, "ok", state)
            for seat in seats:
                seat.peer.push(greeting)

    def greeting(self, framing: Framing, resume: str, state: State) -> bytes:
        """The first frame of a seat: made once for all who share the state."""
        made = state.greetings.get((framing, resume))
        if made is None:
            made = framing.greeting(self.run_id, resume, state.shown)
            state.greetings[framing, resume] = made
        return made

    def wake(self) -> None:
        """Let the watchers look again: something may have passed unheard."""
        for watcher in tuple(self.watchers):
            watcher(b"")

    def rebuilt(self) -> None:
        """The log is another one now (a new epoch): everybody resumes, and is told `gap`."""
        self.held = None
        self.top, self.epoch = None, b""
        self.ring.clear()
        self.ring_bytes = 0
        for seat in [*self.joining, *(seat for seats in self.live.values() for seat in seats)]:
            seat.peer.expel(4000, "resume from your cursor")

    def acknowledged(self) -> None:
        again = not self.ready.done() and self.top is not None
        super().acknowledged()
        if again and self.held is None and (self.live or self.joining or self.watchers):
            self.fill([], greet=True)
        elif (
            again and self.held is None
        ):  # nobody would notice a hole, so nothing is known any more
            self.top, self.epoch = None, b""
            self.ring.clear()
            self.ring_bytes = 0

    # reading the log (on the pool)

    def log_after(self, cursor: int) -> list[Record]:
        """The next records after a number, in order, as many as one page holds."""
        return self.hub.chat.live.since(SYSTEM, self.run_id, cursor)

    async def state(self) -> State:
        """The run's state, read after this call: several callers share one reading."""
        if self._state_next is None:
            self._state_next = self.hub.spawn(self._read_state(self._state_now))
        return await asyncio.shield(self._state_next)

    async def _read_state(self, running: asyncio.Task[State] | None) -> State:
        if running is not None:
            await asyncio.wait({running})
        self._state_now, self._state_next = self._state_next, None
        return await self.hub.read(self._look)

    def _look(self) -> State:
        """On the pool."""
        chat = self.hub.chat
        snapshot = chat.live.snapshot(SYSTEM, self.run_id)
        shown = chat.runs.snapshot_json(self.run_id, snapshot)
        return State(snapshot.head, snapshot.epoch, shown)

    # sitting down

    async def join(self, seat: Seat, after: int | None, epoch: str | None) -> None:
        """Bring a seat from its cursor to live; None is the log's head.

        Raises ChatError when the run may not be read or cannot be.
        """
        self.occupy()
        self.joining.add(seat)
        try:
            while not seat.left:
                await self.listening()
                await self.hub.read(
                    self.hub.chat.runs.authorize, seat.principal, Permission.READ, self.run_id
                )
                mark = self.at
                state = await self.state()
                resume = "ok"
                if after is None:
                    seat.cursor = state.head
                elif after > state.head or (epoch is not None and epoch != state.epoch):
                    resume, seat.cursor = "gap", state.head
                else:
                    seat.cursor = after
                if self.top is None:
                    self.top, self.epoch = state.head, state.epoch.encode()
                seat.peer.push(self.greeting(seat.peer.framing, resume, state))
                if await self._catch_up(seat, mark):
                    return
                after, epoch = seat.cursor, state.epoch
        finally:
            self.joining.discard(seat)
            self.check_empty()

    async def _catch_up(self, seat: Seat, mark: int) -> bool:
        """Send what the seat lacks and make it live. False when too much passed by meanwhile:
        frames without a number that it should have had are not in the ring any more."""
        while not seat.left:
            top = self.top or 0
            first = next((entry.seq for entry in self.ring if entry.seq), top + 1)
            if self.ready.done() and seat.cursor >= first - 1:
                if (self.ring[0].at if self.ring else self.at + 1) > mark + 1:
                    return False
                framing = seat.peer.framing
                for entry in self.ring:
                    if entry.seq > seat.cursor:
                        seat.cursor = entry.seq
                        seat.peer.push(self.framed(framing, entry))
                    elif not entry.seq and entry.at > mark:
                        seat.peer.push(self.framed(framing, entry))
                self.sit(seat)
                return True
            records = await self.hub.read(self.log_after, seat.cursor)
            if not records:
                await asyncio.sleep(0.02)  # published, but this reader of the log is behind
            await self._replay(seat, records)
        return True

    async def _replay(self, seat: Seat, records: list[Record]) -> None:
        for start in range(0, len(records), REPLAY_CHUNK):
            if seat.left:
                return
            chunk = [r for r in records[start : start + REPLAY_CHUNK] if r.seq > seat.cursor]
            if chunk:
                event = seat.peer.framing.event
                seat.peer.push(b"".join(event(self.wire_id, r.data) for r in chunk))
                seat.cursor = chunk[-1].seq
            await seat.peer.drained()
