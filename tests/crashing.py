"""A process that dies between any two of its calls to the outside, and the use cases wired to it.

Process(world, at)   a process that dies before its call number `at`
dies(story)          whether it did
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from chat.ports import Log, Runtime, Store, Tasks
from chat.roles import ROLES
from chat.service.carry_over import CarryOver
from chat.service.context import Context
from chat.service.delivery import Delivery
from chat.service.holding import Holding
from chat.service.lifecycle import Lifecycle
from chat.service.mailbox import Mailbox
from chat.service.messages import Messages
from chat.service.meter import Meter
from chat.service.orders import Orders
from chat.service.tokens import Tokens
from tests.world import World


class Killed(BaseException):
    """kill -9: nothing catches it."""


class Mortal:
    """Counts the calls of everything it wraps, and dies before the one with the number `at`."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.calls = 0

    def wrap(self, target: object) -> Any:
        return _Wrapped(self, target)

    def count(self) -> None:
        if self.calls == self.at:
            raise Killed
        self.calls += 1


class _Wrapped:
    def __init__(self, mortal: Mortal, target: object) -> None:
        self._mortal = mortal
        self._target = target

    def __getattr__(self, name: str) -> Callable[..., Any]:
        call = getattr(self._target, name)

        def counted(*args: Any, **more: Any) -> Any:
            self._mortal.count()
            return call(*args, **more)

        return counted


class Process:
    """A second process on the same Redis and database as the world's, that dies before call `at`."""

    def __init__(self, world: World, at: int, *, runtime: Runtime | None = None) -> None:
        self.mortal = Mortal(at)
        chat = world.chat
        context = Context(
            settings=chat.settings,
            store=cast("Store", self.mortal.wrap(chat.store)),
            log=cast("Log", self.mortal.wrap(chat.log)),
            clock=world.clock,
            tasks=cast("Tasks", self.mortal.wrap(world.tasks)),
        )
        messages, mailbox, tokens = Messages(context), Mailbox(context), Tokens(context)
        carry_over = CarryOver(context, messages)
        meter = Meter(context, ROLES)
        self.runs = Lifecycle(context, mailbox, carry_over, tokens, meter)
        self.holding = Holding(context, self.runs, mailbox, meter)
        self.orders = Orders(context, self.runs)
        mortal = cast("Runtime", self.mortal.wrap(runtime or world.runtime))
        self.delivery = Delivery(
            context,
            self.runs,
            mailbox,
            carry_over,
            lambda: mortal,
            tokens.of,
            holding=self.holding,
            meter=meter,
        )


def dies(story: Callable[[], object]) -> bool:
    """Whether the process died in the story."""
    try:
        story()
    except Killed:
        return True
    return False
