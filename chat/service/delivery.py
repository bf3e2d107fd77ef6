"""What workers do: store the log, forward to the mailbox, sweep up after crashes, start and watch agents."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import orjson
import structlog

from chat.access import SYSTEM
from chat.drafts import receipt
from chat.errors import ChatError, NotFound
from chat.events import Kind, ReceiptState, SenderKind
from chat.ports import Alive, Brief, Runtime
from chat.runs import ENDED, OPEN, Run, RunStatus, StartKind
from chat.service.context import Context
from chat.service.lifecycle import STALE_FROM, Lifecycle
from chat.service.mailbox import Mailbox

BATCH = 500
"""Events written to the store at a time."""
STOP_GRACE_MS = 10_000
"""How long an agent has to end by itself after a stop order."""
log = structlog.get_logger("delivery")


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep found: runs with events not yet stored, leases given back, runs gone quiet."""

    drained: int = 0
    leases: int = 0
    unresponsive: int = 0
    launched: int = 0
    retired: int = 0


class Delivery:
    """Every step may run twice, or at the same time in two workers, and leaves the same behind."""

    def __init__(
        self,
        context: Context,
        lifecycle: Lifecycle,
        mailbox: Mailbox,
        runtime: Callable[[], Runtime],
        token_of: Callable[[str], str],
    ) -> None:
        self._context = context
        self._lifecycle = lifecycle
        self._mailbox = mailbox
        self._runtime = runtime
        self._token_of = token_of

    def drain(self, run_id: str) -> int:
        """Store what the log holds beyond its stored cursor, forwarding as it goes; returns how many.

        While it works the run's flag says that a drain is under way, so what is appended meanwhile
        queues none; the flag is dropped before the last look, so nothing is missed.
        """
        context, drained, ended = self._context, 0, False
        run = context.run(run_id)
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
        stored = context.log.snapshot(run.id).stored
        while records := context.log.read(run.id, after=stored, limit=BATCH):
            context.store.put_events(run, records)
            stored = records[-1].seq
            context.log.mark_stored(run.id, stored)
            drained += len(records)
            events = [orjson.loads(record.data) for record in records]
            if any(_is_to_agent(event) for event in events):
                self.forward(run.id)
            statuses = [event for event in events if event["kind"] == Kind.STATUS]
            if statuses:
                last = statuses[-1]
                status = RunStatus(last["body"]["status"])
                ended_at = last["at"] if status in ENDED else None
                context.store.update_run(run.id, status=status.value, ended_at=ended_at)
        return drained

    def forward(self, run_id: str) -> int:
        """Let the agent take what is stored."""
        said = receipt(run_id, SYSTEM.sender(), ReceiptState.STORED, now=self._context.now())
        return len(self._context.log.forward(run_id, said))

    def sweep(self) -> Swept:
        """What a crash left behind: undrained logs, leases past their deadline, runs gone quiet."""
        context = self._context
        counts = asdict(Swept())
        run_ids = context.log.active()
        briefs = context.log.brief(run_ids)
        for run_id in run_ids:
            try:
                for name, count in self._swept(run_id, briefs.get(run_id)).items():
                    counts[name] += count
            except ChatError as error:
                log.warning("sweep_failed", run_id=run_id, code=error.code)
        known = set(run_ids)
        for status in OPEN:
            for run in context.store.runs(status=status):
                if run.id not in known or status is RunStatus.QUEUED:
                    counts["launched"] += self._left_unlaunched(run)
        return Swept(**counts)

    def _swept(self, run_id: str, brief: Brief | None) -> dict[str, int]:
        context = self._context
        now_ms = context.now_ms()
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
            context.log.retire(run_id)
            found["retired"] = 1
        else:
            self.forward(run_id)
        stale = now_ms - brief.heartbeat_ms > context.settings.heartbeat_stale_ms
        if stale and brief.status in STALE_FROM:
            detail = "Nothing was heard from the agent's side for a while. It may still be at work."
            found["unresponsive"] = int(
                self._lifecycle.move(run_id, RunStatus.UNRESPONSIVE, detail=detail)
            )
        return found

    def _left_unlaunched(self, run: Run) -> int:
        """A run that Redis does not know, or whose launch was lost between two steps of its creation."""
        self._lifecycle.open_log(run)
        snapshot = self._context.log.snapshot(run.id)
        if snapshot.status is RunStatus.QUEUED and run.start is StartKind.LAUNCH:
            self._context.tasks.enqueue("launch", run.id)
            return 1
        return 0

    def launch(self, run_id: str) -> str | None:
        """Start the run's agent, once; a failure ends the run as `failed` and says why."""
        context = self._context
        run = context.store.run(run_id)
        if run is None:
            raise NotFound("There is no run with that id.")
        status = context.log.snapshot(run_id).status
        if status in ENDED or (run.handle is not None and status is not RunStatus.QUEUED):
            return run.handle
        if status is RunStatus.QUEUED:
            self._lifecycle.move(run_id, RunStatus.STARTING)
        token = self._token_of(run_id)
        env = {
            "OMAKASE_SERVER": context.settings.public_url,
            "OMAKASE_RUN_ID": run_id,
            "OMAKASE_TOKEN": token,
        }
        try:
            handle = self._runtime().start(run, token=token, env=env)
        except (OSError, ValueError) as error:
            log.exception("launch_failed", run_id=run_id)
            self._lifecycle.end(
                run_id, RunStatus.FAILED, f"The agent could not be started: {error}"
            )
            return None
        context.store.update_run(run_id, handle=handle)
        return handle

    def watch(self) -> int:
        """Hold what the runtime knows against what the logs say; returns how many runs were ended."""
        context = self._context
        run_ids = context.log.active()
        briefs = context.log.brief(run_ids)
        live = {}
        for run_id in run_ids:
            brief = briefs.get(run_id)
            run = context.store.run(run_id)
            if run is not None and brief is not None and brief.status not in ENDED:
                live[run_id] = (run, brief)
        handles = [run.handle for run, _ in live.values() if run.handle]
        states = self._runtime().describe(handles) if handles else {}
        return sum(
            self._watched(run, brief, states.get(run.handle or "")) for run, brief in live.values()
        )

    def _watched(self, run: Run, brief: Brief, state: Alive | None) -> bool:
        stopping = brief.stop_at_ms is not None
        late = stopping and self._context.now_ms() - (brief.stop_at_ms or 0) > STOP_GRACE_MS
        if state is not None and not state.running:
            if stopping:
                return self._lifecycle.end(run.id, RunStatus.STOPPED, "Stopped.")
            code = "" if state.exit_code is None else f" (exit code {state.exit_code})"
            detail = state.reason or f"The agent's process is gone{code} and said no goodbye."
            return self._lifecycle.end(run.id, RunStatus.FAILED, detail)
        if late and run.handle is not None:
            self._runtime().stop(run.handle, grace_s=STOP_GRACE_MS / 1000)
        quiet = self._context.now_ms() - brief.heartbeat_ms
        if late and run.handle is None and quiet > self._context.settings.heartbeat_stale_ms:
            return self._lifecycle.end(
                run.id, RunStatus.STOPPED, "Stopped; its agent has gone quiet."
            )
        return False


def _is_to_agent(event: dict[str, object]) -> bool:
    sender = event["sender"]
    kinds = {Kind.MESSAGE, Kind.ANSWER, Kind.ORDER}
    return (
        event["kind"] in kinds and isinstance(sender, dict) and sender["kind"] != SenderKind.AGENT
    )
