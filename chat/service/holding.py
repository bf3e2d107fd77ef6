"""Putting a run that only costs money on hold: it is asked, keeps what it needs, and its process ends.

    idle for HOLD_AFTER_S ──> order `checkpoint` ──> its own hook ──> POST hold ──> `suspended`
                                                        └ fails: a notice, and it goes on as it was

Nothing is ended before the agent has said what it needs to go on. How it comes back: launching.py.
"""

from __future__ import annotations

from datetime import timedelta
from itertools import chain, islice
from typing import Any

from chat.access import SYSTEM, Permission, Principal
from chat.drafts import draft, iso, receipt
from chat.errors import IllegalMove, Invalid, MailboxNotEmpty, NotFound, RunEnded
from chat.events import (
    CHECKPOINT_MAX_BYTES,
    About,
    Action,
    AnswerBody,
    Mode,
    NoticeBody,
    OrderBody,
    Outcome,
    ReceiptState,
)
from chat.ports import Brief, Record
from chat.redaction import redacted
from chat.requests import HoldRequest
from chat.runs import IDLE, Run, RunStatus, StartKind
from chat.service.context import Context
from chat.service.lifecycle import Lifecycle
from chat.service.mailbox import Mailbox
from chat.service.meter import Meter

AGAIN_S = 60.0
"""The least time between two attempts; else HOLD_AFTER_S once more."""
_LOOKED_AT = 1_000
"""Events among which the order is looked for that a failure answers."""


class Holding:
    """Every step may run twice, or in two workers at once."""

    def __init__(
        self, context: Context, lifecycle: Lifecycle, mailbox: Mailbox, meter: Meter
    ) -> None:
        self._context = context
        self._lifecycle = lifecycle
        self._mailbox = mailbox
        self._meter = meter

    def ask_if_due(self, run_id: str, brief: Brief) -> bool:
        """Order an idle run to checkpoint, when it is time; whether it was asked."""
        context = self._context
        after_s = context.settings.hold_after_s
        if not after_s or brief.status not in IDLE:
            return False
        run = context.store.run(run_id)
        due = None if run is None else self._meter.due_at(run, brief)
        if run is None or due is None or due > context.now():
            return False
        body = OrderBody(action=Action.CHECKPOINT, reason=f"It is {brief.status}, and costs money.")
        # the row says when it was asked last, so two who ask at once ask the same
        key = f"hold:{run.generation}:{run.hold_after or brief.since_seq}"
        one = draft(
            run_id, SYSTEM.sender(), body, now=context.now(), mode=Mode.INTERRUPT,
            idempotency_key=key, sources=IDLE,
        )  # fmt: skip
        try:
            context.log.append(run_id, [one])
        except (
            IllegalMove,
            RunEnded,
        ):  # it has been put on hold, spoken to, or ended since the sweep looked
            return False
        again = context.now() + timedelta(seconds=max(AGAIN_S, after_s))
        context.store.update_run(run_id, hold_after=iso(again))
        context.runs_changed(run.project_id)
        return True

    def hold(self, principal: Principal, run_id: str, request: HoldRequest) -> dict[str, Any]:
        """Put the run on hold, in one step with the look into its mailbox. Raises MailboxNotEmpty with what
        is unread, leased to the holder; IllegalMove when it is not idle (any more), or has another process.
        With a `failure` it says so in the log, and changes nothing."""
        self._context.authorize(principal, Permission.REPORT, run_id)
        if (request.checkpoint is None) == (request.failure is None):
            raise Invalid("Give either 'checkpoint' or 'failure'.")
        run = self._of_this_generation(run_id, request.generation)
        if request.failure is not None:
            return self._failed(run, request.failure)
        try:
            return self._hold(principal, run_id, request)
        except IllegalMove:
            if self._context.log.snapshot(run_id).status is RunStatus.SUSPENDED:
                return {"status": RunStatus.SUSPENDED}  # the answer to the first one was lost
            raise

    def checkpoint(self, principal: Principal, run_id: str) -> dict[str, Any]:
        """What the run's last process left to this one: `{"checkpoint": {...} | None}`."""
        context = self._context
        context.authorize(principal, Permission.REPORT, run_id)
        if context.log.snapshot(run_id).status is RunStatus.SUSPENDED:
            seq = context.log.brief([run_id])[run_id].since_seq
        else:
            run = context.store.run(run_id)  # what is remembered of it is of its first process
            seq = run.kept_seq or 0 if run is not None else 0
        if not seq:
            return {"checkpoint": None}
        try:
            at_hand = [context.event(run_id, Record(seq, b""))]
        except NotFound:
            at_hand = []
        # a log that was rebuilt may have given it another number
        for event in chain(at_hand, context.newest_first(run_id)):
            if event["body"].get("status") == RunStatus.SUSPENDED:
                return {"checkpoint": event["body"]["checkpoint"]}
        return {"checkpoint": None}

    def _of_this_generation(self, run_id: str, generation: int) -> Run:
        run = self._context.store.run(run_id)
        if run is None:
            raise NotFound("There is no run with that id.")
        if run.start is not StartKind.LAUNCH:
            raise IllegalMove("Only a run that we started can be started again.")
        # a later start may have found this process already there, and taken it
        if not run.back_generation <= generation <= run.generation:
            raise IllegalMove("The run has another process by now.")
        return run

    def _failed(self, run: Run, why: str) -> dict[str, Any]:
        said = f"It could not be put on hold, and goes on as it was: {redacted(why)}"
        body = NoticeBody(about=About.HOLD, text=said[:2_000])
        self._lifecycle.notice(run.id, body, once=f"hold:{self._asked(run)}")
        self._context.runs_changed(run.project_id)
        return {"status": self._context.log.snapshot(run.id).status}

    def _asked(self, run: Run) -> str:
        """What a failure answers, and is told once for: the last order to checkpoint. Where there is none of
        late, the time that it has been idle."""
        for event in islice(self._context.newest_first(run.id), _LOOKED_AT):
            if event["body"].get("action") == Action.CHECKPOINT:
                order_id: str = event["id"]
                return order_id
        since_seq = self._context.log.brief([run.id])[run.id].since_seq
        return f"{run.generation}:{run.hold_after or since_seq}"

    def _hold(self, principal: Principal, run_id: str, request: HoldRequest) -> dict[str, Any]:
        context, now, kept = self._context, self._context.now(), request.checkpoint
        if kept is None:
            raise Invalid("There is no checkpoint.")
        if len(kept.text.encode()) > CHECKPOINT_MAX_BYTES:
            raise Invalid(f"A checkpoint has at most {CHECKPOINT_MAX_BYTES} bytes.")
        if redacted(kept.text) != kept.text:
            raise Invalid("The checkpoint holds what looks like a secret, and people can read it.")
        # while it is on hold nothing in its mailbox is: what is said next brings it back
        one = self._lifecycle.status_draft(
            run_id, principal, RunStatus.SUSPENDED, checkpoint=kept, holds=False,
            detail="Its process was ended to save money. It goes on when somebody writes to it.",
        )  # fmt: skip
        never = receipt(run_id, SYSTEM.sender(), ReceiptState.UNDELIVERED, now=now)
        cancelled = draft(
            run_id, SYSTEM.sender(), AnswerBody(question_id="@qid", outcome=Outcome.CANCELLED),
            now=now, event_id="@id",
        )  # fmt: skip
        done = context.log.finish(
            run_id,
            [one],
            barrier=True,
            holder=request.holder,
            now_ms=context.now_ms(),
            lease_ms=context.settings.lease_ms,
            given_back=self._mailbox.given_back(run_id, "the lease ran out"),
            leased=self._mailbox.leased(run_id),
            undelivered=never,  # neither is written by a hold
            cancelled=cancelled,
        )
        if done.unread:
            items = [self._mailbox.handed_out(run_id, one) for one in done.unread]
            raise MailboxNotEmpty(
                f"{len(items)} unread: it does not go on hold.",
                current_state={"items": items, "lease_ms": context.settings.lease_ms},
            )
        context.runs_changed(context.run(run_id).project_id)
        return {"status": RunStatus.SUSPENDED}
