"""A run: one execution of one agent on one feature, and the moves its status may make."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from pydantic import BaseModel, ConfigDict, Field


class Frozen(BaseModel):
    """A value: never changed after it was made, no field that is not named."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class RunStatus(StrEnum):
    """Where a run is in its life. `unresponsive` is soft: only the runtime decides life and death."""

    QUEUED = "queued"
    STARTING = "starting"
    WORKING = "working"
    WAITING = "waiting"
    PAUSED = "paused"
    UNRESPONSIVE = "unresponsive"
    COMPLETED = "completed"
    FAILED = "failed"
    STOPPED = "stopped"


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
MOVES: Final[dict[RunStatus, frozenset[RunStatus]]] = {
    S.QUEUED: frozenset({S.STARTING, S.WORKING}) | ENDED,
    S.STARTING: _LIVE | ENDED,
    S.WORKING: _LIVE | ENDED,
    S.WAITING: _LIVE | ENDED,
    S.PAUSED: _LIVE | ENDED,
    S.UNRESPONSIVE: _LIVE | ENDED,
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


AGENTS: Final[dict[str, Agent]] = {
    agent.id: agent
    for agent in (
        Agent(id="miso", name="Miso", role=Role.ARCHITECT),
        Agent(id="nori", name="Nori", role=Role.CODER),
        Agent(id="koji", name="Koji", role=Role.REVIEWER),
        Agent(id="toro", name="Toro", role=Role.TESTER),
    )
}


class Project(Frozen):
    """What is being built. `created_at` is ISO 8601 in UTC with milliseconds."""

    id: str
    name: str = Field(min_length=1, max_length=120)
    created_at: str


class Feature(Frozen):
    """A part of a project that agents work on."""

    id: str
    project_id: str
    name: str = Field(min_length=1, max_length=120)
    description: str = Field(default="", max_length=8_000)
    created_at: str


class StartKind(StrEnum):
    """Who starts the agent's process."""

    LAUNCH = "launch"  # we do, through the Runtime port
    ATTACH = "attach"  # somebody does by hand, and the agent registers itself


class Run(Frozen):
    """One row of the runs table: what a run is, and its last known status (the log decides).

    `handle` is what the runtime needs to find the process or task again; `token_sha256` the
    hash of the run token, None once it is revoked.
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
