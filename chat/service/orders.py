"""Orders: messages that act on the run itself."""

from __future__ import annotations

from chat.access import Permission, Principal
from chat.drafts import digest, draft
from chat.errors import IllegalMove, Invalid
from chat.events import Action, Mode, OrderBody
from chat.runs import IDLE, RunStatus, StartKind
from chat.service.context import Context
from chat.service.lifecycle import Lifecycle
from chat.service.posting import Posted, append_one, scoped_key

_HOLDS = {Action.PAUSE: True, Action.STOP: True, Action.RESUME: False}
_NOT_ON_HOLD = frozenset(RunStatus) - {RunStatus.SUSPENDED}
"""Else nothing is there that could be acted upon."""
_FROM = {
    Action.PAUSE: _NOT_ON_HOLD, Action.INTERRUPT: _NOT_ON_HOLD, Action.CHECKPOINT: frozenset(IDLE),
}  # fmt: skip


class Orders:
    """Pause, resume, interrupt, stop, check in, checkpoint."""

    def __init__(self, context: Context, lifecycle: Lifecycle) -> None:
        self._context = context
        self._lifecycle = lifecycle

    def give(
        self, principal: Principal, run_id: str, request: OrderBody, *, key: str | None = None
    ) -> Posted:
        """Give an order. `pause` and `stop` hold what is queued; `resume` lets it go again. `checkpoint` puts
        an idle run on hold now.

        A run that was never started, or is on hold, is ended at once by `stop`; any other ends when its
        agent has cut its step, or when the watcher sees it gone. Raises IllegalMove.
        """
        run = self._context.authorize(principal, Permission.ORDER, run_id)
        if (request.action is Action.CHECK_IN) != (request.every_steps is not None):
            raise Invalid("'every_steps' goes with 'check_in', and only with it.")
        if request.action is Action.CHECKPOINT and run.start is not StartKind.LAUNCH:
            standing = {"status": self._context.log.snapshot(run_id).status}
            raise IllegalMove(
                "Somebody else started it, and would have to start it again.",
                current_state=standing,
            )
        stopping = request.action is Action.STOP
        one = draft(
            run_id,
            principal.sender(),
            request,
            now=self._context.now(),
            mode=Mode.STEER if request.action is Action.CHECK_IN else Mode.INTERRUPT,
            holds=_HOLDS.get(request.action),
            stop_at_ms=self._context.now_ms() if stopping else None,
            idempotency_key=scoped_key(principal, "order", key),
            digest=digest(request),
            sources=_FROM.get(request.action, frozenset()),
        )
        # the log looks at the key first: a repeat is the first result, wherever the run is by now
        try:
            done = append_one(self._context, run_id, one)
        except IllegalMove as refused:
            raise _why_not(refused) from refused
        if stopping:  # also on a repeat: whoever gave it first may have broken off here
            self._lifecycle.stop_if_without_process(run_id)
        return done


def _why_not(refused: IllegalMove) -> IllegalMove:
    standing = refused.current_state or {}
    status = standing.get("status")
    if status == RunStatus.SUSPENDED:
        words = "It is on hold: a message or `resume` starts it again."
    else:
        words = f"It is {status}: only what is paused or waits goes on hold."
    return IllegalMove(words, current_state=standing)
