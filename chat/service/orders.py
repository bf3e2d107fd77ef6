"""Orders: messages that act on the run itself."""

from __future__ import annotations

from chat.access import Permission, Principal
from chat.drafts import digest, draft
from chat.errors import IllegalMove, Invalid
from chat.events import Action, Mode, OrderBody
from chat.runs import IDLE, Run, RunStatus, StartKind
from chat.service.context import Context
from chat.service.lifecycle import Lifecycle
from chat.service.posting import Posted, append_one, scoped_key

_HOLDS = {Action.PAUSE: True, Action.STOP: True, Action.RESUME: False}
_NOT_ON_HOLD = frozenset({Action.PAUSE, Action.INTERRUPT, Action.CHECKPOINT})
"""Nothing that these could act upon is there."""


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
        if request.action in _NOT_ON_HOLD:
            self._check(run, request.action)
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
        )
        done = append_one(self._context, run_id, one)
        if stopping:  # also on a repeat: whoever gave it first may have broken off here
            self._lifecycle.stop_if_without_process(run_id)
        return done

    def _check(self, run: Run, action: Action) -> None:
        """What the status surely does not allow; should it change at this moment, the agent's side says so."""
        status = self._context.log.snapshot(run.id).status
        if status is RunStatus.SUSPENDED:
            raise IllegalMove("It is on hold: a message or `resume` starts it again.")
        if action is not Action.CHECKPOINT:
            return
        if run.start is not StartKind.LAUNCH:
            raise IllegalMove("Somebody else started it, and would have to start it again.")
        if status not in IDLE:
            raise IllegalMove(f"It is {status}: only what is paused or waits goes on hold.")
