"""Holding what the runtime knows of the agents against what their logs say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

import structlog

from chat.drafts import millis
from chat.errors import Invalid, NotFound, Unavailable
from chat.events import About, NoticeBody
from chat.ports import Alive, Brief, Hint, Record, Runtime
from chat.runs import ENDED, Phase, Run, RunStatus, StartKind
from chat.service.context import Context
from chat.service.launching import HOLD_GRACE_MS, STOP_GRACE_MS, Launching
from chat.service.lifecycle import Lifecycle

_WHOLE = frozenset({None, "EssentialContainerExited", "UserInitiated", "ServiceSchedulerInitiated"})
"""Stop codes of which nothing needs to be said after the agent's own goodbye."""
log = structlog.get_logger("watching")


class Watching:
    """Only the runtime decides life and death. Every step may run twice, or in two workers at once."""

    def __init__(
        self,
        context: Context,
        lifecycle: Lifecycle,
        launching: Launching,
        runtime: Callable[[], Runtime],
    ) -> None:
        self._context = context
        self._lifecycle = lifecycle
        self._launching = launching
        self._runtime = runtime
        self._known: dict[str, Run] = {}
        self._at_rest: set[tuple[str, int]] = set()
        """Runs on hold, and since which event, whose process is gone: it need not be asked for again."""

    def watch(self) -> int:
        """Look at every run that has not ended; returns how many were ended."""
        run_ids = self._context.log.active()
        self._known = {run_id: self._known[run_id] for run_id in run_ids if run_id in self._known}
        briefs = self._context.log.brief(run_ids)
        self._at_rest &= {(run_id, brief.since_seq) for run_id, brief in briefs.items()}
        open_ones = [
            run_id
            for run_id, brief in briefs.items()
            if brief.status not in ENDED and (run_id, brief.since_seq) not in self._at_rest
        ]
        return self._look(self._rows(open_ones), briefs)

    def look_at(self, hints: Sequence[Hint]) -> int:
        """Look at the runs that somebody says have changed; returns how many were ended.

        Of each task only the newest hint counts, and that only when nobody has acted on it yet.
        """
        newest: dict[tuple[str, str], int] = {}
        for hint in hints:
            if not hint.run_id:
                continue  # a task that somebody else started
            key = (hint.run_id, hint.handle)
            newest[key] = max(hint.version, newest.get(key, 0))
        rows = []
        for (run_id, handle), version in newest.items():
            run = self._context.store.run(run_id)
            if run is None or run.status in ENDED:
                continue
            if run.handle is None and run.start is StartKind.LAUNCH:
                self._context.tasks.enqueue("launch", run.id)  # it runs: who started it broke off
            elif run.handle == handle and version > run.task_version:
                rows.append(run)
        briefs = self._context.log.brief([run.id for run in rows])
        return self._look([run for run in rows if run.id in briefs], briefs, noting=True)

    def settle(self, runs: Sequence[Run]) -> set[str]:
        """Let ended runs give back what they held; returns those of which nothing is left."""
        launched = [run for run in runs if run.start is StartKind.LAUNCH]
        gone = {run.id for run in runs} - {run.id for run in launched}
        if not launched:
            return gone
        now_ms = self._context.now_ms()
        overdue = {run.id for run in launched if now_ms - _ended_ms(run, now_ms) > STOP_GRACE_MS}
        young = {run.id for run in launched if self._is_young(run)}
        try:
            ends = self._runtime().settle(launched, overdue=overdue, young=young)
        except Invalid:
            return gone | {run.id for run in launched}  # no runtime, and so nothing of its
        for run in launched:
            if run.id in ends:
                self._note_end(run, ends[run.id], after=True)
        return gone | ends.keys()

    def _rows(self, run_ids: Sequence[str]) -> list[Run]:
        """The runs' rows; those that the store does not give now are looked at next time."""
        found = []
        for run_id in run_ids:
            try:
                run = self._row(run_id)
            except Unavailable as error:
                log.warning("row_not_read", run_id=run_id, error=error.detail)
                continue
            if run is not None:
                found.append(run)
        return found

    def _row(self, run_id: str) -> Run | None:
        """The run's row; one that has been started does not change in what is needed here."""
        known = self._known.get(run_id)
        if known is None or (known.start is StartKind.LAUNCH and known.handle is None):
            known = self._context.store.run(run_id)
            if known is not None:
                self._known[run_id] = known
        return known

    def _look(self, runs: list[Run], briefs: dict[str, Brief], *, noting: bool = False) -> int:
        handles = [run.handle for run in runs if run.handle]
        states = self._runtime().describe(handles) if handles else {}
        ended = 0
        for run in runs:
            state = states.get(run.handle or "")
            try:
                ended += self._watched(run, briefs[run.id], state)
                if noting and state is not None:
                    self._context.store.update_run_if(
                        run.id, {"handle": run.handle}, task_version=state.version
                    )
            except Exception as error:  # noqa: BLE001 - one run's trouble must not stop the others
                log.warning("watch_failed", run_id=run.id, error=repr(error))
        return ended

    def _watched(self, run: Run, brief: Brief, state: Alive | None) -> bool:
        now_ms = self._context.now_ms()
        if brief.status is RunStatus.SUSPENDED:
            return self._on_hold(run, brief, state)
        stopping = brief.stop_at_ms is not None
        late = stopping and now_ms - (brief.stop_at_ms or 0) > STOP_GRACE_MS
        quiet_ms = now_ms - brief.heartbeat_ms
        if (late or (state is not None and not state.running)) and not self._is_of_now(run):
            return False
        if state is not None and not state.running:
            if state.missing and late and not self._is_young(run):
                # whatever still speaks there: nobody can stop it, and its token goes with the run
                detail = "Stopped. ECS does not know its task any more."
                return self._lifecycle.end(run.id, RunStatus.STOPPED, detail)
            return self._gone(run, brief, state, quiet_ms=quiet_ms)
        if late and run.handle is not None:
            reason = "Omakase: a person stopped the run"
            self._runtime().stop(run.handle, grace_s=STOP_GRACE_MS / 1000, reason=reason)
        stale_ms = self._context.settings.heartbeat_stale_ms
        if late and run.handle is None and quiet_ms > stale_ms:
            detail = "Stopped; its agent has gone quiet."
            return self._lifecycle.end(run.id, RunStatus.STOPPED, detail)
        if state is not None and state.started_ms is not None and not state.pending:
            up_ms = now_ms - max(state.started_ms, brief.heartbeat_ms)
            if brief.status is RunStatus.STARTING and up_ms > stale_ms:
                detail = "Its task runs, and nothing was heard from the agent's side yet."
                phase = Phase(brief.phase) if brief.phase else None
                self._lifecycle.move(run.id, RunStatus.UNRESPONSIVE, detail=detail, phase=phase)
        return False

    def _on_hold(self, run: Run, brief: Brief, state: Alive | None) -> bool:
        """Its process has reason to be gone; one that is not, in time, is told to."""
        if brief.stop_at_ms is not None:
            self._lifecycle.stop_if_without_process(run.id)
            return True
        if run.handle is None or state is None:
            return False
        if not state.running:
            self._at_rest.add((run.id, brief.since_seq))
            self._known.pop(run.id, None)  # it comes back as another process
            return False
        event = self._context.event(run.id, Record(brief.since_seq, b""))
        since_ms = millis(datetime.fromisoformat(event["at"]))
        if self._context.now_ms() - since_ms > HOLD_GRACE_MS:
            now = self._context.log.brief([run.id]).get(run.id)
            if now is None or (now.status, now.since_seq) != (brief.status, brief.since_seq):
                self._known.pop(
                    run.id, None
                )  # it has come back meanwhile, and this may be its new process
                return False
            reason = "Omakase: the run is on hold"
            self._runtime().stop(run.handle, grace_s=STOP_GRACE_MS / 1000, reason=reason)
        return False

    def _is_of_now(self, run: Run) -> bool:
        """Whether what was seen is still about the run: not put on hold since, nor come back with another
        process. In this order: a run comes back by losing its handle first."""
        on_hold = self._context.log.snapshot(run.id).status is RunStatus.SUSPENDED
        now = self._context.store.run(run.id)
        same = now is not None and now.handle == run.handle
        if on_hold or not same:
            self._known.pop(run.id, None)
        return same and not on_hold

    def _gone(self, run: Run, brief: Brief, state: Alive, *, quiet_ms: int) -> bool:
        if state.missing and not self._is_old(run, quiet_ms):
            return False
        # read again: ECS may have taken its time to answer, and a person has had theirs
        brief = self._context.log.brief([run.id]).get(run.id, brief)
        stopping = brief.stop_at_ms is not None
        now = self._context.store.run(run.id)
        if now is None or now.handle != run.handle:  # it has got another task meanwhile
            self._known.pop(run.id, None)
            return False
        if state.no_room and not stopping:
            self._launching.postpone(now, state.reason or "There is no room for it.", anew=True)
            self._known.pop(run.id, None)
            return False
        if run.handle is not None and state.stop_code is None and not state.missing:
            self._runtime().stop(run.handle, grace_s=0)  # what it may have left behind
        self._note_end(run, state, after=False)
        if stopping:
            return self._lifecycle.end(run.id, RunStatus.STOPPED, "Stopped.")
        code = "" if state.exit_code is None else f" (exit code {state.exit_code})"
        detail = state.reason or f"The agent's process is gone{code} and said no goodbye."
        by_somebody = state.stop_code in {"UserInitiated", "ServiceSchedulerInitiated"}
        outcome = RunStatus.STOPPED if by_somebody else RunStatus.FAILED
        return self._lifecycle.end(run.id, outcome, detail)

    def _is_old(self, run: Run, quiet_ms: int) -> bool:
        """Whether one of which nothing is known has been there and is gone: not new, and not heard of."""
        return not self._is_young(run) and quiet_ms > self._context.settings.heartbeat_stale_ms

    def _is_young(self, run: Run) -> bool:
        """Whether a task of it may be there though ECS does not show it: it is eventually consistent, and a
        start that was answered to nobody may come through after the run's end."""
        since = run.launched_at if run.handle is not None else run.ended_at
        if since is None:
            return False
        age_ms = self._context.now_ms() - millis(datetime.fromisoformat(since))
        return age_ms < self._context.settings.heartbeat_stale_ms

    def _note_end(self, run: Run, state: Alive, *, after: bool) -> None:
        if state.stop_code is None or run.stop_code is not None:
            return
        try:
            if after and state.stop_code not in _WHOLE and state.reason:
                # the agent said goodbye and could not know why it had to go
                body = NoticeBody(about=About.TASK, text=state.reason[:2_000])
                self._lifecycle.notice(run.id, body, once=f"task:{run.handle}")
            self._context.store.update_run(
                run.id, stop_code=state.stop_code, exit_code=state.exit_code
            )
        except NotFound:
            log.warning("end_not_noted", run_id=run.id)


def _ended_ms(run: Run, otherwise_ms: int) -> int:
    return millis(datetime.fromisoformat(run.ended_at)) if run.ended_at else otherwise_ms
