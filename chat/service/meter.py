"""What a run costs, since when it is idle, and when it will be put on hold: read, for its card and the sweep."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final

from chat.costs import Prices, cost, hold_at, per_hour, ran_s
from chat.drafts import iso
from chat.events import Action, EventJson, Kind
from chat.ports import Brief, Record
from chat.roles import Roles
from chat.runs import ENDED, IDLE, Run, RunStatus, StartKind
from chat.service.context import Context

_TALK: Final = frozenset({Kind.MESSAGE, Kind.QUESTION, Kind.ANSWER, Kind.STEP, Kind.ORDER})
_LOOKED_AT: Final = 200
"""Events after the move to idle among which the last sign of a conversation is looked for."""


class Meter:
    """Everything here is read; nothing is changed."""

    def __init__(self, context: Context, roles: Roles) -> None:
        self._context = context
        self._roles = roles
        settings = context.settings
        self._prices = Prices(settings.price_vcpu_hour, settings.price_gib_hour)

    def card(self, run: Run, brief: Brief) -> dict[str, Any]:
        """`since` (idle or on hold), `hold_at`, `cost`: None where there is nothing to say."""
        moved = None
        if brief.status in IDLE or brief.status is RunStatus.SUSPENDED:
            moved = self.moved_at(run.id, brief)
        return {
            "since": iso(moved) if moved is not None else None,
            "hold_at": self._hold_at(run, brief),
            "cost": self._cost(run, brief, moved),
        }

    def moved_at(self, run_id: str, brief: Brief) -> datetime | None:
        """When the run came to the status that it has."""
        if not brief.since_seq:
            return None
        return _at(self._context.event(run_id, Record(brief.since_seq, b"")))

    def idle_since(self, run_id: str, brief: Brief) -> datetime | None:
        """When it became idle, or somebody last said or did something."""
        after = self._context.newest_first(run_id, down_to=max(0, brief.since_seq - 1))
        for event in islice(after, _LOOKED_AT):
            if event["seq"] == brief.since_seq or _is_talk(event):
                return _at(event)
        return self.moved_at(run_id, brief)

    def ran_s(self, run: Run, until: datetime) -> float:
        """How long the run's processes had been there until then, in seconds."""
        return ran_s(run.billed_ms / 1_000, _moment(run.launched_at), until)

    def due_at(self, run: Run, brief: Brief) -> datetime | None:
        """When a run that is idle is asked to go on hold; None when that will not be by itself: it is not
        ours to start again, it was told to stop, or something waits for it to be read."""
        after_s = self._context.settings.hold_after_s
        ours = run.start is StartKind.LAUNCH and run.handle is not None
        if not after_s or not ours or brief.status not in IDLE or brief.stop_at_ms is not None:
            return None
        since = self.idle_since(run.id, brief)
        if since is None or self._context.log.snapshot(run.id).items:
            return None
        return hold_at(since, after_s, _moment(run.hold_after))

    def _hold_at(self, run: Run, brief: Brief) -> str | None:
        due = self.due_at(run, brief)
        return iso(due) if due is not None else None

    def _cost(self, run: Run, brief: Brief, moved: datetime | None) -> dict[str, Any] | None:
        settings = self._context.settings
        if settings.runtime != "ecs" or run.start is not StartKind.LAUNCH:
            return None
        role = self._roles.role.get(run.role)
        # as it was started, or will be
        cpu = run.cpu or (role.cpu if role else None)
        memory_mib = run.memory_mib or (role.memory_mib if role else None)
        if cpu is None or memory_mib is None:
            return None
        hourly = per_hour(self._prices, cpu=cpu, memory_mib=memory_mib)
        until = _moment(run.ended_at) if brief.status in ENDED else None
        if brief.status is RunStatus.SUSPENDED:
            until = moved
        spent = cost(hourly, self.ran_s(run, until or self._context.now()))
        return {
            "currency": settings.price_currency,
            "per_hour": round(hourly, 6),
            "so_far": round(spent, 6),
        }


def _is_talk(event: EventJson) -> bool:
    return event["kind"] in _TALK and event["body"].get("action") != Action.CHECKPOINT


def _at(event: EventJson) -> datetime:
    return datetime.fromisoformat(event["at"]).astimezone(UTC)


def _moment(said: str | None) -> datetime | None:
    return datetime.fromisoformat(said).astimezone(UTC) if said else None
