"""The wire: one entry of a run's log. The only place where a `kind` string is written.

An event as JSON, the same over SSE, WebSocket, in the stream and in the store:

    {"seq": 12, "epoch": "e1…", "run_id": "run_…", "id": "msg_…", "kind": "message",
     "at": "2026-11-22T09:33:00.123Z",
     "sender": {"kind": "person", "id": "usr_…", "name": "Anna", "role": null},
     "body": {"text": "call it total_price", "mode": "steer", …}}

`seq` numbers a run's log 1, 2, 3 … without a hole; `epoch` changes when a log had to be rebuilt.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from chat.runs import Frozen, Phase, Role, RunStatus, Verdict

TEXT_MAX = 32_768
"""Characters of a message's text; security.md's 32 KB."""

Text = Annotated[str, Field(min_length=1, max_length=TEXT_MAX)]


class Kind(StrEnum):
    """What an event says."""

    MESSAGE = "message"
    QUESTION = "question"
    ANSWER = "answer"
    ORDER = "order"
    STATUS = "status"
    STEP = "step"
    LOG = "log"
    ERROR = "error"
    RECEIPT = "receipt"
    NOTICE = "notice"


class SenderKind(StrEnum):
    """Who may speak."""

    PERSON = "person"
    AGENT = "agent"
    SYSTEM = "system"


class Sender(Frozen):
    """Who said it: taken from the credentials, never from the body."""

    kind: SenderKind
    id: str
    name: str
    role: Role | None = None


class Mode(StrEnum):
    """When a message wants to be read."""

    STEER = "steer"
    QUEUE = "queue"
    INTERRUPT = "interrupt"


class Anchor(Frozen):
    """The log line a message quotes: the event's `seq` and the line's text."""

    seq: int = Field(ge=1)
    line: int = Field(default=0, ge=0)
    quote: str = Field(max_length=2_000)


class MessageBody(Frozen):
    """Words. `edit_of` names the message this one replaces while that one is still queued.

    `moved_from` is `{"run_id", "id"}` of the message this is a copy of, in the feature's last run.
    """

    text: Text
    mode: Mode = Mode.STEER
    reply_to: str | None = Field(default=None, max_length=64)
    anchor: Anchor | None = None
    edit_of: str | None = None
    version: int = 1
    moved_from: dict[str, str] | None = None


class Option(Frozen):
    """One choice of a question."""

    value: str = Field(min_length=1, max_length=200)
    label: str = Field(min_length=1, max_length=200)


class QuestionBody(Frozen):
    """A question that waits for a person. `handle` is the asker's own name for it: asking again
    with the same handle finds the same question."""

    text: Text
    options: list[Option] = Field(default_factory=list, max_length=20)
    allow_text: bool = True
    handle: str = Field(min_length=1, max_length=128)
    moved_from: dict[str, str] | None = None


class Outcome(StrEnum):
    """How a question ended."""

    ANSWERED = "answered"
    CANCELLED = "cancelled"


class AnswerBody(Frozen):
    """The answer that stands: an option's `value`, or free `text`; neither when it was cancelled."""

    question_id: str
    outcome: Outcome = Outcome.ANSWERED
    value: str | None = Field(default=None, max_length=200)
    text: str | None = Field(default=None, max_length=TEXT_MAX)


class Action(StrEnum):
    """What an order does to the run."""

    PAUSE = "pause"
    RESUME = "resume"
    INTERRUPT = "interrupt"
    STOP = "stop"
    CHECK_IN = "check_in"
    CHECKPOINT = "checkpoint"


class OrderBody(Frozen):
    """An order. `every_steps` goes with `check_in`: say what you do every so many steps, 0 ends it.
    `checkpoint`: keep what you need to go on, and go on hold."""

    action: Action
    every_steps: int | None = Field(default=None, ge=0, le=1_000)
    reason: str | None = Field(default=None, max_length=2_000)
    moved_from: dict[str, str] | None = None


CHECKPOINT_MAX_BYTES = 32_768


class Checkpoint(Frozen):
    """What an agent needs to go on later: `text` is its own checkpoint hook's (at most 32 KB of UTF-8), the
    rest what its side knows. Whoever reads the run reads this: no secret belongs here."""

    text: str = Field(max_length=CHECKPOINT_MAX_BYTES)
    step: int = Field(default=0, ge=0)
    session_id: str = Field(default="", max_length=200)
    transcript: str = Field(default="", max_length=4_096)
    said: int = Field(default=0, ge=0)
    check_every: int = Field(default=0, ge=0)


class StatusBody(Frozen):
    """A move of the run's status. `verdict` comes with `completed`, of a role that judges another's work,
    `checkpoint` with `suspended`."""

    status: RunStatus
    previous: RunStatus | None = None
    phase: Phase | None = None
    detail: str | None = Field(default=None, max_length=2_000)
    verdict: Verdict | None = None
    checkpoint: Checkpoint | None = None


class StepState(StrEnum):
    """Where a step is."""

    STARTED = "started"
    FINISHED = "finished"


class StepBody(Frozen):
    """One step of the agent: usually a tool call. `duration_ms` and `ok` come with `finished`."""

    step: int = Field(ge=0)
    name: str = Field(min_length=1, max_length=200)
    state: StepState
    ok: bool | None = None
    duration_ms: int | None = Field(default=None, ge=0)
    summary: str | None = Field(default=None, max_length=4_000)


class LogLine(Frozen):
    """One line of the agent's output, without its newline."""

    stream: Literal["stdout", "stderr"] = "stdout"
    text: str = Field(max_length=16_384)
    at: str | None = Field(default=None, max_length=32)


class LogBody(Frozen):
    """A chunk of lines; `first_line` numbers the first of them within the run, from 1."""

    first_line: int = Field(ge=1)
    lines: list[LogLine] = Field(min_length=1, max_length=500)


class ErrorBody(Frozen):
    """A failure, with a summary a person understands."""

    summary: str = Field(min_length=1, max_length=2_000)
    detail: str | None = Field(default=None, max_length=16_384)


class ReceiptState(StrEnum):
    """How far something addressed to the agent has come. `accepted` is its own event in the log."""

    ACCEPTED = "accepted"
    STORED = "stored"
    LEASED = "leased"
    IN_CONTEXT = "in_context"
    CANCELLED = "cancelled"
    UNDELIVERED = "undelivered"
    MOVED = "moved"


class ReceiptBody(Frozen):
    """`ids` (messages, answers or orders to the agent) have come to `state`.

    `leased`: `attempt` per batch and `deadline` (ISO 8601). `in_context`: the agent's `step`, the
    exact `text` it put before the model and its `sha256` (hex, of the UTF-8 bytes).
    `moved`: `moved_to` is `{"run_id": …}`. `stored` with a `reason` is a lease that ran out.
    """

    state: ReceiptState
    ids: list[str] = Field(min_length=1, max_length=1_000)
    attempt: int | None = None
    deadline: str | None = None
    step: int | None = None
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    text: str | None = None
    reason: str | None = None
    moved_to: dict[str, str] | None = None


class About(StrEnum):
    """What a notice is about."""

    NUDGE = "nudge"
    MOVED = "moved"
    HANDOVER = "handover"
    TASK = "task"
    HOLD = "hold"
    TERMINAL = "terminal"


class TerminalState(StrEnum):
    """What became of a person's wish for a terminal."""

    OPENED = "opened"
    CLOSED = "closed"
    REFUSED = "refused"  # by us: not allowed, or not now
    FAILED = "failed"  # by what lies between us and the container


class TerminalEnd(StrEnum):
    """How a terminal ended."""

    LEFT = "left"  # the person closed it, or the page
    SHELL_ENDED = "shell_ended"
    RUN_ENDED = "run_ended"
    IDLE = "idle"
    ACCESS_REMOVED = "access_removed"  # or signed out
    SLOW_READER = "slow_reader"
    SILENT = "silent"  # the page is not heard of any more
    SERVER_STOPPED = "server_stopped"
    CHANNEL_LOST = "channel_lost"
    UNCHECKED = "unchecked"  # whether it may go on could not be asked for too long
    BROKEN = "broken"


class TerminalRecord(Frozen):
    """A terminal in the container of the run's agent, for the audit: never a byte that was typed or shown.

    `id` is one terminal's. `reason` is the person's. `end` and the bytes each way come with `closed`:
    `typed_bytes` went in, `shown_bytes` came out.
    """

    id: str
    state: TerminalState
    reason: str | None = Field(default=None, max_length=500)
    end: TerminalEnd | None = None
    typed_bytes: int | None = Field(default=None, ge=0)
    shown_bytes: int | None = Field(default=None, ge=0)


class NoticeBody(Frozen):
    """Something that was done for the run and moves nothing, in words, with what it concerns.

    `nudge`: `ids` wait in the mailbox; `failure` (ports.NudgeFailure, None when it worked), how long it
    took and the Celery task that did it. `moved`: a question or a standing order goes to the run in
    `moved_to`. `handover`: all `ids` have gone to `moved_to`, or come from `moved_from`, and `text` counts
    them. `task`: how the run's task was stopped. `hold`: why it could not be put on hold. `terminal`: what
    became of `terminal`; the event's sender is the person, `failure` (ports.NudgeFailure) comes with `failed`,
    `duration_ms` with `failed` and `closed`.
    """

    about: About
    text: str = Field(min_length=1, max_length=2_000)
    ids: list[str] = Field(default_factory=list, max_length=1_000)
    failure: str | None = None
    duration_ms: int | None = None
    task_id: str | None = None
    moved_to: dict[str, str] | None = None
    moved_from: dict[str, str] | None = None
    terminal: TerminalRecord | None = None


class _Base(Frozen):
    seq: int = Field(ge=1)
    epoch: str
    run_id: str
    id: str
    at: str
    sender: Sender


class MessageEvent(_Base):
    kind: Literal[Kind.MESSAGE] = Kind.MESSAGE
    body: MessageBody


class QuestionEvent(_Base):
    kind: Literal[Kind.QUESTION] = Kind.QUESTION
    body: QuestionBody


class AnswerEvent(_Base):
    kind: Literal[Kind.ANSWER] = Kind.ANSWER
    body: AnswerBody


class OrderEvent(_Base):
    kind: Literal[Kind.ORDER] = Kind.ORDER
    body: OrderBody


class StatusEvent(_Base):
    kind: Literal[Kind.STATUS] = Kind.STATUS
    body: StatusBody


class StepEvent(_Base):
    kind: Literal[Kind.STEP] = Kind.STEP
    body: StepBody


class LogEvent(_Base):
    kind: Literal[Kind.LOG] = Kind.LOG
    body: LogBody


class ErrorEvent(_Base):
    kind: Literal[Kind.ERROR] = Kind.ERROR
    body: ErrorBody


class ReceiptEvent(_Base):
    kind: Literal[Kind.RECEIPT] = Kind.RECEIPT
    body: ReceiptBody


class NoticeEvent(_Base):
    kind: Literal[Kind.NOTICE] = Kind.NOTICE
    body: NoticeBody


Event = Annotated[
    MessageEvent
    | QuestionEvent
    | AnswerEvent
    | OrderEvent
    | StatusEvent
    | StepEvent
    | LogEvent
    | ErrorEvent
    | ReceiptEvent
    | NoticeEvent,
    Field(discriminator="kind"),
]
EVENT: TypeAdapter[Event] = TypeAdapter(Event)

Body = (
    MessageBody
    | QuestionBody
    | AnswerBody
    | OrderBody
    | StatusBody
    | StepBody
    | LogBody
    | ErrorBody
    | ReceiptBody
    | NoticeBody
)
KIND_OF: dict[type[Frozen], Kind] = {
    MessageBody: Kind.MESSAGE,
    QuestionBody: Kind.QUESTION,
    AnswerBody: Kind.ANSWER,
    OrderBody: Kind.ORDER,
    StatusBody: Kind.STATUS,
    StepBody: Kind.STEP,
    LogBody: Kind.LOG,
    ErrorBody: Kind.ERROR,
    ReceiptBody: Kind.RECEIPT,
    NoticeBody: Kind.NOTICE,
}

EventJson = dict[str, Any]
"""An event as parsed JSON, where it is only passed on and never looked into."""
