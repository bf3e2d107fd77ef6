"""A feature's pipeline with the agents' side of it played by the test: what each run reads and how it ends."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import orjson

from chat.access import Principal
from chat.events import EventJson
from chat.requests import Confirm, CreateFeature, FinishRequest, PostMessage, StartPipeline
from chat.runs import Role, Run
from tests.world import ANNA, World


@dataclass
class Line:
    """One feature of a world, and its pipeline."""

    world: World
    feature_id: str

    def start(self, *, by: Principal = ANNA, key: str | None = None, skip: Any = ()) -> Any:
        request = StartPipeline(skip=[Role(role) for role in skip])
        shown, _ = self.world.chat.pipelines.start(by, self.feature_id, request, key=key)
        return shown

    def view(self) -> dict[str, Any]:
        return self.world.chat.pipelines.view(ANNA, self.feature_id)

    def state(self) -> str:
        state: str = self.view()["state"]
        return state

    def turns(self) -> list[tuple[str, str]]:
        return [(turn["role"], turn["why"]) for turn in self.view()["turns"]]

    def runs(self) -> list[Run]:
        """The feature's runs, oldest first."""
        found = self.world.chat.store.runs(feature_id=self.feature_id)
        return sorted(found, key=lambda run: run.turn or 0)

    def current(self) -> str:
        """The last turn's run."""
        run_id: str = self.view()["turns"][-1]["run_id"]
        return run_id

    def agent(self, run_id: str) -> Principal:
        return self.world.chat.tokens.agent(run_id, self.world.chat.tokens.of(run_id))

    def post(self, text: str, run_id: str | None = None) -> EventJson:
        request = PostMessage(text=text)
        return self.world.chat.messages.post(ANNA, run_id or self.current(), request).event

    def read(self, run_id: str | None = None) -> list[EventJson]:
        """Everything that is in the run's mailbox, confirmed."""
        run_id = run_id or self.current()
        agent = self.agent(run_id)
        given = self.world.chat.mailbox.lease(agent, run_id, holder="h", task_end=True)
        events = [item["event"] for item in given["items"]]
        if events:
            sha256 = hashlib.sha256(b"the words").hexdigest()
            ids = [event["id"] for event in events]
            request = Confirm(ids=ids, step=1, text="the words", sha256=sha256)
            self.world.chat.mailbox.confirm(agent, run_id, request)
        return events

    def end(self, outcome: str = "completed", **said: Any) -> None:
        """The current run's agent ends, and everything that follows from that is done."""
        self.end_run(self.current(), outcome, **said)
        self.world.work_off()

    def end_run(self, run_id: str, outcome: str, **said: Any) -> None:
        if outcome == "completed":
            self.read(run_id)
        words = {"holder": "h", "last_seq": 0, "outcome": outcome, **said}
        request = FinishRequest.model_validate(words)
        self.world.chat.runs.finish(self.agent(run_id), run_id, request)

    def events(self, run_id: str) -> list[EventJson]:
        records = self.world.chat.live.since(ANNA, run_id, 0)
        return [orjson.loads(record.data) for record in records]


def feature(world: World, name: str = "Cart", **more: Any) -> Line:
    """A new feature of the world's project."""
    project = world.chat.catalog.projects(ANNA)[0]
    made, _ = world.chat.catalog.create_feature(
        ANNA, project.id, CreateFeature(name=name, description="Add, remove, total.", **more)
    )
    return Line(world, made.id)


def started(world: World, name: str = "Cart", *, skip: Any = (), **more: Any) -> Line:
    """A feature whose pipeline has begun as far as it can."""
    line = feature(world, name, **more)
    line.start(skip=skip)
    world.work_off()
    return line
