"""Who may do what: pure, total, and no unless a line here says yes."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from chat.errors import Forbidden, NotFound
from chat.events import Sender, SenderKind
from chat.runs import Frozen, Role, Run


class Level(StrEnum):
    """How much a person may do in a project."""

    VIEWER = "viewer"
    COMMENTER = "commenter"
    OPERATOR = "operator"
    OWNER = "owner"


class Permission(StrEnum):
    """One thing that can be done."""

    READ = "read"  # log, history, snapshot, live
    WRITE = "write"  # a message, an edit, a cancel, typing, read marks
    ANSWER = "answer"  # a question
    ORDER = "order"  # pause, resume, interrupt, stop, check in
    PIPELINE = (
        "pipeline"  # start a pipeline, skip a role, start one again, say what comes after what
    )
    CREATE = "create"  # a project, a feature, a run
    EXEC = "exec"  # a terminal, as root, in the container of a run's agent
    REPORT = "report"  # the agent's side: events, questions, heartbeat, mailbox, finish


class Principal(Frozen):
    """Who speaks, taken from the credentials: a person with a level, an agent's run, or the system."""

    kind: SenderKind
    id: str
    name: str
    level: Level | None = None
    run_id: str | None = None
    role: Role | None = None

    def sender(self) -> Sender:
        """The same as it is written into an event."""
        return Sender(kind=self.kind, id=self.id, name=self.name, role=self.role)


SYSTEM: Final = Principal(kind=SenderKind.SYSTEM, id="system", name="Omakase")

P = Permission
_BY_LEVEL: Final[dict[Level, frozenset[Permission]]] = {
    Level.VIEWER: frozenset({P.READ}),
    Level.COMMENTER: frozenset({P.READ, P.WRITE}),
    Level.OPERATOR: frozenset({P.READ, P.WRITE, P.ANSWER, P.ORDER, P.PIPELINE}),
    Level.OWNER: frozenset({P.READ, P.WRITE, P.ANSWER, P.ORDER, P.PIPELINE, P.CREATE, P.EXEC}),
}


def may(principal: Principal, permission: Permission, run: Run | None) -> bool:
    """Whether it is allowed; `run` is None where the thing is not about one run."""
    if principal.kind is SenderKind.SYSTEM:
        return True
    if principal.kind is SenderKind.AGENT:
        return permission is P.REPORT and run is not None and run.id == principal.run_id
    return principal.level is not None and permission in _BY_LEVEL[principal.level]


def demand(principal: Principal, permission: Permission, run: Run | None) -> None:
    """Refuse what is not allowed.

    Raises NotFound where the principal may not even read (the same answer as for what is not
    there), Forbidden where it may read but not do this.
    """
    if may(principal, permission, run):
        return
    if run is not None and not may(principal, P.READ, run) and not may(principal, P.REPORT, run):
        raise NotFound("There is no run with that id.")
    raise Forbidden(f"You may not do this: it needs the permission '{permission}'.")
