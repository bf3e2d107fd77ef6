"""Telling an agent's side to look into its mailbox, when something waits there and nobody comes.

A nudge costs time and nothing else: whatever becomes of it is said in a notice, and the mailbox stays the
truth.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from chat.drafts import iso
from chat.events import About, EventJson, Kind, NoticeBody, ReceiptState
from chat.ports import MailItem, Nudge, Record, Snapshot
from chat.runs import ENDED, Run, RunStatus, StartKind
from chat.service.context import Context
from chat.service.lifecycle import Lifecycle

PAUSE_S = 120
"""Between two nudges of one run: an exec session is dear, and a container has two."""
AT_ONCE_MAX = 10
"""Runs that one look has nudged."""
_NOT_YET = frozenset({RunStatus.QUEUED, RunStatus.STARTING, RunStatus.SUSPENDED}) | ENDED
log = structlog.get_logger("nudging")


class Nudging:
    """Finds who is to be nudged, and does it."""

    def __init__(
        self, context: Context, lifecycle: Lifecycle, nudge: Callable[[], Nudge | None]
    ) -> None:
        self._context = context
        self._lifecycle = lifecycle
        self._nudge = nudge

    def look(self) -> int:
        """Queue a `nudge` for each run whose mailbox has waited too long; returns how many."""
        if self._nudge() is None:
            return 0
        context = self._context
        run_ids = context.log.active()
        briefs = context.log.brief(run_ids)
        queued = 0
        for run_id, brief in briefs.items():
            if brief.status in _NOT_YET or queued >= AT_ONCE_MAX:
                continue
            if context.run(run_id).start is not StartKind.LAUNCH:
                continue
            try:
                waiting = self._waiting(run_id)
                if not waiting or not self._first(run_id):
                    continue
                context.tasks.enqueue("nudge", run_id)
                queued += 1
            except Exception as error:  # noqa: BLE001 - one run's trouble must not stop the others
                log.warning("not_looked_at", run_id=run_id, error=repr(error))
        return queued

    def nudge(self, run_id: str, task_id: str) -> EventJson | None:
        """Nudge, if there is still a reason to, and say in the log how it went; `task_id` is Celery's."""
        port, run = self._nudge(), self._context.store.run(run_id)
        waiting = self._waiting(run_id)
        if port is None or run is None or run.handle is None or not waiting:
            return None
        result = port.nudge(run)
        words = "The agent's side was told to look." if result.ok else result.detail
        body = NoticeBody(
            about=About.NUDGE,
            text=words[:2_000],
            ids=[item.id for item in waiting][:1_000],
            failure=result.failure,
            duration_ms=result.duration_ms,
            task_id=task_id,
        )
        return self._lifecycle.notice(run_id, body, once=f"nudge:{task_id}")

    def _waiting(self, run_id: str) -> list[MailItem]:
        """What the agent could have leased for NUDGE_AFTER_S and more, and has not."""
        context = self._context
        snapshot = context.log.snapshot(run_id)
        if snapshot.status in _NOT_YET:
            return []
        items = [item for item in snapshot.items if _is_for_now(item, snapshot)]
        oldest = min(items, key=lambda item: item.event_seq, default=None)
        if oldest is None:
            return []
        event = context.event(run_id, Record(oldest.event_seq, b""))
        waits = context.now() - datetime.fromisoformat(event["at"])
        return items if waits >= timedelta(seconds=context.settings.nudge_after_s) else []

    def _first(self, run_id: str) -> bool:
        """Whether it may be nudged now; if so, nobody else may for a while: two looks may overlap."""
        run: Run | None = self._context.store.run(run_id)
        if run is None or run.handle is None:
            return False
        now = self._context.now()
        if run.nudged_at is not None and run.nudged_at > iso(now - timedelta(seconds=PAUSE_S)):
            return False
        return self._context.store.update_run_if(
            run_id, {"nudged_at": run.nudged_at}, nudged_at=iso(now)
        )


def _is_for_now(item: MailItem, snapshot: Snapshot) -> bool:
    """Leasable between two steps: a held mailbox gives out orders only, and `queue` waits for the task's
    end."""
    if item.state != ReceiptState.STORED:
        return False
    return item.kind is Kind.ORDER or (not snapshot.held and item.mode != "queue")
