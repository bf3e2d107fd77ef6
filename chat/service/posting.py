"""What an append gives back to whoever asked for it."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from chat.access import Principal
from chat.events import EventJson
from chat.ports import Appended, Draft, Record
from chat.runs import IDLE
from chat.service.context import Context


@dataclass(frozen=True, slots=True)
class Posted:
    """An event in the log: its JSON, and whether it had been there before (the same key again)."""

    data: bytes
    seq: int
    repeated: bool

    @property
    def event(self) -> EventJson:
        """The event, parsed."""
        event: EventJson = orjson.loads(self.data)
        return event


def append_one(context: Context, run_id: str, one: Draft) -> Posted:
    """Append one draft. What is said to an agent that is idle puts off its hold: its card is told."""
    done = context.log.append(run_id, [one])[0]
    if one.mode is not None and not done.repeated and done.status in IDLE:
        context.runs_changed(context.run(run_id).project_id)
    return posted(context, run_id, done)


def posted(context: Context, run_id: str, done: Appended) -> Posted:
    """What was appended, whole."""
    record: Record = context.whole(run_id, done.record)
    return Posted(record.data, record.seq, done.repeated)


def scoped_key(principal: Principal, purpose: str, key: str | None) -> str | None:
    """An idempotency key that belongs to one principal and one kind of request."""
    return f"{purpose}:{principal.id}:{key}" if key is not None else None
