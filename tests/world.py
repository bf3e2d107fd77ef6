"""The whole domain on a real Redis and SQLite, in one process, with a clock that the test moves.

world          a World; everything in it is new for each test
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from chat.access import Level, Principal
from chat.adapters.sqlite_store import SqliteStore
from chat.bootstrap import Chat, bootstrap
from chat.events import EVENT, EventJson, SenderKind
from chat.ports import Alive, Clock, Record, Started, Tasks
from chat.requests import (
    AskQuestion,
    Confirm,
    CreateFeature,
    CreateProject,
    CreateRun,
    FinishRequest,
    PostMessage,
    Report,
    ReportedEvent,
)
from chat.runs import Run
from chat.settings import Settings


def person(name: str, level: Level = Level.OWNER) -> Principal:
    return Principal(kind=SenderKind.PERSON, id=f"usr_{name.lower()}", name=name, level=level)


ANNA = person("Anna")
ENDS = frozenset({"in_context", "cancelled", "undelivered", "moved"})


class RecordedTasks:
    """A Tasks that keeps what was queued until the test works it off, or loses it."""

    def __init__(self) -> None:
        self.queued: list[tuple[str, ...]] = []

    def enqueue(self, name: str, *args: str) -> None:
        self.queued.append((name, *args))

    def take(self) -> list[tuple[str, ...]]:
        taken, self.queued = self.queued, []
        return taken


class MovedClock:
    """A Clock that stands still until it is told to move."""

    def __init__(self) -> None:
        self._now = datetime(2026, 11, 22, 9, 33, tzinfo=UTC)

    def now(self) -> datetime:
        return self._now

    def advance(self, *, ms: int) -> None:
        self._now += timedelta(milliseconds=ms)


@dataclass
class ListedRuntime:
    """A Runtime that starts nothing: `started` counts, `dead` says which handles have gone."""

    started: list[str] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    dead: set[str] = field(default_factory=set)
    states: dict[str, Alive] = field(default_factory=dict)
    """What it says of a handle, where that is more than dead or alive."""
    lingering: set[str] = field(default_factory=set)
    """Runs that have ended, and whose process has not."""
    broken: Exception | None = None

    def start(self, run: Run, *, token: str, env: Any) -> Started:
        if self.broken is not None:
            raise self.broken
        assert env["OMAKASE_TOKEN"] == token
        self.started.append(run.id)
        again = f".{run.generation}" if run.generation else ""
        return Started(f"listed:{run.id}{again}")

    def stop(self, handle: str, *, grace_s: float, reason: str = "") -> None:
        self.stopped.append(handle)

    def describe(self, handles: Any) -> dict[str, Alive]:
        return {
            handle: self.states.get(handle, Alive(running=handle not in self.dead))
            for handle in handles
        }

    def settle(self, runs: Any, *, overdue: Any, young: Any = ()) -> dict[str, Alive]:
        self.stopped += [
            run.handle for run in runs if run.id in overdue and run.id in self.lingering
        ]
        return {
            run.id: self.states.get(run.handle or "", Alive(running=False))
            for run in runs
            if run.id not in self.lingering
        }


@dataclass
class Talk:
    """One run, with both sides of it."""

    world: World
    id: str
    nori: Principal
    keys: int = 0

    def post(self, text: str = "a word", *, by: Principal = ANNA, **said: Any) -> EventJson:
        key = said.pop("key", None)
        done = self.world.chat.messages.post(by, self.id, PostMessage(text=text, **said), key=key)
        return done.event

    def drain(self) -> int:
        return self.world.chat.delivery.drain(self.id)

    def lease(self, holder: str = "h1", *, limit: int = 50, task_end: bool = False) -> list[str]:
        return [
            item["event"]["id"] for item in self.lease_items(holder, limit=limit, task_end=task_end)
        ]

    def lease_items(
        self, holder: str = "h1", *, limit: int = 50, task_end: bool = False
    ) -> list[dict[str, Any]]:
        given = self.world.chat.mailbox.lease(
            self.nori, self.id, holder=holder, limit=limit, task_end=task_end
        )
        items: list[dict[str, Any]] = given["items"]
        return items

    def confirm(self, *ids: str, step: int = 1, text: str = "the words") -> dict[str, str]:
        sha256 = hashlib.sha256(text.encode()).hexdigest()
        request = Confirm(ids=list(ids), step=step, text=text, sha256=sha256)
        states: dict[str, str] = self.world.chat.mailbox.confirm(self.nori, self.id, request)[
            "items"
        ]
        return states

    def finish(self, outcome: str = "completed", holder: str = "h1") -> None:
        request = FinishRequest.model_validate(
            {"holder": holder, "last_seq": 0, "outcome": outcome, "summary": "the end"}
        )
        self.world.chat.runs.finish(self.nori, self.id, request)

    def report(self, kind: str, body: dict[str, Any], **more: Any) -> dict[str, Any]:
        self.keys += 1
        one = ReportedEvent(kind=kind, body=body, **({"key": f"k{self.keys}"} | more))
        done = self.world.chat.agents.report(self.nori, self.id, Report(events=[one]))
        event: dict[str, Any] = done["events"][0]
        return event

    def ask(self, handle: str = "q", **more: Any) -> EventJson:
        request = AskQuestion(handle=handle, text="Which?", **more)
        event: EventJson = self.world.chat.questions.ask(self.nori, self.id, request)["event"]
        return event

    def state_of(self, item_id: str) -> str:
        item = self.world.chat.log.item(self.id, item_id)
        assert item is not None
        return item.state

    def events(self) -> list[EventJson]:
        """Every event, as a live reader gets them; each fits the wire's description."""
        records: list[Record] = []
        while more := self.world.chat.live.since(ANNA, self.id, len(records)):
            records += more
        events = [orjson.loads(record.data) for record in records]
        for event in events:
            EVENT.validate_python(event)
        return events

    def stored(self) -> list[EventJson]:
        """Every event that the database has."""
        events, after = [], 0
        while True:
            page = self.world.chat.store.events(self.id, after=after, limit=1_000)
            events += [orjson.loads(record.data) for record in page.records]
            if not page.has_more:
                return events
            after = page.records[-1].seq

    def shown(self) -> dict[str, Any]:
        """The snapshot, without what a rebuilt log may change."""
        snapshot = self.world.chat.runs.snapshot_json(
            self.id, self.world.chat.live.snapshot(ANNA, self.id)
        )
        for name in ("epoch", "stored", "heartbeat_at", "open_texts"):
            del snapshot[name]
        return snapshot


@dataclass
class World:
    chat: Chat
    tasks: RecordedTasks
    clock: MovedClock
    runtime: ListedRuntime
    feature_id: str

    def talk(self, *, agent_id: str = "nori", key: str | None = None) -> Talk:
        """A new run, registered by hand."""
        request = CreateRun.model_validate(
            {"feature_id": self.feature_id, "agent_id": agent_id, "start": "attach"}
        )
        made = self.chat.runs.create(ANNA, request, key=key)
        assert made.token is not None
        return Talk(self, made.run.id, self.chat.tokens.agent(made.run.id, made.token))

    def launched(self) -> str:
        """A new run that we are to start ourselves."""
        request = CreateRun(feature_id=self.feature_id, agent_id="nori")
        return self.chat.runs.create(ANNA, request).run.id

    def work_off(self) -> None:
        """Do what was queued, and what that queues."""
        while taken := self.tasks.take():
            for name, run_id in taken:
                self.work(name, run_id)

    def work(self, name: str, run_id: str) -> None:
        """Do one task."""
        if name == "store":
            self.chat.delivery.drain(run_id)
        elif name == "launch":
            self.chat.delivery.launch(run_id)
        elif name == "advance":
            self.chat.pipelines.advance(run_id)

    def lose_redis(self) -> None:
        """Everything that Redis held is gone."""
        self.chat.redis.flushall()

    def copy_of_redis(self) -> dict[bytes, bytes]:
        """Everything that it holds now, as a replica would."""
        return {key: self.chat.redis.dump(key) for key in self.chat.redis.keys("*")}

    def put_back(self, copy: dict[bytes, bytes]) -> None:
        """The replica takes over: what was written since the copy is gone."""
        self.chat.redis.flushall()
        for key, value in copy.items():
            self.chat.redis.restore(key, 0, value)


def open_world(
    settings: Settings, *, tasks: Tasks | None = None, clock: Clock | None = None
) -> World:
    """A world on the Redis and the database of the settings."""
    recorded, moved, runtime = RecordedTasks(), MovedClock(), ListedRuntime()
    chat = bootstrap(settings, tasks=tasks or recorded, clock=clock or moved, runtime=runtime)
    chat.store.create_schema()
    project, _ = chat.catalog.create_project(ANNA, CreateProject(name="Shop"))
    feature, _ = chat.catalog.create_feature(ANNA, project.id, CreateFeature(name="Cart"))
    return World(chat, recorded, moved, runtime, feature.id)


@pytest.fixture
def make_world(
    make_settings: Callable[..., Settings], redis_url: str
) -> Iterator[Callable[..., World]]:
    opened: list[World] = []

    def make(**environ: str) -> World:
        settings = make_settings(REDIS_URL=redis_url, **environ)
        settings.state_dir.mkdir(exist_ok=True)
        opened.append(open_world(settings))
        return opened[-1]

    yield make
    for one in opened:
        close(one)


def close(world: World) -> None:
    with closing(world.chat.redis):
        if isinstance(world.chat.store, SqliteStore):
            world.chat.store.close()


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return make_world()


@pytest.fixture
def talk(world: World) -> Talk:
    return world.talk()


__all__ = ["ANNA", "ENDS", "Talk", "World", "make_world", "open_world", "person", "talk", "world"]
