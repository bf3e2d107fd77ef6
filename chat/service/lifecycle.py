"""A run's life: made, started, heard of, ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from chat.access import SYSTEM, Permission, Principal, demand
from chat.drafts import draft, iso, receipt
from chat.errors import (
    IdempotencyMismatch,
    IllegalMove,
    Invalid,
    MailboxNotEmpty,
    NotFound,
    RunEnded,
)
from chat.events import (
    AnswerBody,
    Checkpoint,
    ErrorBody,
    EventJson,
    NoticeBody,
    Outcome,
    ReceiptState,
    StatusBody,
)
from chat.ports import Draft, OpenText, Snapshot
from chat.requests import CreateRun, FinishRequest, Heartbeat
from chat.runs import INWARD, OPEN, Phase, Run, RunStatus, StartKind, Verdict, sources_of
from chat.service.carry_over import CarryOver
from chat.service.catalog import keyed_id
from chat.service.context import Context
from chat.service.mailbox import Mailbox
from chat.service.messages import shown
from chat.service.meter import Meter
from chat.service.tokens import Tokens

_HEARD_OF = {
    RunStatus.QUEUED: None,
    RunStatus.STARTING: None,
    RunStatus.UNRESPONSIVE: "The agent's side is heard of again.",
}
"""Where the first heartbeat ends the waiting, and what is said about it."""
STALE_FROM = frozenset({RunStatus.STARTING, RunStatus.WORKING, RunStatus.WAITING, RunStatus.PAUSED})
"""From where a run without heartbeats becomes `unresponsive`."""

LISTED: Final = 200
"""Runs in one list, besides those that still go on."""
OPEN_MAX: Final = 10_000


@dataclass(frozen=True, slots=True)
class Created:
    """A new run; `token` only for one that is attached by hand."""

    run: Run
    token: str | None
    repeated: bool


@dataclass(frozen=True, slots=True)
class RunView:
    """A run and where it stands."""

    run: Run
    snapshot: Snapshot


class Lifecycle:
    """The moves of a run, each a `status` event in its log."""

    def __init__(
        self,
        context: Context,
        mailbox: Mailbox,
        carry_over: CarryOver,
        tokens: Tokens,
        meter: Meter,
    ) -> None:
        self._context = context
        self._mailbox = mailbox
        self._carry_over = carry_over
        self._tokens = tokens
        self._meter = meter

    def create(
        self, principal: Principal, request: CreateRun, *, key: str | None = None
    ) -> Created:
        """A run with its mailbox, before anything is started. What the agent's last run on this
        feature never read is carried over."""
        demand(principal, Permission.CREATE, None)
        context = self._context
        feature = context.store.feature(request.feature_id)
        if feature is None:
            raise NotFound("There is no feature with that id.")
        agents = context.roles.agents
        agent = agents.get(request.agent_id)
        if agent is None:
            raise Invalid(f"'agent_id' is one of {', '.join(agents)}.")
        run_id = keyed_id("run", principal, key)
        before = context.store.run(run_id) if key else None
        if before is not None:
            same = (before.feature_id, before.agent_id, before.start)
            if same != (feature.id, agent.id, request.start):
                raise IdempotencyMismatch("Use a new Idempotency-Key for another run.")
            run = before
        else:
            run = Run(
                id=run_id,
                project_id=feature.project_id,
                feature_id=feature.id,
                agent_id=agent.id,
                agent_name=agent.name,
                role=agent.role,
                start=request.start,
                created_at=iso(context.now()),
                token_sha256=self._tokens.sha256(self._tokens.of(run_id)),
            )
            context.store.put_run(run)
        # each of these may be done again: who asked first with this key may have broken off anywhere
        self.open_log(run, principal)
        self._carry_over.into(run)
        if before is None:
            context.runs_changed(run.project_id)
        attached = run.start is StartKind.ATTACH
        if not attached:
            context.tasks.enqueue("launch", run_id)
        return Created(run, self._tokens.of(run_id) if attached else None, before is not None)

    def begin(self, run: Run, opening: Draft) -> None:
        """Open the log of a run whose row is there, with `opening` as the first in its mailbox, bring it
        what people wrote and nobody has read, and have it started. May be done again."""
        self.open_log(run, opening=[opening])
        if (
            self._context.log.item(run.id, opening.id) is None
        ):  # somebody looked before there was a log
            self._context.log.append(run.id, [opening])
        self._carry_over.into(run)
        self._context.runs_changed(run.project_id)
        self._context.tasks.enqueue("launch", run.id)

    def open_log(
        self, run: Run, principal: Principal = SYSTEM, *, opening: Sequence[Draft] = ()
    ) -> None:
        """Make the run's log; harmless when it is there, or when only the store has it."""
        if self._context.store.last_seq(run.id):
            self._context.log.snapshot(run.id)  # one that Redis has lost is rebuilt, not begun anew
            return
        body = StatusBody(status=RunStatus.QUEUED)
        first = draft(run.id, principal.sender(), body, now=self._context.now())
        self._context.log.create(
            run.id,
            token_sha256=run.token_sha256 or "",
            drafts=[first, *opening],
            now_ms=self._context.now_ms(),
        )

    def authorize(self, principal: Principal, permission: Permission, run_id: str) -> Run:
        """The run's row (its status may be old), if the principal may do that. Raises NotFound, Forbidden."""
        return self._context.authorize(principal, permission, run_id)

    def get(self, principal: Principal, run_id: str) -> RunView:
        """A run and its snapshot."""
        known = self._context.authorize(principal, Permission.READ, run_id)
        # what is remembered of it may be of before it was started, and its card tells of its process
        run = self._context.store.run(run_id) or known
        snapshot = self._context.log.snapshot(run_id)
        return RunView(run.model_copy(update={"status": snapshot.status}), snapshot)

    def list(
        self,
        principal: Principal,
        *,
        project_id: str | None = None,
        feature_id: str | None = None,
        status: RunStatus | None = None,
    ) -> Sequence[dict[str, Any]]:
        """Runs as cards, newest first; exactly one filter. Where a run stands comes from its log. The newest
        200, and of a project or feature whatever still goes on, however old it is."""
        demand(principal, Permission.READ, None)
        if sum(part is not None for part in (project_id, feature_id, status)) != 1:
            raise Invalid("Give exactly one of project_id, feature_id and status.")
        store = self._context.store
        rows = store.runs(project_id=project_id, feature_id=feature_id, status=status, limit=LISTED)
        if len(rows) == LISTED and status is None:
            listed = {run.id for run in rows}
            older = [
                run
                for open_status in OPEN
                for run in store.runs(status=open_status, limit=OPEN_MAX)
                if run.id not in listed
                and (run.project_id == project_id or run.feature_id == feature_id)
            ]
            rows = [*rows, *sorted(older, key=lambda run: (run.created_at, run.id), reverse=True)]
        return self.cards(rows)

    def cards(self, rows: Sequence[Run]) -> Sequence[dict[str, Any]]:
        """Each run with where it stands: status, phase, step, last line, open questions, head."""
        briefs = self._context.log.brief([run.id for run in rows])
        cards = []
        for run in rows:
            brief = briefs.get(run.id)
            card = run.model_dump(mode="json", exclude=set(INWARD))
            card |= {
                "phase": None, "step": None, "last_line": None, "needs_you": 0, "head": 0,
                "since": None, "hold_at": None, "cost": None,
            }  # fmt: skip
            if brief is not None:
                step = self._context.event(run.id, brief.step) if brief.step else None
                card |= {
                    "status": brief.status,
                    "phase": brief.phase,
                    "step": step["body"] if step else None,
                    "last_line": brief.last_line,
                    "needs_you": brief.asks,
                    "head": brief.head,
                    **self._meter.card(run, brief),
                }
            cards.append(card)
        return cards

    def heartbeat(self, principal: Principal, run_id: str, request: Heartbeat) -> dict[str, Any]:
        """The agent's side lives; its leases are renewed."""
        self._context.authorize(principal, Permission.REPORT, run_id)
        lease_ms = self._context.settings.lease_ms
        beat = self._context.log.heartbeat(
            run_id, holder=request.holder, now_ms=self._context.now_ms(), lease_ms=lease_ms
        )
        status = beat.status
        if status in _HEARD_OF:
            # one that had gone quiet is again what it was; any other has begun
            quiet = status is RunStatus.UNRESPONSIVE
            target = (beat.before if quiet else None) or RunStatus.WORKING
            if target in _HEARD_OF:
                target = RunStatus.WORKING
            phase = Phase(beat.phase) if beat.phase else None
            if self.move(run_id, target, detail=_HEARD_OF[status], phase=phase):
                status = target
        return {
            "status": status, "held": beat.held, "pending": beat.pending, "lease_ms": lease_ms,
        }  # fmt: skip

    def finish(self, principal: Principal, run_id: str, request: FinishRequest) -> dict[str, Any]:
        """End the run. `completed` only through the barrier: raises MailboxNotEmpty with what is
        still unread, leased to the holder, while there is any."""
        self._context.authorize(principal, Permission.REPORT, run_id)
        outcome = RunStatus(request.outcome)
        # `last_seq` refuses nothing: the mailbox itself is the barrier, and after Redis has lost the end
        # of a log the agent's side may know a higher number than there is
        detail = request.summary
        if request.exit_code is not None:
            detail = f"{detail or 'The command ended'} (exit code {request.exit_code})"
        return self._end(
            run_id, outcome, detail, principal, holder=request.holder,
            barrier=outcome is RunStatus.COMPLETED, verdict=request.verdict,
        )  # fmt: skip

    def end(
        self, run_id: str, outcome: RunStatus, detail: str, *, on_hold_too: bool = False
    ) -> bool:
        """End a run from outside: its process is gone, or was never there. False when it had ended, or was
        put on hold: then its process had reason to go."""
        try:
            self._end(
                run_id, outcome, detail, SYSTEM, holder="", barrier=False, on_hold_too=on_hold_too
            )
        except (RunEnded, IllegalMove):
            return False
        return True

    def stop_if_without_process(self, run_id: str) -> None:
        """End a run that was told to stop, and has no process that could obey: not yet, or it is on hold."""
        status = self._context.log.snapshot(run_id).status
        if status is RunStatus.QUEUED:
            self.end(run_id, RunStatus.STOPPED, "Stopped before it began.")
        elif status is RunStatus.SUSPENDED:
            self._bill_until_hold(run_id)
            self.end(run_id, RunStatus.STOPPED, "Stopped while it was on hold.", on_hold_too=True)

    def _bill_until_hold(self, run_id: str) -> None:
        """Its process ended then; the hold itself costs nothing."""
        run = self._context.store.run(run_id)
        until = self._meter.moved_at(run_id, self._context.log.brief([run_id])[run_id])
        if run is not None and run.launched_at is not None and until is not None:
            billed_ms = int(self._meter.ran_s(run, until) * 1_000)
            self._context.store.update_run(run_id, billed_ms=billed_ms, launched_at=None)

    def move(
        self,
        run_id: str,
        target: RunStatus,
        *,
        detail: str | None = None,
        phase: Phase | None = None,
    ) -> bool:
        """Move a run's status as the system; False when it cannot go there (any more)."""
        one = self.status_draft(run_id, SYSTEM, target, detail=detail, phase=phase)
        try:
            self._context.log.append(run_id, [one])
        except (RunEnded, IllegalMove):
            return False
        self._context.runs_changed(self._context.run(run_id).project_id)
        return True

    def say_status(self, run_id: str, status: RunStatus, detail: str, *, once: str) -> bool:
        """Say something about the status the run has, without moving it; `once` names what is said. False
        when it was said before, or the run has another status by now."""
        body = StatusBody(status=status, previous=status, detail=detail[:2_000])
        one = draft(
            run_id, SYSTEM.sender(), body, now=self._context.now(), status=status,
            sources=frozenset({status}), idempotency_key=f"said:{once}",
        )  # fmt: skip
        try:
            done = self._context.log.append(run_id, [one])[0]
        except (RunEnded, IllegalMove):
            return False
        return not done.repeated

    def notice(
        self, run_id: str, body: NoticeBody, *, once: str, by: Principal = SYSTEM
    ) -> EventJson:
        """Say what was done for a run, whether or not it has ended; the same `once` finds the first notice."""
        one = draft(
            run_id, by.sender(), body, now=self._context.now(), after_end=True,
            idempotency_key=f"notice:{once}",
        )  # fmt: skip
        return self._context.event(run_id, self._context.log.append(run_id, [one])[0].record)

    def status_draft(
        self,
        run_id: str,
        principal: Principal,
        target: RunStatus,
        *,
        detail: str | None = None,
        phase: Phase | None = None,
        verdict: Verdict | None = None,
        checkpoint: Checkpoint | None = None,
        from_hold: bool = True,
        **effects: Any,
    ) -> Draft:
        """A move of status, with the statuses it may come from; not `from_hold`: not from that one."""
        said = detail[:2_000] if detail else None
        body = StatusBody(
            status=target, phase=phase, detail=said, verdict=verdict, checkpoint=checkpoint
        )
        never = frozenset() if from_hold else frozenset({RunStatus.SUSPENDED})
        return draft(
            run_id,
            principal.sender(),
            body,
            now=self._context.now(),
            status=target,
            sources=sources_of(target) - never,
            phase=phase,
            **effects,
        )

    def snapshot_json(self, run_id: str, snapshot: Snapshot) -> dict[str, Any]:
        """A snapshot as the wire says it."""
        context = self._context
        return {
            "epoch": snapshot.epoch,
            "head": snapshot.head,
            "stored": snapshot.stored,
            "status": snapshot.status,
            "phase": snapshot.phase,
            "held": snapshot.held,
            "heartbeat_at": _iso_ms(snapshot.heartbeat_ms),
            "items": [
                {
                    "id": item.id,
                    "seq": item.seq,
                    "kind": item.kind,
                    "mode": item.mode,
                    **shown(item),
                }
                for item in snapshot.items
            ],
            "questions": [context.event(run_id, record) for record in snapshot.questions],
            "open_texts": [_open_text(text) for text in snapshot.open_texts],
            "step": context.event(run_id, snapshot.step) if snapshot.step else None,
        }

    def _end(
        self,
        run_id: str,
        outcome: RunStatus,
        detail: str | None,
        principal: Principal,
        *,
        holder: str,
        barrier: bool,
        verdict: Verdict | None = None,
        on_hold_too: bool = False,
    ) -> dict[str, Any]:
        context, now = self._context, self._context.now()
        drafts = []
        if outcome is RunStatus.FAILED:
            body = ErrorBody(summary=(detail or "The agent ended with an error.")[:2_000])
            drafts.append(draft(run_id, principal.sender(), body, now=now))
        verdict = verdict if outcome is RunStatus.COMPLETED else None
        drafts.append(
            self.status_draft(
                run_id, principal, outcome, detail=detail, verdict=verdict, from_hold=on_hold_too
            )
        )
        cancelled = draft(
            run_id, SYSTEM.sender(), AnswerBody(question_id="@qid", outcome=Outcome.CANCELLED),
            now=now, event_id="@id",
        )  # fmt: skip
        done = context.log.finish(
            run_id,
            drafts,
            barrier=barrier,
            holder=holder,
            now_ms=context.now_ms(),
            lease_ms=context.settings.lease_ms,
            given_back=self._mailbox.given_back(run_id, "the lease ran out"),
            leased=self._mailbox.leased(run_id),
            undelivered=receipt(
                run_id, SYSTEM.sender(), ReceiptState.UNDELIVERED, now=now,
                reason=f"the run ended as {outcome} before the agent read it",
            ),
            cancelled=cancelled,
        )  # fmt: skip
        if done.unread:
            items = [self._mailbox.handed_out(run_id, one) for one in done.unread]
            raise MailboxNotEmpty(
                f"{len(items)} unread: read and confirm them, then finish again.",
                current_state={"items": items, "lease_ms": context.settings.lease_ms},
            )
        context.runs_changed(context.run(run_id).project_id)
        return {"status": outcome}


def _open_text(text: OpenText) -> dict[str, Any]:
    return {"message_id": text.message_id, "text": text.text, "units": text.units}


def _iso_ms(moment_ms: int) -> str | None:
    return iso(datetime.fromtimestamp(moment_ms / 1000, UTC)) if moment_ms else None
