"""Orders: messages that act on the run itself."""

from __future__ import annotations

from chat.access import Permission, Principal
from chat.drafts import digest, draft
from chat.errors import Invalid
from chat.events import Action, Mode, OrderBody
from chat.runs import RunStatus
from chat.service.context import Context
from chat.service.lifecycle import Lifecycle
from chat.service.posting import Posted, append_one, scoped_key

_HOLDS = {Action.PAUSE: True, Action.STOP: True, Action.RESUME: False}


class Orders:
    """Pause, resume, interrupt, stop, check in."""

    def __init__(self, context: Context, lifecycle: Lifecycle) -> None:
        self._context = context
        self._lifecycle = lifecycle

    def give(
        self, principal: Principal, run_id: str, request: OrderBody, *, key: str | None = None
    ) -> Posted:
        """Give an order. `pause` and `stop` hold what is queued; `resume` lets it go again.

        A run that was never started is ended at once by `stop`; any other ends when its agent has
        cut its step, or when the watcher sees it gone.
        """
        self._context.authorize(principal, Permission.ORDER, run_id)
        if (request.action is Action.CHECK_IN) != (request.every_steps is not None):
            raise Invalid("'every_steps' goes with 'check_in', and only with it.")
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
            self._lifecycle.end_if_never_started(
                run_id, RunStatus.STOPPED, "Stopped before it began."
            )
        return done
