"""Starting an agent: once, again with back-off while there is no room for it, and in words on its card."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import structlog

from chat.drafts import iso
from chat.errors import Invalid, NotFound, NotStarted, Unavailable
from chat.ports import Runtime, Snapshot, Started
from chat.runs import ENDED, Run, RunStatus
from chat.service.carry_over import CarryOver
from chat.service.context import Context
from chat.service.lifecycle import Lifecycle
from chat.service.meter import Meter

STOP_GRACE_MS = 10_000
"""How long an agent has to end by itself after a stop order."""
HOLD_GRACE_MS = 30_000
"""How long the process of a run on hold has to end by itself."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 5, 120
TRIES_MAX = 24
"""About three quarters of an hour; then the run fails, with the last reason."""
log = structlog.get_logger("launching")


class Launching:
    """Every step may run twice, or at the same time in two workers, and leaves one agent behind."""

    def __init__(
        self,
        context: Context,
        lifecycle: Lifecycle,
        carry_over: CarryOver,
        runtime: Callable[[], Runtime],
        token_of: Callable[[str], str],
        meter: Meter,
    ) -> None:
        self._context = context
        self._lifecycle = lifecycle
        self._carry_over = carry_over
        self._runtime = runtime
        self._token_of = token_of
        self._meter = meter

    def launch(self, run_id: str) -> str | None:
        """Start the run's agent, once; a failure that stays ends the run as `failed` and says why, one that
        passes is told on the card and tried again (`is_due`). A run on hold is started again when somebody
        has spoken to it: the same run, as its next generation."""
        context = self._context
        run = context.store.run(run_id)
        if run is None:
            raise NotFound("There is no run with that id.")
        snapshot = context.log.snapshot(run_id)
        if snapshot.status is RunStatus.SUSPENDED:
            # the row was read before the status: it cannot be that of a process that came after the hold
            back = self._back(run, snapshot)
            if back is None:
                return None
            run, snapshot = back, context.log.snapshot(run_id)
        return self._launch(run, snapshot.status)

    def _launch(self, run: Run, status: RunStatus) -> str | None:
        context, run_id = self._context, run.id
        if status in ENDED:
            context.log.activate(run_id)  # who began to start it may have left something behind
            return run.handle
        if run.handle is not None and status is not RunStatus.QUEUED:
            return run.handle
        if not self.is_due(run) or not self._ready(run, status):
            return None
        started = self._started(run)
        handle = self._noted(run, started) if started is not None else None
        if context.log.snapshot(run_id).status in ENDED:  # it was ended while it was being started
            # the sweep takes away what was made for it, and stops the task, too, should we die here
            context.log.activate(run_id)
            if handle is not None:
                self._runtime().stop(handle, grace_s=STOP_GRACE_MS / 1000)
        return handle

    def _ready(self, run: Run, status: RunStatus) -> bool:
        """Whether it may be started; one that a person has stopped meanwhile is ended instead."""
        stopping = self._context.log.brief([run.id])[run.id].stop_at_ms is not None
        queued = status is RunStatus.QUEUED
        # between two tries; should one of them have begun something, the end finds it
        if stopping and (queued or (run.launch_tries and status is RunStatus.STARTING)):
            self._lifecycle.end(run.id, RunStatus.STOPPED, "Stopped before it began.")
            return False
        if queued:
            self._carry_over.into(run)
            self._lifecycle.move(run.id, RunStatus.STARTING)
        return True

    def _noted(self, run: Run, started: Started) -> str | None:
        """Note the task; when another generation has begun meanwhile it is nobody's, and stopped."""
        noted = self._context.store.update_run_if(
            run.id,
            {"generation": run.generation},
            handle=started.handle,
            launched_at=iso(self._context.now()),
            log_group=started.log_group,
            log_stream=started.log_stream,
            cpu=started.cpu,
            memory_mib=started.memory_mib,
            launch_after=None,
        )
        if noted:
            return started.handle
        self._runtime().stop(started.handle, grace_s=STOP_GRACE_MS / 1000)
        return None

    def _back(self, run: Run, snapshot: Snapshot) -> Run | None:
        """The row of a run on hold, made ready for its next process; None when it stays on hold.

        First the row loses its handle, then the run becomes `starting`: broken off in between, the next
        one finds the row ready. From `starting` on it is a launch like any other.
        """
        context = self._context
        if context.log.brief([run.id])[run.id].stop_at_ms is not None:
            self._lifecycle.stop_if_without_process(run.id)
            return None
        if not snapshot.items:
            return None  # what was said was taken back
        if run.handle is not None:
            if not self._is_gone(run):
                return None
            brief = context.log.brief([run.id])[run.id]
            until = self._meter.moved_at(run.id, brief) or context.now()
            ready = context.store.update_run_if(
                run.id, {"generation": run.generation},
                handle=None, generation=run.generation + 1, back_generation=run.generation + 1,
                billed_ms=int(self._meter.ran_s(run, until) * 1_000), launched_at=None, launch_tries=0,
                launch_after=None, hold_after=None, task_version=0, log_stream=None, kept_seq=brief.since_seq,
                stop_code=None, exit_code=None,
            )  # fmt: skip
            if not ready:
                return None  # another worker is at it; should it die, the sweep comes again
        # it has been quiet for as long as it was on hold, and that says nothing about its next process
        context.log.heartbeat(
            run.id, holder="", now_ms=context.now_ms(), lease_ms=context.settings.lease_ms
        )
        self._lifecycle.move(run.id, RunStatus.STARTING, detail="It comes back from hold.")
        return context.store.run(run.id)

    def _is_gone(self, run: Run) -> bool:
        """Whether the process before is gone: two must never work for one run."""
        handle = run.handle or ""
        state = self._runtime().describe([handle]).get(handle)
        if state is None or not state.running:
            return state is not None
        self._runtime().stop(handle, grace_s=STOP_GRACE_MS / 1000, reason="Omakase: it is on hold")
        raise Unavailable("The process before is still putting its things away.")

    def is_due(self, run: Run) -> bool:
        """Whether a run that could not be started may be tried again."""
        return run.launch_after is None or run.launch_after <= iso(self._context.now())

    def postpone(self, run: Run, why: str, *, anew: bool) -> None:
        """Try again later; `anew` as another generation, since this one never came to be. After TRIES_MAX
        tries the run has failed."""
        tries = run.launch_tries + 1
        changes: dict[str, Any] = {
            "launch_tries": tries, "launch_after": iso(self._later(run.id, tries)),
        }  # fmt: skip
        if anew:
            # the next task counts its versions from 1 again
            changes |= {
                "handle": None,
                "generation": run.generation + 1,
                "task_version": 0,
                "launched_at": None,
            }
        expected = {"handle": run.handle, "generation": run.generation}
        if not self._context.store.update_run_if(run.id, expected, **changes):
            return  # another worker has started it meanwhile, or has been here
        if tries >= TRIES_MAX:
            detail = f"The agent could not be started in {tries} tries. {why}"
            self._lifecycle.end(run.id, RunStatus.FAILED, detail)
            return
        # words once for each start and reason: the card tells what is waited for, not how often
        since = self._context.log.brief([run.id])[run.id].since_seq
        self._lifecycle.say_status(
            run.id, RunStatus.STARTING, f"{why} It is tried again.", once=f"waits:{since}:{why}"
        )

    def _later(self, run_id: str, tries: int) -> datetime:
        """Twice as long each time; and not at the same moment as all the others."""
        pause_s = min(FIRST_PAUSE_S * 2 ** (tries - 1), LONGEST_PAUSE_S)
        spread = sum(run_id.encode()) % 100 / 200
        return self._context.now() + timedelta(seconds=pause_s * (1 + spread))

    def _started(self, run: Run) -> Started | None:
        token = self._token_of(run.id)
        env = {
            "OMAKASE_SERVER": self._context.settings.agent_url,
            "OMAKASE_RUN_ID": run.id,
            "OMAKASE_TOKEN": token,
            "OMAKASE_GENERATION": str(run.generation),
        }
        try:
            return self._runtime().start(run, token=token, env=env)
        except Unavailable as error:
            log.warning("launch_postponed", run_id=run.id, error=error.detail)
            self.postpone(run, error.detail, anew=isinstance(error, NotStarted))
        except (OSError, ValueError, LookupError, Invalid) as error:
            log.exception("launch_failed", run_id=run.id)
            said = error.detail if isinstance(error, Invalid) else str(error)
            self._lifecycle.end(run.id, RunStatus.FAILED, f"The agent could not be started: {said}")
        return None
