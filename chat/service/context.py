"""What every use case stands on: the ports, the settings, and the run it is about."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from threading import Lock

import orjson

from chat.access import Permission, Principal, demand
from chat.channels import project_channel
from chat.drafts import millis
from chat.errors import NotFound
from chat.events import EventJson
from chat.ports import Clock, Log, Record, Store, Tasks
from chat.roles import ROLES, Roles
from chat.runs import Run
from chat.settings import Settings

_CACHED_RUNS = 10_000
_FIRST_CHUNK, _CHUNK = 64, 1_000
"""Events read at a time."""


@dataclass
class Context:
    """The adapters and the settings, passed to each use case by `bootstrap`."""

    settings: Settings
    store: Store
    log: Log
    clock: Clock
    tasks: Tasks
    roles: Roles = ROLES
    _runs: OrderedDict[str, Run] = field(default_factory=OrderedDict)
    _lock: Lock = field(default_factory=Lock)

    def now(self) -> datetime:
        """The time, in UTC."""
        return self.clock.now()

    def now_ms(self) -> int:
        """The time in milliseconds since 1970."""
        return millis(self.clock.now())

    def run(self, run_id: str) -> Run:
        """What never changes of a run (project, feature, agent); its status is the log's. Raises NotFound."""
        with self._lock:
            run = self._runs.get(run_id)
        if run is None:
            run = self.store.run(run_id)
            if run is None:
                raise NotFound("There is no run with that id.")
            with self._lock:
                self._runs[run_id] = run
                if len(self._runs) > _CACHED_RUNS:
                    self._runs.popitem(last=False)
        return run

    def authorize(self, principal: Principal, permission: Permission, run_id: str) -> Run:
        """The run, if the principal may do that with it. Raises NotFound (also for "not yours") or Forbidden."""
        run = self.run(run_id)
        demand(principal, permission, run)
        return run

    def whole(self, run_id: str, record: Record) -> Record:
        """The record with its data: from the stream, or from the store where that has dropped it."""
        if record.data:
            return record
        held = self.log.read(run_id, after=record.seq - 1, limit=1)
        if held and held[0].seq == record.seq:
            return held[0]
        kept = self.store.event(run_id, record.seq)
        if kept is None:
            raise NotFound(f"Event {record.seq} of this run is not there.")
        return kept

    def after(self, run_id: str, after: int) -> Iterator[Record]:
        """Every event after `after`, without a hole: from the stream, and what it has dropped from the store."""
        while records := self.log.read(run_id, after=after, limit=_CHUNK):
            while after + 1 < records[0].seq:
                page = self.store.events(run_id, after=after, before=records[0].seq, limit=_CHUNK)
                if not page.records:
                    break
                yield from page.records
                after = page.records[-1].seq
            yield from records
            after = records[-1].seq
            if len(records) < _CHUNK:
                break

    def newest_first(
        self, run_id: str, *, before: int | None = None, down_to: int = 0
    ) -> Iterator[EventJson]:
        """A run's events, parsed, from the newest (or the one before `before`) back."""
        for record in self.backwards(run_id, before=before, down_to=down_to):
            event: EventJson = orjson.loads(record.data)
            yield event

    def backwards(
        self, run_id: str, *, before: int | None = None, down_to: int = 0
    ) -> Iterator[Record]:
        """A run's events from the newest (or the one before `before`) back, above `down_to`."""
        end = self.log.snapshot(run_id).head + 1
        end = end if before is None else min(before, end)
        size = _FIRST_CHUNK  # the first look is usually enough
        while end - 1 > down_to:
            start = max(down_to, end - 1 - size)
            found = []
            for record in self.after(run_id, start):
                if record.seq >= end:
                    break
                found.append(record)
            yield from reversed(found)
            end, size = start + 1, min(size * 4, _CHUNK)

    def event(self, run_id: str, record: Record) -> EventJson:
        """The record's event, parsed."""
        event: EventJson = orjson.loads(self.whole(run_id, record).data)
        return event

    def runs_changed(self, project_id: str) -> None:
        """Tell whoever looks at the project to fetch its runs again."""
        self.log.whisper(project_channel(project_id), {"type": "runs", "project_id": project_id})

    def feature_changed(self, project_id: str, feature_id: str) -> None:
        """Tell whoever looks at the project that a feature or its pipeline is another one in the database."""
        self.log.whisper(
            project_channel(project_id),
            {"type": "features", "project_id": project_id, "feature_id": feature_id},
        )
