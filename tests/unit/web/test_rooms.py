"""A room: whatever arrives in whatever pieces, each seat gets every number once and in order."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from chat.access import Level, Permission, Principal
from chat.errors import Forbidden
from chat.events import SenderKind
from chat.ports import Record
from web.frames import Framing
from web.rooms import Hint, RunRoom, Seat, seq_and_epoch

ANNA = Principal(kind=SenderKind.PERSON, id="usr_a", name="Anna", level=Level.OWNER)
PLAIN = Framing(
    event=lambda _run, data: data + b"\n",
    passing=lambda data: data + b"\n",
    greeting=lambda _run, resume, shown: (
        orjson.dumps({"resume": resume, "head": shown["head"]}) + b"\n"
    ),
)


def event(seq: int, epoch: str = "ep_1") -> bytes:
    return b'{"seq":%d,"epoch":"%s","kind":"message"}' % (seq, epoch.encode())


class Log:
    """The domain as a room sees it: a log of `head` events."""

    def __init__(self) -> None:
        self.head = 0
        self.epoch = "ep_1"
        self.asked = 0
        self.refuses = False

    def snapshot(self, _who: object, _run: str) -> SimpleNamespace:
        return SimpleNamespace(head=self.head, epoch=self.epoch)

    def snapshot_json(self, _run: str, snapshot: SimpleNamespace) -> dict:
        return {"head": snapshot.head, "epoch": snapshot.epoch}

    def since(self, _who: object, _run: str, after: int) -> list[Record]:
        self.asked += 1
        return [Record(seq, event(seq, self.epoch)) for seq in range(after + 1, self.head + 1)]

    def authorize(self, _who: Principal, _permission: Permission, _run: str) -> None:
        if self.refuses:
            raise Forbidden("no")


class Hub:
    """A hub without Redis: its pool is real."""

    def __init__(self, log: Log) -> None:
        self.chat = SimpleNamespace(live=log, runs=log)
        self.batching = False
        self.pool = ThreadPoolExecutor(2)
        self.left: list[Seat] = []

    async def read(self, function, *args):
        return await asyncio.get_running_loop().run_in_executor(self.pool, function, *args)

    def spawn(self, work):
        return asyncio.get_running_loop().create_task(work)

    def flush(self) -> None:
        self.batching = False


class Reader:
    """A peer that keeps what it was sent."""

    framing = PLAIN

    def __init__(self) -> None:
        self.got: list[dict] = []
        self.code: int | None = None
        self.changed = asyncio.Event()

    def push(self, data: bytes) -> None:
        self.got += [orjson.loads(line) for line in data.splitlines()]
        self.changed.set()

    async def drained(self) -> None:
        await asyncio.sleep(0)

    def expel(self, code: int, _reason: str) -> None:
        self.code = code
        self.changed.set()

    def seqs(self) -> list[int]:
        return [one["seq"] for one in self.got if "seq" in one]

    async def has(self, count: int) -> list[int]:
        async with asyncio.timeout(10):
            while len(self.seqs()) < count:
                self.changed.clear()
                await self.changed.wait()
        return self.seqs()


def seated(hub: Hub, room: RunRoom) -> tuple[Reader, Seat]:
    reader = Reader()
    return reader, Seat(reader, room, ANNA)  # type: ignore[arg-type]


def in_a_room(story) -> None:
    async def run() -> None:
        log = Log()
        hub = Hub(log)
        room = RunRoom(hub, b"run:x:live", "run_x")  # type: ignore[arg-type]
        room.acknowledged()
        try:
            await story(log, hub, room)
        finally:
            hub.pool.shutdown()

    asyncio.run(run())


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.sampled_from(["append", "lose", "append_many", "join", "twice", "pass"]),
                  st.integers(0, 40)),
        max_size=40,
    )
)  # fmt: skip
def test_every_seat_gets_every_number_once_whatever_is_lost_on_the_way(steps):
    async def story(log: Log, hub: Hub, room: RunRoom) -> None:
        readers: list[tuple[Reader, int]] = []
        joins = []
        for what, number in steps:
            if what == "append":
                log.head += 1
                room.arrived([event(log.head)])
            elif what == "append_many":
                first, log.head = log.head + 1, log.head + number
                room.arrived([event(seq) for seq in range(first, log.head + 1)])
            elif what == "lose":
                log.head += number  # published, and nobody told us
            elif what == "twice":
                room.arrived([event(max(1, log.head))] if log.head else [])
            elif what == "pass":
                room.arrived([b'{"type":"typing"}'])
            else:
                reader, seat = seated(hub, room)
                after = min(number, log.head)
                readers.append((reader, after))
                joins.append(asyncio.create_task(room.join(seat, after, None)))
            if number % 3 == 0:
                await asyncio.sleep(0)
        log.head += 1
        room.arrived([event(log.head)])
        await asyncio.gather(*joins)
        for reader, after in readers:
            wanted = list(range(after + 1, log.head + 1))
            assert await reader.has(len(wanted)) == wanted
            assert reader.code is None

    in_a_room(story)


def test_who_comes_back_in_a_moment_is_served_from_the_ring_and_the_log_is_not_asked():
    async def story(log: Log, hub: Hub, room: RunRoom) -> None:
        first, seat = seated(hub, room)
        await room.join(seat, None, None)
        log.head = 50
        room.arrived([event(seq) for seq in range(1, 51)])
        asked = log.asked
        for _ in range(20):
            again, seat = seated(hub, room)
            await room.join(seat, 10, "ep_1")
            assert again.seqs() == list(range(11, 51))
        assert log.asked == asked
        assert first.seqs() == list(range(1, 51))

    in_a_room(story)


def test_a_new_epoch_sends_everybody_to_resume():
    async def story(log: Log, hub: Hub, room: RunRoom) -> None:
        reader, seat = seated(hub, room)
        await room.join(seat, None, None)
        log.epoch, log.head = "ep_2", 1
        room.arrived([event(1, "ep_2")])
        assert reader.code == 4000

    in_a_room(story)


def test_who_may_not_read_is_not_seated():
    async def story(log: Log, hub: Hub, room: RunRoom) -> None:
        log.refuses = True
        reader, seat = seated(hub, room)
        try:
            await room.join(seat, 0, None)
        except Forbidden:
            pass
        else:
            raise AssertionError("was let in")
        log.head = 1
        room.arrived([event(1)])
        assert reader.got == []

    in_a_room(story)


def test_after_an_outage_the_state_is_told_again_and_nothing_is_missing():
    async def story(log: Log, hub: Hub, room: RunRoom) -> None:
        reader, seat = seated(hub, room)
        await room.join(seat, None, None)
        room.lost()
        log.head = 5
        room.acknowledged()
        assert await reader.has(5) == [1, 2, 3, 4, 5]
        told = [one for one in reader.got if "resume" in one]
        assert told == [{"resume": "ok", "head": 0}, {"resume": "ok", "head": 5}]

    in_a_room(story)


def test_the_number_and_the_epoch_are_read_off_the_front():
    assert seq_and_epoch(event(12_345, "ep_x")) == (12_345, b"ep_x")


def test_a_project_that_could_not_be_heard_is_fetched_anew_its_runs_and_its_features():
    async def story() -> None:
        hub = Hub(Log())
        room = Hint(hub, b"project:x:live", "prj_x")  # type: ignore[arg-type]
        room.acknowledged()
        reader, seat = seated(hub, room)  # type: ignore[arg-type]
        await room.join(seat)
        assert reader.got == []
        room.lost()
        room.acknowledged()
        assert [frame["type"] for frame in reader.got] == ["runs", "features"]
        assert {frame["project_id"] for frame in reader.got} == {"prj_x"}
        hub.pool.shutdown()

    asyncio.run(story())
