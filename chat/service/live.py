"""What a live reader needs: the state at a number, and what came after it."""

from __future__ import annotations

from itertools import islice

from chat.access import Permission, Principal
from chat.channels import project_channel, run_channel
from chat.ports import Record, Snapshot
from chat.service.context import Context

SINCE_MAX = 2_000
"""Events of one reading: a reader far behind comes again, and a process never holds a long log whole."""


class Live:
    """Snapshot, catch-up, and the frames that are not kept."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def snapshot(self, principal: Principal, run_id: str) -> Snapshot:
        """The run at its head."""
        self._context.authorize(principal, Permission.READ, run_id)
        return self._context.log.snapshot(run_id)

    def since(self, principal: Principal, run_id: str, after: int) -> list[Record]:
        """The next SINCE_MAX events after `after`, without a hole: from the stream, and what that has dropped
        from the store."""
        self._context.authorize(principal, Permission.READ, run_id)
        return list(islice(self._context.after(run_id, after), SINCE_MAX))

    def typing(self, principal: Principal, run_id: str) -> None:
        """Somebody is writing to the agent."""
        self._context.authorize(principal, Permission.WRITE, run_id)
        self._whisper(principal, run_id, {"type": "typing"})

    def read_mark(self, principal: Principal, run_id: str, seq: int) -> None:
        """Somebody has read up to `seq`."""
        self._context.authorize(principal, Permission.READ, run_id)
        self._whisper(principal, run_id, {"type": "read", "seq": seq})

    def run_channel(self, run_id: str) -> str:
        """The Redis channel of a run."""
        return run_channel(run_id)

    def project_channel(self, project_id: str) -> str:
        """The Redis channel of a project."""
        return project_channel(project_id)

    def _whisper(self, principal: Principal, run_id: str, frame: dict[str, object]) -> None:
        who = {"id": principal.id, "name": principal.name}
        self._context.log.whisper(run_channel(run_id), {**frame, "run_id": run_id, "who": who})
