"""What the domain needs from outside, as protocols. Adapters live in `chat/adapters/`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from chat.events import Kind
from chat.runs import Feature, Project, Run, RunStatus


@dataclass(frozen=True, slots=True)
class Record:
    """One entry of a log: its number and the event as the UTF-8 JSON that everybody gets."""

    seq: int
    data: bytes


class Clock(Protocol):
    """Time, passed in."""

    def now(self) -> datetime:
        """The time, aware, in UTC."""
        ...


# --- the store: the record that stays ------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Page:
    """Records in ascending order of `seq`; `has_more` in the direction that was asked for."""

    records: list[Record]
    has_more: bool


@dataclass(frozen=True, slots=True)
class Slice:
    """Records of several runs by time; `cursor` is opaque and continues after the last, or None."""

    records: list[Record]
    cursor: str | None


class Store(Protocol):
    """The database: every event once under (run_id, seq), and the rows of projects, features, runs.

    Any call may raise `errors.Unavailable`. Writes are repeatable: the same call again changes
    nothing. Implemented by `sqlite_store` and `dynamodb_store`; held by tests/contract.
    """

    def create_schema(self) -> None:
        """Create tables and indexes where they are missing."""
        ...

    def put_events(self, run: Run, records: Sequence[Record]) -> None:
        """Write events of one run; all are durable when it returns. Writing one again is harmless."""
        ...

    def last_seq(self, run_id: str) -> int:
        """The highest stored `seq`, 0 when there is none (consistent read)."""
        ...

    def event(self, run_id: str, seq: int) -> Record | None:
        """One event."""
        ...

    def events(
        self,
        run_id: str,
        *,
        after: int | None = None,
        before: int | None = None,
        limit: int = 100,
        kinds: frozenset[Kind] | None = None,
        sender_id: str | None = None,
    ) -> Page:
        """A page of a run's log, ascending.

        With `after`: the first `limit` with seq > after (and < before, if given). Otherwise the last
        `limit` with seq < before (all, if before is None). Consistent read.
        """
        ...

    def feature_events(
        self,
        feature_id: str,
        *,
        cursor: str | None,
        limit: int,
        kinds: frozenset[Kind] | None = None,
    ) -> Slice:
        """Events of all runs of a feature in order of (at, run_id, seq). Eventually consistent."""
        ...

    def project_events(
        self,
        project_id: str,
        *,
        since: str | None,
        cursor: str | None,
        limit: int,
        kinds: frozenset[Kind] | None = None,
    ) -> Slice:
        """Events of all runs of a project with `at` >= since, in order of (at, run_id, seq)."""
        ...

    def put_project(self, project: Project) -> None: ...
    def swap_project(self, project: Project) -> bool:
        """Replace the row if its `version` is the one before `project.version`; False when it is not,
        or when there is no such row. `swap_feature` is the same for a feature."""
        ...

    def project(self, project_id: str) -> Project | None: ...
    def projects(self) -> list[Project]: ...

    def put_feature(self, feature: Feature) -> None: ...
    def swap_feature(self, feature: Feature) -> bool: ...
    def feature(self, feature_id: str) -> Feature | None:
        """Consistent read, as `project` is."""
        ...

    def features(self, project_id: str) -> list[Feature]: ...

    def put_run(self, run: Run) -> None:
        """Create the run's row, or replace it whole."""
        ...

    def add_run(self, run: Run) -> Run:
        """Create the run's row unless there is one with its id; returns the row that stands."""
        ...

    def update_run(self, run_id: str, **changes: Any) -> None:
        """Set named fields of `Run` (as their JSON values). Raises NotFound when there is no such run."""
        ...

    def update_run_if(self, run_id: str, expected: Mapping[str, Any], **changes: Any) -> bool:
        """The same, while the named fields still have the values in `expected`; False when they have not,
        or when there is no such run. A repeat whose first answer was lost may find its own change."""
        ...

    def run(self, run_id: str) -> Run | None:
        """Consistent read."""
        ...

    def runs(
        self,
        *,
        project_id: str | None = None,
        feature_id: str | None = None,
        status: RunStatus | None = None,
        limit: int = 200,
    ) -> list[Run]:
        """Runs, newest first; exactly one of the filters is given."""
        ...


# --- the log: the live truth ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Draft:
    """An event about to be appended, and what else the same atomic step must check and do.

    `head` is the event's JSON object without `seq` and `epoch`; the log adds both. A draft is
    refused with RunEnded when the run has ended, unless `after_end`.
    """

    id: str
    head: bytes
    kind: Kind
    idempotency_key: str | None = None
    digest: str = ""
    """Of the request's body: the same key with another digest is IdempotencyMismatch."""
    mode: str | None = None
    """Set when it is addressed to the agent: it enters the mailbox in state `accepted`."""
    status: RunStatus | None = None
    """Move the run there; refused with IllegalMove unless the present status is in `sources`."""
    sources: frozenset[RunStatus] = frozenset()
    """Without a `status`, and not empty: refused alike, and the run stays where it is."""
    opens_question: str | None = None
    """The asker's handle: a second question with the same handle returns the first event."""
    answers: str | None = None
    """A question's id: refused with AlreadyAnswered unless it is open or `digest` is the same."""
    holds: bool | None = None
    """True holds the mailbox (only orders are leased), False lets it go."""
    closes: str | None = None
    """The message whose streamed text this event completes."""
    phase: str | None = None
    last_line: str | None = None
    """An agent's words, shortened for its card."""
    stop_at_ms: int | None = None
    """Somebody asked the run to stop, then."""
    budget: int | None = None
    """Refused with TooMany when the run was sent so much already."""
    after_end: bool = False


@dataclass(frozen=True, slots=True)
class Appended:
    """What an append gave: `repeated` when the event had been there before (same key, handle, answer)."""

    record: Record
    repeated: bool = False
    status: RunStatus | None = None
    """After an append: where the run is."""


@dataclass(frozen=True, slots=True)
class MailItem:
    """Something addressed to the agent, as the mailbox knows it."""

    id: str
    seq: int
    kind: Kind
    mode: str
    state: str
    attempt: int
    version: int
    event_seq: int
    """Where its present text stands: its own `seq`, or that of the last edit."""
    confirmed_seq: int | None = None
    """The receipt event that says `in_context`."""
    cancel_seq: int | None = None
    """The receipt event that says `cancelled`."""


@dataclass(frozen=True, slots=True)
class Leased:
    """A leased item with its event."""

    item: MailItem
    record: Record


@dataclass(frozen=True, slots=True)
class OpenText:
    """A message that is being streamed: its text so far, `units` UTF-16 code units long."""

    message_id: str
    text: str
    units: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A run at `head`: what a reader needs before the events after `head`."""

    epoch: str
    head: int
    stored: int
    status: RunStatus
    phase: str | None
    held: bool
    heartbeat_ms: int
    items: list[MailItem] = field(default_factory=list)
    """Everything addressed to the agent that is not in context, cancelled, moved or undelivered."""
    questions: list[Record] = field(default_factory=list)
    """The question events that are open."""
    open_texts: list[OpenText] = field(default_factory=list)
    step: Record | None = None
    """The last step event."""


@dataclass(frozen=True, slots=True)
class Finish:
    """How a finish went: `events` were appended, or `unread` stands in the way (and nothing was)."""

    events: list[Record]
    unread: list[Leased]


@dataclass(frozen=True, slots=True)
class Brief:
    """A run in one line, for the cards: `asks` open questions, `last_line` the agent's last words."""

    status: RunStatus
    phase: str | None
    head: int
    stored: int
    held: bool
    heartbeat_ms: int
    asks: int
    last_line: str | None
    step: Record | None
    stop_at_ms: int | None
    since_seq: int = 0
    """The status event by which it came to its status; 0 when it is still in its first."""


@dataclass(frozen=True, slots=True)
class Beat:
    """What a heartbeat is told: the run's status, whether its mailbox is held, and what waits there."""

    status: RunStatus
    held: bool
    pending: int
    phase: str | None
    before: RunStatus | None
    """Where it was when it last became `unresponsive`."""


@dataclass(frozen=True, slots=True)
class LeaseResult:
    """What a lease gave, and how the run stands."""

    leased: list[Leased]
    status: RunStatus
    held: bool
    head: int


@dataclass(frozen=True, slots=True)
class QuestionState:
    """A question's event, and its answer's (or cancellation's) once there is one."""

    question: Record
    answer: Record | None


@dataclass(frozen=True, slots=True)
class Restored:
    """What a log is rebuilt from: the store's events folded to the state they leave behind."""

    records: Sequence[Record]
    status: RunStatus
    phase: str | None
    held: bool
    items: Sequence[MailItem]
    open_questions: Mapping[str, tuple[int, str]]
    """Question id to (seq, handle)."""
    closed_questions: Mapping[str, tuple[int, str, int, str]]
    """Question id to (seq, handle, answer's seq, answer's digest)."""
    token_sha256: str | None
    step_seq: int | None
    last_line: str | None
    before: RunStatus | None
    stop_at_ms: int | None
    heartbeat_ms: int
    """When it was rebuilt: its agent has from then on to be heard of again."""
    stored: int
    """As far as the store has it; the records after that are still to be stored."""
    since_seq: int = 0


@dataclass(frozen=True, slots=True)
class Home:
    """A server that holds the logs, by an id that is another after a restart or a fail-over."""

    id: str
    is_new: bool


class Log(Protocol):
    """A run's log and its mailbox, each call one atomic step.

    A log that Redis has lost is rebuilt from the store on the first call that misses it, with a new
    epoch. Any call raises NotFound when there never was such a run and Unavailable when it cannot be reached; in that case it may or may not have happened, and
    the same idempotency key makes the repeat safe. A `Record` whose `data` is empty has been
    trimmed: the store has it. Drafts for receipts carry the mark `"@ids"` where the log writes
    the ids that it really concerns.
    """

    def create(
        self, run_id: str, *, token_sha256: str, drafts: Sequence[Draft], now_ms: int
    ) -> bool:
        """Make a new log in status `queued` and append to it; False when it was there already."""
        ...

    def append(self, run_id: str, drafts: Sequence[Draft]) -> list[Appended]:
        """Append all or, when one is refused, none."""
        ...

    def rebuild(self, run_id: str, state: Restored, *, epoch: str, head: int) -> bool:
        """Put `state` in the place of the log, under a new epoch, if that is still the log of `epoch` with
        that `head`; False when it is not."""
        ...

    def read(self, run_id: str, *, after: int, limit: int) -> list[Record]:
        """Events with seq > after that the stream still holds, ascending; may begin later than after + 1."""
        ...

    def snapshot(self, run_id: str) -> Snapshot:
        """The run at its head."""
        ...

    def brief(self, run_ids: Sequence[str]) -> dict[str, Brief]:
        """Many runs in one round trip; those without a log are left out."""
        ...

    def token_sha256(self, run_id: str) -> str | None:
        """The hash of the run's token, None once the run has ended."""
        ...

    def item(self, run_id: str, item_id: str) -> MailItem | None:
        """Something addressed to the agent."""
        ...

    def question(
        self, run_id: str, *, question_id: str | None = None, handle: str | None = None
    ) -> QuestionState:
        """By id or by the asker's handle. Raises NotFound."""
        ...

    def lease(
        self,
        run_id: str,
        *,
        holder: str,
        now_ms: int,
        lease_ms: int,
        limit: int,
        task_end: bool,
        given_back: Draft,
        receipt: Draft,
    ) -> LeaseResult:
        """Hand out what is stored, in order. Leases past their deadline or of another holder come again.

        `task_end` also hands out mode `queue`; a held mailbox hands out orders only. `receipt`
        carries the mark `"@attempt"`.
        """
        ...

    def confirm(self, run_id: str, ids: Sequence[str], receipt: Draft) -> dict[str, MailItem]:
        """Write `in_context` for those that can still come there; returns how each one stands."""
        ...

    def release(
        self, run_id: str, ids: Sequence[str], *, holder: str, given_back: Draft
    ) -> list[str]:
        """Give the holder's leases back (all of them when `ids` is empty)."""
        ...

    def expire(self, run_id: str, *, now_ms: int, given_back: Draft) -> list[str]:
        """Give back the leases past their deadline."""
        ...

    def forward(self, run_id: str, receipt: Draft, ids: Sequence[str] = ()) -> list[str]:
        """Let what is stored be leased; returns the ids that came to `stored`. `ids`: look at these items only,
        and not at all that wait."""
        ...

    def edit(self, run_id: str, item_id: str, *, version: int, mode: str, draft: Draft) -> Appended:
        """Replace what is not taken yet. Raises AlreadyTaken, StaleVersion, NotFound."""
        ...

    def cancel(self, run_id: str, item_id: str, *, version: int | None, receipt: Draft) -> Appended:
        """Take back what is not taken yet. Raises as `edit`."""
        ...

    def claim(self, run_id: str, item_id: str, *, target: str, given_up: str | None) -> str | None:
        """Say which run something undelivered moves to, and return it: the first `target` that asked
        wins, unless it is `given_up`. None when it is not undelivered (any more)."""
        ...

    def mark_moved(self, run_id: str, item_id: str, receipt: Draft) -> bool:
        """Write `moved` for something undelivered; False when it was no longer that."""
        ...

    def finish(
        self,
        run_id: str,
        drafts: Sequence[Draft],
        *,
        barrier: bool,
        holder: str,
        now_ms: int,
        lease_ms: int,
        given_back: Draft,
        leased: Draft,
        undelivered: Draft,
        cancelled: Draft,
    ) -> Finish:
        """End the run by `drafts`, or put it on hold when the last of them says `suspended`; with `barrier`
        only when nothing addressed to it is unread."""
        ...

    def heartbeat(self, run_id: str, *, holder: str, now_ms: int, lease_ms: int) -> Beat:
        """Note that the agent's side lives, and renew the holder's leases."""
        ...

    def delta(self, run_id: str, message_id: str, *, offset: int, units: int, text: str) -> int:
        """Add streamed text at an absolute offset; returns the length that stands, in UTF-16 units."""
        ...

    def mark_stored(
        self, run_id: str, upto: int, *, epoch: str | None = None, since: int = 0
    ) -> bool:
        """Move the stored cursor forward, never beyond the head.

        False when the log is of another epoch than `epoch`: what was written after `since` was of
        a log that is gone, and the cursor goes back there.
        """
        ...

    def drain_ends(self, run_id: str) -> None:
        """Say that no drain is queued or under way: the next append queues one."""
        ...

    def trim(self, run_id: str, *, keep: int) -> None:
        """Drop from the stream what is stored, but for the last `keep` events."""
        ...

    def home(self) -> Home:
        """The server that holds the logs; `is_new` until `settled` was called for it."""
        ...

    def settled(self, home: Home) -> None:
        """Every log was held against the store since that server has them."""
        ...

    def active(self) -> list[str]:
        """Runs whose log is not yet ended and wholly stored."""
        ...

    def activate(self, run_id: str) -> None:
        """Put the run among the active ones (again), so that the sweep looks at it."""
        ...

    def retire(self, run_id: str) -> None:
        """Take a run that is ended and stored out of `active`, and let its keys go in some days."""
        ...

    def whisper(self, channel: str, frame: Mapping[str, Any]) -> None:
        """Publish something that is not kept: typing, read marks, a hint that runs changed."""
        ...


# --- what runs the agents ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Alive:
    """What the runtime knows of a process or task.

    `reason` is a sentence for people. `pending`: not yet at work. `missing`: the runtime knows nothing of
    it, which may also be too early. `no_room`: it ended before it began, for want of capacity. `version`
    rises with each change, `started_ms` is when it began to work (ms since 1970).
    """

    running: bool
    exit_code: int | None = None
    reason: str | None = None
    stop_code: str | None = None
    pending: bool = False
    missing: bool = False
    no_room: bool = False
    version: int = 0
    started_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Started:
    """An agent that was started: how to find it again, where its output goes, and what it may use, where
    the runtime sets limits (`cpu` in 1/1024 vCPU)."""

    handle: str
    log_group: str | None = None
    log_stream: str | None = None
    cpu: int | None = None
    memory_mib: int | None = None


@dataclass(frozen=True, slots=True)
class Hint:
    """Somebody says that a run's task has changed; `receipt` is what acknowledges it."""

    run_id: str
    handle: str
    version: int
    receipt: str


class Hints(Protocol):
    """What the runtime says by itself. It may come twice, in any order, or not at all."""

    def receive(self) -> list[Hint]:
        """What is there, oldest first as far as that is known; does not wait long. Raises Unavailable."""
        ...

    def done(self, hints: Sequence[Hint]) -> None:
        """They need not come again. Raises Unavailable."""
        ...


class Runtime(Protocol):
    """Where agents run: local processes, or ECS."""

    def start(self, run: Run, *, token: str, env: Mapping[str, str]) -> Started:
        """Start the run's command. The same run in the same generation again finds the same process.

        Raises Unavailable when it may or may not have been started, NotStarted when it was not and
        another generation may be tried, and OSError, ValueError, LookupError or Invalid for good.
        """
        ...

    def stop(self, handle: str, *, grace_s: float, reason: str = "") -> None:
        """Ask it to end (SIGTERM), and end it after the grace (or after the runtime's own)."""
        ...

    def describe(self, handles: Sequence[str]) -> dict[str, Alive]:
        """The state of each handle; one that could not be asked for is left out."""
        ...

    def settle(
        self, runs: Sequence[Run], *, overdue: Collection[str], young: Collection[str] = ()
    ) -> dict[str, Alive]:
        """Give back what ended runs held. The runs of which nothing is left, with their process's end;
        what still runs of those in `overdue` is told to stop. That nothing is seen of those in `young`
        says nothing yet. Runs that could not be asked for are left out."""
        ...


class Tasks(Protocol):
    """Work that is done by a worker, by name; returns at once and is allowed to be lost."""

    def enqueue(self, name: str, *args: str) -> None: ...


# --- looking in on an agent ----------------------------------------------------------------------


class NudgeFailure(StrEnum):
    """Why an agent could not be told to look now. None of them costs a message, only time."""

    NOT_CONNECTED = "not_connected"
    DENIED = "denied"
    SESSION_LIMIT = "session_limit"
    NO_SHELL = "no_shell"
    AGENT_NOT_READY = "agent_not_ready"
    TASK_GONE = "task_gone"
    THROTTLED = "throttled"
    TIMEOUT = "timeout"
    ENCRYPTED = "encrypted"
    COMMAND_FAILED = "command_failed"
    UNAVAILABLE = "unavailable"
    PROTOCOL = "protocol"


@dataclass(frozen=True, slots=True)
class NudgeResult:
    """How a nudge went. `detail` is a sentence for people, without secrets, at most 500 characters."""

    ok: bool
    failure: NudgeFailure | None
    detail: str
    duration_ms: int


@dataclass(frozen=True, slots=True)
class ShellEnd:
    """How a shell ended: by itself (`failure` is None), or by what lies between."""

    failure: NudgeFailure | None = None


class Shell(Protocol):
    """A shell in an agent's container, on a terminal. One thread pumps; any thread may do the rest."""

    @property
    def backlog(self) -> int:
        """Bytes that were written and not yet taken by the other side."""
        ...

    def write(self, data: bytes) -> None:
        """Type. Raises TooMany when more waits than is kept."""
        ...

    def resize(self, columns: int, rows: int) -> None:
        """Tell the terminal's size in characters."""
        ...

    def pump(
        self, show: Callable[[bytes], None], turned: Callable[[], None], *, until: float
    ) -> ShellEnd | None:
        """Read and write until it ends, `until` (seconds of time.monotonic()) has come, or `wake` is called.

        `show` is called with what is to be seen, in order; while it waits nothing more is read. `turned` is
        called whenever something may have been taken.
        """
        ...

    def wake(self) -> None:
        """Let `pump` return soon, also when it has not begun yet."""
        ...

    def close(self) -> None:
        """End the shell and give the session back; takes about a second at most. Harmless again."""
        ...


class Shells(Protocol):
    """Opens a shell in a run's container, by a command line in which no word is a person's."""

    def open(self, run: Run, *, columns: int, rows: int) -> Shell:
        """A shell that has begun, within a bound of its own. Raises TerminalFailed."""
        ...


class Claims(Protocol):
    """Who holds something of which there is one, in all processes; a claim that is not renewed runs out."""

    def take(self, name: str, holder: str, *, ttl_s: int) -> bool:
        """Take or renew it; False while somebody else holds it. Raises Unavailable."""
        ...

    def release(self, name: str, holder: str) -> None:
        """Let go of it, if the holder has it. Raises Unavailable."""
        ...


class Nudge(Protocol):
    """Tells an agent's side to look into its mailbox now, where that can be done from outside."""

    def nudge(self, run: Run) -> NudgeResult:
        """Do it and wait for the answer, within a bound of its own. Does not raise for failures."""
        ...
