"""What workers do: store the log, forward to the mailbox, sweep up after crashes, start and watch agents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import orjson
import structlog

from chat.access import SYSTEM
from chat.drafts import receipt
from chat.errors import NotFound, Unavailable
from chat.events import EventJson, Kind, ReceiptState, SenderKind
from chat.ports import Brief, Hint, MailItem, Nudge, Runtime
from chat.runs import ENDED, OPEN, Phase, Run, RunStatus, StartKind
from chat.service.carry_over import CarryOver
from chat.service.context import Context
from chat.service.holding import Holding
from chat.service.launching import Launching
from chat.service.lifecycle import STALE_FROM, Lifecycle
from chat.service.mailbox import Mailbox
from chat.service.meter import Meter
from chat.service.nudging import Nudging
from chat.service.reconcile import reconcile
from chat.service.watching import Watching

BATCH = 500
"""Events written to the store at a time."""
_ROWS_MAX = 10_000
log = structlog.get_logger("delivery")


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep found: runs with events not yet stored, leases given back, runs gone quiet."""

    drained: int = 0
    leases: int = 0
    unresponsive: int = 0
    launched: int = 0
    retired: int = 0
    asked_to_hold: int = 0


class Delivery:
    """Every step may run twice, or at the same time in two workers, and leaves the same behind."""

    def __init__(
        self,
        context: Context,
        lifecycle: Lifecycle,
        mailbox: Mailbox,
        carry_over: CarryOver,
        runtime: Callable[[], Runtime],
        token_of: Callable[[str], str],
        nudge: Callable[[], Nudge | None] = lambda: None,
        *,
        holding: Holding,
        meter: Meter,
    ) -> None:
        self._context = context
        self._lifecycle = lifecycle
        self._mailbox = mailbox
        self._carry_over = carry_over
        self._holding = holding
        self._launching = Launching(context, lifecycle, carry_over, runtime, token_of, meter)
        self._watching = Watching(context, lifecycle, self._launching, runtime)
        self._nudging = Nudging(context, lifecycle, nudge)

    def drain(self, run_id: str) -> int:
        """Store what the log holds beyond its stored cursor, forwarding as it goes; returns how many.

        While it works the run's flag says that a drain is under way, so what is appended meanwhile
        queues none; the flag is dropped before the last look, so nothing is missed.
        """
        context, drained, ended = self._context, 0, False
        run = context.run(run_id)
        reconcile(context, run)
        while True:
            drained += self._drain_what_is_there(run)
            if ended:
                break
            context.log.drain_ends(run_id)
            ended = True
        context.log.trim(run_id, keep=context.settings.stream_keep)
        return drained

    def _drain_what_is_there(self, run: Run) -> int:
        context, drained = self._context, 0
        snapshot = context.log.snapshot(run.id)
        epoch, stored = snapshot.epoch, snapshot.stored
        on_hold = snapshot.status is RunStatus.SUSPENDED
        if any(_waits(item, stored) for item in snapshot.items):
            self.forward(run.id)  # somebody stored it and broke off there
        while records := context.log.read(run.id, after=stored, limit=BATCH):
            context.store.put_events(run, records)
            events = [orjson.loads(record.data) for record in records]
            # before the cursor moves: a crash in between repeats it
            self._note_status(run, events)
            since, stored = stored, records[-1].seq
            if not context.log.mark_stored(run.id, stored, epoch=epoch, since=since):
                raise Unavailable("The run's log was rebuilt in the meantime.")
            drained += len(records)
            on_hold = on_hold or any(_puts_on_hold(event) for event in events)
            if to_agent := [_item_id(event) for event in events if _is_to_agent(event)]:
                self.forward(run.id, to_agent)
                if on_hold:
                    context.tasks.enqueue("launch", run.id)
        return drained

    def _note_status(self, run: Run, events: Sequence[EventJson]) -> None:
        for event in reversed(events):
            if event["kind"] == Kind.STATUS:
                status = RunStatus(event["body"]["status"])
                ended_at = event["at"] if status in ENDED else None
                self._context.store.update_run(run.id, status=status.value, ended_at=ended_at)
                if ended_at is not None and run.turn is not None:
                    self._context.tasks.enqueue("advance", run.feature_id)
                if run.turn is not None:  # only now is it what a pipeline is read from
                    self._context.feature_changed(run.project_id, run.feature_id)
                return

    def forward(self, run_id: str, ids: Sequence[str] = ()) -> int:
        """Let the agent take what is stored; `ids`, when that can only be these."""
        said = receipt(run_id, SYSTEM.sender(), ReceiptState.STORED, now=self._context.now())
        return len(self._context.log.forward(run_id, said, ids))

    def sweep(self) -> Swept:
        """What a crash left behind: undrained logs, leases past their deadline, runs gone quiet."""
        context = self._context
        counts = asdict(Swept())
        run_ids = context.log.active()
        briefs = context.log.brief(run_ids)
        home = context.log.home()
        over: list[Run] = []
        for run_id in run_ids:
            if home.is_new:
                context.tasks.enqueue("store", run_id)  # it may be behind what the store has
            try:
                for name, count in self._swept(run_id, briefs.get(run_id), over).items():
                    counts[name] += count
            except Exception as error:  # noqa: BLE001 - one run's trouble must not stop the others
                log.warning("sweep_failed", run_id=run_id, error=repr(error))
        if home.is_new:
            context.log.settled(home)
        counts["retired"] = self._retired(over)
        known = set(run_ids)
        for status in OPEN:
            for run in self._open(status):
                unstarted = run.start is StartKind.LAUNCH and run.handle is None
                if run.id in known and not unstarted and status is not RunStatus.QUEUED:
                    continue
                try:
                    counts["launched"] += self._left_unlaunched(run)
                except Exception as error:  # noqa: BLE001 - as above
                    log.warning("sweep_failed", run_id=run.id, error=repr(error))
        return Swept(**counts)

    def _open(self, status: RunStatus) -> list[Run]:
        """The runs that are in that status by their rows; none when the store does not say, for now."""
        try:
            return self._context.store.runs(status=status, limit=_ROWS_MAX)
        except Unavailable as error:
            log.warning("rows_not_read", status=status.value, error=error.detail)
            return []

    def _retired(self, over: list[Run]) -> int:
        """Let go of ended runs that hold nothing any more."""
        try:
            gone = self._watching.settle(over)
            for run_id in gone:
                self._context.log.retire(run_id)
        except Exception as error:  # noqa: BLE001 - the next sweep does it
            log.warning("settle_failed", error=repr(error))
            return 0
        return len(gone)

    def _swept(self, run_id: str, brief: Brief | None, over: list[Run]) -> dict[str, int]:
        context = self._context
        now_ms = context.now_ms()
        if brief is None and context.store.run(run_id) is None:
            context.log.retire(run_id)  # the store never had it, or has it no more
            return {}
        if brief is None:
            context.log.snapshot(run_id)  # rebuilds it from the store
            return {}
        found: dict[str, int] = {}
        reason = "the lease ran out"
        back = context.log.expire(
            run_id, now_ms=now_ms, given_back=self._mailbox.given_back(run_id, reason)
        )
        found["leases"] = len(back)
        if brief.head > brief.stored:
            context.tasks.enqueue("store", run_id)
            found["drained"] = 1
        elif brief.status in ENDED:
            over.append(self._settle(run_id, brief.status))
        elif brief.status is RunStatus.SUSPENDED:
            self.forward(run_id)
            if brief.stop_at_ms is not None or context.log.snapshot(run_id).items:
                context.tasks.enqueue(
                    "launch", run_id
                )  # somebody spoke to it, and the task was lost
                found["launched"] = 1
        else:
            self.forward(run_id)
            found["asked_to_hold"] = int(self._holding.ask_if_due(run_id, brief))
        stale = now_ms - brief.heartbeat_ms > context.settings.heartbeat_stale_ms
        if stale and brief.status in STALE_FROM and not self._may_still_be_starting(run_id, brief):
            detail = "Nothing was heard from the agent's side for a while. It may still be at work."
            phase = Phase(brief.phase) if brief.phase else None
            found["unresponsive"] = int(
                self._lifecycle.move(run_id, RunStatus.UNRESPONSIVE, detail=detail, phase=phase)
            )
        return found

    def _may_still_be_starting(self, run_id: str, brief: Brief) -> bool:
        """A task gets its machine and image first: the watcher knows when it has begun."""
        if brief.status is not RunStatus.STARTING or self._context.settings.runtime != "ecs":
            return False
        return self._context.run(run_id).start is StartKind.LAUNCH

    def _settle(self, run_id: str, status: RunStatus) -> Run:
        """The last look at an ended run: its row says so, and what it left has gone on if it can."""
        store = self._context.store
        run = store.run(run_id)
        if run is None:
            raise NotFound("There is no run with that id.")
        if run.status is not status:  # two drains at once may have written it in the wrong order
            last = store.events(run_id, limit=1, kinds=frozenset({Kind.STATUS})).records
            self._note_status(run, [orjson.loads(record.data) for record in last])
            run = store.run(run_id) or run
        self._carry_over.out_of(run)
        return run

    def _left_unlaunched(self, run: Run) -> int:
        """A run that Redis does not know, or whose launch was lost between two steps of its creation."""
        if run.turn is not None and run.status is RunStatus.QUEUED and run.handle is None:
            return 0  # a pipeline's: it begins with a hand-over, and the pipeline is swept too
        self._lifecycle.open_log(run)
        if run.status is RunStatus.QUEUED:
            self._carry_over.into(run)
        status = self._context.log.snapshot(run.id).status
        asleep = status in ENDED or status is RunStatus.SUSPENDED  # until somebody speaks to it
        unstarted = run.start is StartKind.LAUNCH and run.handle is None and not asleep
        if unstarted and self._launching.is_due(run):
            self._context.tasks.enqueue("launch", run.id)
            return 1
        return 0

    def launch(self, run_id: str) -> str | None:
        """Start the run's agent, once; a failure ends the run as `failed` and says why."""
        return self._launching.launch(run_id)

    def watch(self) -> int:
        """Hold what the runtime knows against what the logs say; returns how many runs were ended."""
        return self._watching.watch()

    def look_at(self, hints: Sequence[Hint]) -> int:
        """The same for the runs that the runtime says have changed."""
        return self._watching.look_at(hints)

    def look_for_quiet(self) -> int:
        """Queue a nudge for each agent that has left something unread too long; returns how many."""
        return self._nudging.look()

    def nudge(self, run_id: str, task_id: str) -> EventJson | None:
        """Tell an agent's side to look, and say in the log how that went."""
        return self._nudging.nudge(run_id, task_id)


def _waits(item: MailItem, stored: int) -> bool:
    """Accepted and stored, and nobody has said so."""
    return item.state == ReceiptState.ACCEPTED and item.event_seq <= stored


def _puts_on_hold(event: EventJson) -> bool:
    return bool(event["kind"] == Kind.STATUS and event["body"]["status"] == RunStatus.SUSPENDED)


def _item_id(event: EventJson) -> str:
    """The item of the mailbox that an event makes or changes."""
    return str(event["body"].get("edit_of") or event["id"])


def _is_to_agent(event: dict[str, object]) -> bool:
    sender = event["sender"]
    kinds = {Kind.MESSAGE, Kind.ANSWER, Kind.ORDER}
    return (
        event["kind"] in kinds and isinstance(sender, dict) and sender["kind"] != SenderKind.AGENT
    )
