"""The hub's own rules: who is expelled, who is silent, how many may come."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from types import SimpleNamespace

from chat.access import Level, Principal
from chat.errors import NotFound, Unauthenticated
from chat.events import SenderKind
from chat.settings import Settings
from web import frames
from web.hub import Hub
from web.limits import Limits
from web.rooms import Seat
from web.sockets import NOBODIES_MAX, LiveSocket

ANNA = Principal(kind=SenderKind.PERSON, id="usr_a", name="Anna", level=Level.OWNER)
BEN = Principal(kind=SenderKind.PERSON, id="usr_b", name="Ben", level=Level.OWNER)


class Wire(asyncio.Transport):
    """A connection's other end, as bytes; `stuck` bytes wait because nobody reads."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.stuck = 0
        self.closed = False

    def write(self, data: bytes) -> None:
        self.sent += data

    def get_write_buffer_size(self) -> int:
        return self.stuck

    def set_write_buffer_limits(self, high=None, low=None) -> None:
        pass

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def code(self) -> int | None:
        at = self.sent.find(b"\x88")
        return int.from_bytes(self.sent[at + 2 : at + 4]) if at >= 0 else None


def nobody(_ticket: str) -> Principal:
    raise Unauthenticated("no")


def with_hub(settings: Settings, story: Callable) -> None:
    async def run() -> None:
        gone: set[str] = set()

        def authorize(principal: Principal, _permission: object, _run: str) -> None:
            if principal.id in gone:
                raise NotFound("There is no run with that id.")

        chat = SimpleNamespace(
            settings=settings,
            runs=SimpleNamespace(authorize=authorize),
            live=SimpleNamespace(run_channel=lambda run_id: f"run:{run_id}:live"),
        )
        hub = Hub(chat, Limits(settings))  # type: ignore[arg-type]
        try:
            await story(hub, gone)
        finally:
            await hub.stop(0)
            await asyncio.sleep(0)

    asyncio.run(run())


def opened(hub: Hub, principal: Principal | None) -> tuple[LiveSocket, Wire]:
    peer, wire = LiveSocket(hub, principal, nobody), Wire()
    peer.connection_made(wire)
    return peer, wire


def test_whoever_lost_access_is_expelled_at_the_next_look_and_the_others_stay(settings: Settings):
    async def story(hub: Hub, gone: set[str]) -> None:
        peers = {}
        for principal in (ANNA, BEN):
            peer, wire = opened(hub, principal)
            room = hub.run_room("run_x")
            seat = peer.seats["run_x"] = Seat(peer, room, principal)
            room.sit(seat)
            peers[principal.name] = (peer, wire)
        gone.add(ANNA.id)
        await hub._recheck([peer for peer, _ in peers.values()])
        assert peers["Anna"][1].code() == 4403
        assert peers["Ben"][1].code() is None
        assert next(iter(hub.run_room("run_x").live[frames.WEBSOCKET])).principal == BEN

    with_hub(settings, story)


def test_whoever_answers_no_ping_is_closed_and_who_does_is_pinged(settings: Settings):
    async def story(hub: Hub, _gone: set[str]) -> None:
        silent, its_wire = opened(hub, ANNA)
        lively, wire = opened(hub, ANNA)
        later = time.monotonic() + 100
        lively.heard = later - 10
        silent.beat(later)
        lively.beat(later)
        assert its_wire.code() == 4408
        assert (wire.code(), wire.sent.endswith(frames.PING)) == (None, True)

    with_hub(settings, story)


def test_a_full_buffer_closes_its_own_reader_only(settings: Settings):
    async def story(hub: Hub, _gone: set[str]) -> None:
        slow, slow_wire = opened(hub, ANNA)
        quick, quick_wire = opened(hub, ANNA)
        slow.pause_writing()
        slow_wire.stuck = slow.buffer_max + 1
        for peer in (slow, quick):
            peer.push(b"x")
            peer.push(b"y")
        assert slow_wire.code() == 4000
        assert slow_wire.closed
        assert quick_wire.sent.endswith(b"xy")

    with_hub(settings, story)


def test_those_who_have_not_signed_in_are_only_so_many(settings: Settings):
    async def story(hub: Hub, _gone: set[str]) -> None:
        strangers = [opened(hub, None) for _ in range(NOBODIES_MAX)]
        _, wire = opened(hub, None)
        assert wire.code() == 1013
        strangers[0][0].connection_lost(None)
        _, wire = opened(hub, None)
        assert wire.code() is None

    with_hub(settings, story)


def test_what_is_pushed_in_one_batch_is_one_write(settings: Settings):
    async def story(hub: Hub, _gone: set[str]) -> None:
        peer, wire = opened(hub, ANNA)
        writes: list[bytes] = []
        wire.write = writes.append  # type: ignore[method-assign]
        hub.batching = True
        for part in (b"a", b"b", b"c"):
            peer.push(part)
        assert writes == []
        hub.flush()
        assert writes == [b"abc"]

    with_hub(settings, story)
