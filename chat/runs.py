"""A run: one execution of one agent on one feature, and the moves its status may make."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from pydantic import BaseModel, ConfigDict, Field


class Frozen(BaseModel):
    """A value: never changed after it was made, no field that is not named."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class RunStatus(StrEnum):
    """Where a run is in its life. `unresponsive` is soft: only the runtime decides life and death.
    `suspended`: its process was ended to save money, and it goes on when somebody speaks to it."""

    QUEUED = "queued"
    STARTING = "starting"
    WORKING = "working"
    WAITING = "waiting"
    PAUSED = "paused"
    UNRESPONSIVE = "unresponsive"
    SUSPENDED = "suspended"
    COMPLETED = "completed"
    FAILED = "failed"
    STOPPED = "stopped"


class Verdict(StrEnum):
    """What a role that judges the work of another finds."""

    APPROVED = "approved"
    CHANGES_REQUESTED = "changes_requested"


class Phase(StrEnum):
    """What a working agent does."""

    THINKING = "thinking"
    CODING = "coding"
    REVIEWING = "reviewing"
    TESTING = "testing"


S = RunStatus
ENDED: Final = frozenset({S.COMPLETED, S.FAILED, S.STOPPED})
OPEN: Final = frozenset(RunStatus) - ENDED
_LIVE: Final = frozenset({S.WORKING, S.WAITING, S.PAUSED, S.UNRESPONSIVE})
IDLE: Final = frozenset({S.WAITING, S.PAUSED})
"""Where a run only costs money, and from where it may be put on hold."""
MOVES: Final[dict[RunStatus, frozenset[RunStatus]]] = {
    S.QUEUED: frozenset({S.STARTING, S.WORKING}) | ENDED,
    S.STARTING: _LIVE | ENDED,
    S.WORKING: _LIVE | ENDED,
    S.WAITING: _LIVE | {S.SUSPENDED} | ENDED,
    S.PAUSED: _LIVE | {S.SUSPENDED} | ENDED,
    S.UNRESPONSIVE: _LIVE | ENDED,
    S.SUSPENDED: frozenset({S.STARTING}) | ENDED,
    S.COMPLETED: frozenset(),
    S.FAILED: frozenset(),
    S.STOPPED: frozenset(),
}


def sources_of(target: RunStatus) -> frozenset[RunStatus]:
    """The statuses from which a run may move to `target`."""
    return frozenset(source for source, targets in MOVES.items() if target in targets)


class Role(StrEnum):
    """What an agent is for."""

    ARCHITECT = "architect"
    CODER = "coder"
    REVIEWER = "reviewer"
    TESTER = "tester"


class Agent(Frozen):
    """A named worker with a role."""

    id: str
    name: str
    role: Role


class Place(Frozen):
    """A feature's place in its project's queue of pipelines; `admitted` when it may run."""

    feature_id: str
    admitted: bool = False


class Project(Frozen):
    """What is being built. `created_at` is ISO 8601 in UTC with milliseconds.

    `places` are the pipelines that are not over, in the order in which they were asked for;
    `version` counts the changes of the row, which are made by compare and swap.
    """

    id: str
    name: str = Field(min_length=1, max_length=120)
    created_at: str
    places: tuple[Place, ...] = ()
    version: int = 0


class Why(StrEnum):
    """Why a role has its turn."""

    NEXT = "next"  # the role before it is done
    RETRY = "retry"  # it failed, and is tried again
    SENT_BACK = "sent_back"  # a later role asked for changes
    BY_HAND = "by_hand"  # a person started it


class Turn(Frozen):
    """A role's turn in a pipeline: one run, whose id follows from the turn. `by` and `note` are the
    person's who started it by hand; `request` is that request's hash, to know its repeat."""

    role: Role
    why: Why
    by: str | None = None
    note: str | None = Field(default=None, max_length=8_000)
    request: str | None = None


class Pipeline(Frozen):
    """What is kept of a pipeline: what was decided. How each turn went is in its run.

    `wanted` is a turn that a person asked for and that has not begun; `told` the number of the turn
    after whose failure people were told.
    """

    number: int = Field(ge=1)
    turns: tuple[Turn, ...] = ()
    skipped: tuple[Role, ...] = ()
    wanted: Turn | None = None
    told: int = 0
    request: str | None = None


class Feature(Frozen):
    """A part of a project that agents work on. A pipeline of it begins when those in `after` are done;
    `version` counts the changes of the row, which are made by compare and swap."""

    id: str
    project_id: str
    name: str = Field(min_length=1, max_length=120)
    description: str = Field(default="", max_length=8_000)
    created_at: str
    after: tuple[str, ...] = ()
    pipeline: Pipeline | None = None
    version: int = 0


class StartKind(StrEnum):
    """Who starts the agent's process."""

    LAUNCH = "launch"  # we do, through the Runtime port
    ATTACH = "attach"  # somebody does by hand, and the agent registers itself


class Run(Frozen):
    """One row of the runs table: what a run is, and its last known status (the log decides).

    `handle` is what the runtime needs to find the process or task again; `token_sha256` the
    hash of the run token, None once it is revoked. `generation` counts the processes it was given: one
    that was refused for want of capacity, or comes back from hold, gets another. Times are ISO 8601.
    """

    id: str
    project_id: str
    feature_id: str
    agent_id: str
    agent_name: str
    role: Role
    start: StartKind
    command: list[str] = Field(default_factory=list)
    status: RunStatus = RunStatus.QUEUED
    created_at: str
    ended_at: str | None = None
    handle: str | None = None
    token_sha256: str | None = None
    pipeline: int | None = None
    turn: int | None = None
    generation: int = 0
    launched_at: str | None = None
    launch_tries: int = 0
    launch_after: str | None = None
    """No sooner than this is it tried again."""
    nudged_at: str | None = None
    hold_after: str | None = None
    """No sooner than this is it asked (again) to go on hold."""
    back_generation: int = 0
    """Its first generation since it was last on hold: what comes before has ended."""
    billed_ms: int = 0
    """How long its earlier generations ran."""
    kept_seq: int | None = None
    """The event with the checkpoint of the process before."""
    task_version: int = 0
    """The highest version of its task that was acted upon (ECS counts them)."""
    log_group: str | None = None
    log_stream: str | None = None
    cpu: int | None = None
    """What its task was started with, in 1/1024 vCPU; agents.toml may say something else by now."""
    memory_mib: int | None = None
    stop_code: str | None = None
    exit_code: int | None = None


INWARD: Final = frozenset(
    {
        "handle", "token_sha256", "command", "generation", "launch_tries", "launch_after",
        "nudged_at", "hold_after", "back_generation", "billed_ms", "kept_seq", "task_version",
    }
)  # fmt: skip
"""Fields of a run that people are not shown."""
