"""The process's reader of all runs somebody looks at, and who looks at them.

    Redis ── Subscriber ── Hub ── Room (one per channel) ── Seat (one per connection and room) ── Peer

A room knows the last number it has handed on (`top`). What arrives next in order is framed once per
kind of connection and pushed to all seats; a hole is filled from the log first. Publish is for speed,
the log is for truth. Everything here runs on the loop's thread; reading the log happens on `pool`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

import structlog

from chat.access import Permission, Principal
from chat.bootstrap import Chat
from chat.errors import Forbidden, NotFound, Unauthenticated
from web.limits import Limits
from web.peers import Peer
from web.rooms import Hint, Room, RunRoom, Seat
from web.subscriber import Subscriber

T = TypeVar("T")
_log = structlog.get_logger(__name__)
HEARTBEAT_S: Final = 15
RECHECK_BEATS: Final = 4
"""Access is looked up again every so many heartbeats: once a minute (security.md 2)."""
LINGER_S: Final = 10.0
"""How long a room that everybody left stays subscribed: reloads and the next long poll find it warm."""
POOL_THREADS: Final = 8

__all__ = ["HEARTBEAT_S", "Hub", "Seat"]


class Hub:
    """Made on the loop's thread, once per process."""

    def __init__(self, chat: Chat, limits: Limits) -> None:
        self.chat = chat
        self.limits = limits
        self.loop = asyncio.get_running_loop()
        self.pool = ThreadPoolExecutor(POOL_THREADS, thread_name_prefix="live")
        self.rooms: dict[bytes, Room] = {}
        self.peers: set[Peer] = set()
        self.per_principal: dict[str, int] = {}
        self.nobodies = 0
        self.dirty: list[Peer] = []
        self.batching = False
        self.stopping = False
        self._wheel: list[set[Peer]] = [set() for _ in range(HEARTBEAT_S)]
        self._next_slot = 0
        self._turn = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self.subscriber = Subscriber(chat.settings.redis_url, self)
        self.subscriber.start()
        self._ticker = asyncio.get_running_loop().call_later(1, self._tick)

    # work

    async def read(self, function: Callable[..., T], *args: Any, **named: Any) -> T:
        """Call the (synchronous) domain on the pool."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.pool, lambda: function(*args, **named))

    def spawn(self, work: Any) -> asyncio.Task[Any]:
        """Start a coroutine and keep it from being collected."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("live.task_failed", exc_info=error)

    # peers

    def entered(self, peer: Peer) -> None:
        """A connection was made."""
        self.peers.add(peer)
        peer.slot = self._next_slot = (self._next_slot + 1) % HEARTBEAT_S
        self._wheel[peer.slot].add(peer)

    def left(self, peer: Peer) -> None:
        """A connection is gone: its seats are empty."""
        self.peers.discard(peer)
        self._wheel[peer.slot].discard(peer)
        for seat in list(peer.seats.values()):
            self.leave(seat)

    def count(self, principal: Principal, by: int, *, always: bool = False) -> bool:
        """Count a principal's connections; False when it has as many as it may."""
        now = self.per_principal.get(principal.id, 0) + by
        if by > 0 and not always and now > self.chat.settings.connections_per_principal:
            return False
        if now > 0:
            self.per_principal[principal.id] = now
        else:
            self.per_principal.pop(principal.id, None)
        return True

    # rooms

    def run_room(self, run_id: str) -> RunRoom:
        """The room of a run; subscribed when it is new."""
        channel = self.chat.live.run_channel(run_id).encode()
        room = self.rooms.get(channel)
        if room is None:
            room = self.rooms[channel] = RunRoom(self, channel, run_id)
            self.subscriber.subscribe(channel)
        assert isinstance(room, RunRoom)  # noqa: S101 - the channel's name decides
        return room

    def project_room(self, project_id: str) -> Hint:
        """The room of a project, in which only hints are passed on."""
        channel = self.chat.live.project_channel(project_id).encode()
        room = self.rooms.get(channel)
        if room is None:
            room = self.rooms[channel] = Hint(self, channel, project_id)
            self.subscriber.subscribe(channel)
        assert isinstance(room, Hint)  # noqa: S101 - the channel's name decides
        return room

    def leave(self, seat: Seat) -> None:
        """Get up. An empty room is given up after a while (`_tick`)."""
        seat.left = True
        seat.peer.seats.pop(seat.name, None)
        seat.room.remove(seat)

    # what the subscriber tells (subscriber.Listener)

    def batch(self, messages: list[tuple[bytes, bytes]]) -> None:
        """Hand on what one read brought: grouped by room, then one write per connection."""
        rooms: dict[Room, list[bytes]] = {}
        for channel, payload in messages:
            if (room := self.rooms.get(channel)) is not None:
                if (found := rooms.get(room)) is not None:
                    found.append(payload)
                else:
                    rooms[room] = [payload]
        self.batching = True
        try:
            for room, payloads in rooms.items():
                try:
                    room.arrived(payloads)
                except Exception:  # noqa: BLE001
                    _log.exception("live.batch_failed", room=room.name)  # the others go on
        finally:
            self.flush()

    def flush(self) -> None:
        """End a batch: one write per connection that was pushed to."""
        self.batching = False
        dirty, self.dirty = self.dirty, []
        for peer in dirty:
            peer.flush()

    def acknowledged(self, channel: bytes) -> None:
        """A channel is subscribed, first or again."""
        if (room := self.rooms.get(channel)) is not None:
            room.acknowledged()

    def lost(self) -> None:
        """Nothing that is published reaches us for a while."""
        for room in self.rooms.values():
            room.lost()

    # time

    def _tick(self) -> None:
        """Once a second: the heartbeats of a fifteenth of the peers, and rooms nobody is in."""
        loop = asyncio.get_running_loop()
        self._ticker = loop.call_later(1, self._tick)
        now = time.monotonic()
        self._turn += 1
        due = list(self._wheel[self._turn % HEARTBEAT_S])
        for peer in due:
            peer.beat(now)
        if due and (self._turn // HEARTBEAT_S) % RECHECK_BEATS == 0:
            self.spawn(self._recheck(due))
        for channel, room in list(self.rooms.items()):
            if room.empty_since is not None and now - room.empty_since > LINGER_S:
                del self.rooms[channel]
                self.subscriber.unsubscribe(channel)

    async def _recheck(self, peers: list[Peer]) -> None:
        """Close those whose access was taken away since they sat down."""
        asked = {
            (seat.principal, seat.room.run_id): seat
            for peer in peers
            for seat in peer.seats.values()
            if isinstance(seat.room, RunRoom)
        }
        refused = await self.read(self._refused, list(asked))
        for peer in peers:
            if any((seat.principal, seat.room.name) in refused for seat in peer.seats.values()):
                peer.expel(4403, "access was taken away")

    def _refused(self, asked: list[tuple[Principal, str]]) -> set[tuple[Principal, str]]:
        refused = set()
        for principal, run_id in asked:
            try:
                self.chat.runs.authorize(principal, Permission.READ, run_id)
            except (Forbidden, NotFound, Unauthenticated):
                refused.add((principal, run_id))
        return refused

    # the end

    async def stop(self, timeout_s: float) -> None:
        """Tell everybody to come back elsewhere, and wait until they have heard it."""
        self.stopping = True
        for peer in list(self.peers):
            peer.go_away()
        deadline = time.monotonic() + timeout_s
        while self.peers and time.monotonic() < deadline:  # noqa: ASYNC110 - once in a life
            await asyncio.sleep(0.02)
        self._ticker.cancel()
        self.subscriber.stop()
        self.pool.shutdown(wait=False, cancel_futures=True)
