"""What the API answers, as models: the description's half that is not in `chat`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from chat.access import Level
from chat.events import (
    AnswerEvent,
    Checkpoint,
    Event,
    Mode,
    QuestionEvent,
    ReceiptState,
    SenderKind,
    StepBody,
    StepEvent,
)
from chat.pipeline import Result, State
from chat.requests import Handle
from chat.runs import Agent, Phase, Role, RunStatus, StartKind, Why


class Shape(BaseModel):
    """An answer; more fields may come."""

    model_config = ConfigDict(frozen=True)


class SignIn(BaseModel):
    """A name is all that local sign-in asks for."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)
    name: str = Field(min_length=1, max_length=80, examples=["Anna"])


class Who(Shape):
    kind: SenderKind
    id: str
    name: str
    level: Level | None


class SessionShape(Shape):
    """`flower_url` is where people find the Celery tasks; None where nobody is to be sent there."""

    principal: Who
    flower_url: str | None
    terminal: bool
    """Whether there are terminals here and this person may open one."""


class TicketMade(Shape):
    ticket: str


class Agents(Shape):
    agents: list[Agent]


class ProjectShape(Shape):
    id: str
    name: str
    created_at: str


class Projects(Shape):
    projects: list[ProjectShape]


class FeatureShape(Shape):
    """A feature, and where its pipeline stands."""

    id: str
    project_id: str
    name: str
    description: str
    created_at: str
    after: list[str]
    state: State


class Features(Shape):
    features: list[FeatureShape]


class TurnShape(Shape):
    """One turn of a role; `result` says how it stands, `summary` what was said at its end."""

    turn: int
    role: Role
    agent_id: str
    agent_name: str
    attempt: int
    round: int
    why: Why
    by: str | None
    note: str | None
    run_id: str
    result: Result
    summary: str | None


class Before(Shape):
    feature_id: str
    name: str
    done: bool


class PipelineShape(Shape):
    """Where a feature's pipeline is and why; `number` is None when none was started."""

    feature_id: str
    state: State
    reason: str
    number: int | None
    turns: list[TurnShape]
    skipped: list[Role]
    wanted: Role | None
    after: list[Before]


class Cost(Shape):
    """What a run's task costs an hour, and has cost so far; list prices (PRICE_VCPU_HOUR, PRICE_GIB_HOUR)."""

    currency: str
    per_hour: float
    so_far: float


class Pipelines(Shape):
    pipelines: list[PipelineShape]


class RunCard(Shape):
    """A run in one line. `since`: when it paused, began to wait, or went on hold; `hold_at`: when it will be
    put on hold if nobody speaks to it. From its task on ECS: `cpu` (1/1024 vCPU), `memory_mib`, where its output
    goes, and how it stopped."""

    id: str
    project_id: str
    feature_id: str
    agent_id: str
    agent_name: str
    role: Role
    start: StartKind
    status: RunStatus
    phase: Phase | None
    step: StepBody | None
    last_line: str | None
    needs_you: int
    head: int
    created_at: str
    ended_at: str | None
    pipeline: int | None = None
    turn: int | None = None
    since: str | None = None
    hold_at: str | None = None
    cost: Cost | None = None
    launched_at: str | None = None
    cpu: int | None = None
    memory_mib: int | None = None
    log_group: str | None = None
    log_stream: str | None = None
    stop_code: str | None = None
    exit_code: int | None = None


class Runs(Shape):
    runs: list[RunCard]


class RunMade(Shape):
    run: RunCard
    token: str | None = None


class Receipt(Shape):
    state: ReceiptState
    attempt: int
    version: int


class SnapshotItem(Receipt):
    id: str
    seq: int
    kind: str
    mode: Mode | str


class OpenTextShape(Shape):
    message_id: str
    text: str
    units: int


class SnapshotShape(Shape):
    epoch: str
    head: int
    stored: int
    status: RunStatus
    phase: Phase | None
    held: bool
    heartbeat_at: str | None
    items: list[SnapshotItem]
    questions: list[QuestionEvent]
    open_texts: list[OpenTextShape]
    step: StepEvent | None


class RunDetail(Shape):
    run: RunCard
    snapshot: SnapshotShape


class EventPage(Shape):
    events: list[Event]
    has_more: bool
    head: int
    epoch: str


class EventSlice(Shape):
    events: list[Event]
    cursor: str | None


class EventMade(Shape):
    event: Event


class Proof(Shape):
    """The exact text that the model was given, and when."""

    step: int | None
    sha256: str | None
    text: str | None
    at: str


class MessageDetail(Shape):
    event: Event
    receipt: Receipt | None
    proof: Proof | None


class Cancelled(Shape):
    result: Literal["cancelled"]


class QuestionDetail(Shape):
    event: QuestionEvent
    answer: AnswerEvent | None


class QuestionsOpen(Shape):
    questions: list[QuestionEvent]


class MailboxItem(Receipt):
    event: Event


class MailboxShape(Shape):
    items: list[MailboxItem]
    lease_ms: int
    deadline: str
    status: RunStatus
    held: bool
    head: int


class Confirmed(Shape):
    items: dict[str, ReceiptState]


class Released(Shape):
    released: int | list[str]


class Beaten(Shape):
    status: RunStatus
    held: bool
    pending: int
    lease_ms: int


class Reported(Shape):
    key: str
    seq: int
    id: str
    repeated: bool


class Reports(Shape):
    events: list[Reported]


class Units(Shape):
    units: int


class Finished(Shape):
    status: RunStatus


class Kept(Shape):
    checkpoint: Checkpoint | None


class Health(Shape):
    status: Literal["ok"]


class Problem(BaseModel):
    """A problem document (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    current_state: dict[str, Any] | None = None


# queries

Limit = Annotated[int, Field(ge=1, le=500)]
Number = Annotated[int, Field(ge=0, le=2**53)]


class RunsQuery(BaseModel):
    project_id: str | None = None
    feature_id: str | None = None
    status: RunStatus | None = None


class PageQuery(BaseModel):
    after: Number | None = None
    before: Number | None = None
    limit: Limit = 100
    kind: list[str] = Field(default_factory=list)
    sender: str | None = Field(default=None, max_length=128)


class SliceQuery(BaseModel):
    cursor: str | None = Field(default=None, max_length=512)
    limit: Limit = 100
    kind: list[str] = Field(default_factory=list)


class SinceQuery(SliceQuery):
    since: str | None = Field(default=None, max_length=32)


class StreamQuery(BaseModel):
    after: Number | None = None


class QuestionsQuery(BaseModel):
    handle: Handle | None = None


class MailboxQuery(BaseModel):
    holder: Handle
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    point: Literal["step", "task_end"] = "step"
