"""A pipeline whose workers are killed after any of their calls: the next one goes on, and nothing is
done twice.

The ports that `advance` works through are passed in behind a counter; at the call that was drawn the
worker is dead, with what it did until then done. Then another one comes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Barrier
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from chat.errors import Unavailable
from chat.events import Action, OrderBody
from chat.pipeline import handover_id
from chat.requests import RestartRole, SkipRole
from chat.roles import ROLES
from chat.service.advance import Advance
from chat.service.carry_over import CarryOver
from chat.service.context import Context
from chat.service.lifecycle import Lifecycle
from chat.service.mailbox import Mailbox
from chat.service.messages import Messages
from chat.service.meter import Meter
from chat.service.pipelines import Pipelines
from chat.service.tokens import Tokens
from tests.pipelines import Line, feature, started
from tests.world import ANNA, World


class Killed(BaseException):
    """kill -9: nothing catches it."""


class Lifetime:
    """How many more calls a worker makes."""

    def __init__(self, calls: int | None) -> None:
        self.left = calls

    def spend(self) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left <= 0:
                raise Killed


class Mortal:
    """A port whose caller dies when its calls are spent: after the call, so that it was made."""

    def __init__(self, port: Any, lifetime: Lifetime) -> None:
        self._port = port
        self._lifetime = lifetime

    def __getattr__(self, name: str) -> Callable[..., Any]:
        call = getattr(self._port, name)

        def then_die(*args: Any, **kwargs: Any) -> Any:
            result = call(*args, **kwargs)
            self._lifetime.spend()
            return result

        return then_die


def worker(world: World, calls: int | None = None) -> Advance:
    """A worker of its own, that lives for so many calls."""
    lifetime, chat = Lifetime(calls), world.chat
    context = Context(
        settings=chat.settings,
        store=Mortal(chat.store, lifetime),
        log=Mortal(chat.log, lifetime),
        clock=chat.clock,
        tasks=Mortal(world.tasks, lifetime),
    )
    carry_over = CarryOver(context, Messages(context))
    meter = Meter(context, ROLES)
    lifecycle = Lifecycle(context, Mailbox(context), carry_over, Tokens(context), meter)
    return Advance(context, lifecycle, ROLES, lambda: Mortal(world.runtime, lifetime))


def killed_after(world: World, line: Line, calls: int) -> bool:
    """Whether a worker that lives for so many calls dies of it."""
    try:
        worker(world, calls).on(line.feature_id)
    except Killed:
        return True
    return False


def first_of(line: Line, run_id: str) -> dict[str, Any]:
    """What is first in a run's mailbox."""
    return next(event for event in line.events(run_id) if event["kind"] == "message")


def is_in_order(line: Line) -> None:
    """One run for each turn, started once, with its hand-over first and once."""
    turns = line.view()["turns"]
    assert [run.id for run in line.runs()] == [turn["run_id"] for turn in turns]
    started = Counter(line.world.runtime.started)
    for run in line.runs():
        assert started[run.id] == 1
        said = [e["id"] for e in line.events(run.id) if e["sender"]["kind"] == "system"]
        assert said.count(handover_id(run.id)) == 1
        assert first_of(line, run.id)["id"] == handover_id(run.id)


def ended(line: Line, how: str) -> None:
    """The current run ends, and the database has it; nobody has looked yet what follows."""
    run_id, world = line.current(), line.world
    if how == "stopped":
        world.chat.orders.give(ANNA, run_id, OrderBody(action=Action.STOP))
    outcome = "completed" if how in {"passed", "changes"} else how
    verdict = {"verdict": "changes_requested"} if how == "changes" else {}
    line.end_run(run_id, outcome, summary=f"It {how}.", **verdict)
    world.chat.delivery.drain(run_id)
    world.tasks.take()  # what would have woken a worker is lost


def taken_on(line: Line) -> None:
    """A worker that lives does what is left, and the agents are started."""
    worker(line.world).on(line.feature_id)
    line.world.work_off()


# --- every call, one after another ---


def begun(line: Line) -> None:
    line.start()


def after_a_pass(line: Line) -> None:
    line.start()
    taken_on(line)
    ended(line, "passed")


def after_a_failure_with_words_unread(line: Line) -> None:
    line.start()
    taken_on(line)
    line.post("call it total_price")
    line.post("and round the total")
    line.world.work_off()
    ended(line, "failed")


def after_the_last_failure(line: Line) -> None:
    after_a_failure_with_words_unread(line)
    taken_on(line)
    ended(line, "failed")


def after_the_last_role(line: Line) -> None:
    line.start()
    for _ in ROLES.line:
        taken_on(line)
        ended(line, "passed")


def late(line: Line) -> None:
    line.start()
    taken_on(line)
    line.world.clock.advance(ms=1_000 * 60 * 600)


SITUATIONS = [
    (begun, "running", 1),
    (after_a_pass, "running", 2),
    (after_a_failure_with_words_unread, "running", 2),
    (after_the_last_failure, "failing", 2),
    (after_the_last_role, "done", 4),
    (late, "running", 2),
]


@pytest.mark.parametrize(
    ("situation", "state", "runs"), SITUATIONS, ids=[one[0].__name__ for one in SITUATIONS]
)
def test_a_worker_killed_after_any_call_is_resumed_by_the_next(
    world: World, situation: Callable[[Line], None], state: str, runs: int
):
    calls = 0
    died = True
    while died:
        calls += 1
        line = feature(world, f"F{calls}")
        situation(line)
        died = killed_after(world, line, calls)
        world.tasks.take()  # what the dead one had queued may be lost too
        for _ in range(3):  # each time as the sweep does it
            for swept in (world.chat.delivery.sweep, world.chat.pipelines.sweep):
                swept()
                world.work_off()
        assert (line.state(), len(line.runs())) == (state, runs), f"killed after call {calls}"
        is_in_order(line)
        last = line.events(line.current())
        told = [e for e in last if e["kind"] == "error" and "is failing" in e["body"]["summary"]]
        assert len(told) == (state == "failing")
        words = [e["body"]["text"] for e in last if e["sender"]["kind"] == "person"]
        unread = situation in {after_a_failure_with_words_unread, after_the_last_failure}
        moved = [text for text in words if text in {"call it total_price", "and round the total"}]
        assert moved == (["call it total_price", "and round the total"] if unread else [])
        listed = [one.feature_id for one in world.chat.store.projects()[0].places]
        assert (line.feature_id in listed) == (state == "running")
        for place in listed:  # the next one has the project for itself
            other = Line(world, place)
            world.chat.orders.give(ANNA, other.current(), OrderBody(action=Action.STOP))
            other.end("stopped")
    assert calls > 5


# --- any story, with deaths anywhere ---

HOW = st.sampled_from(["passed", "passed", "changes", "failed", "stopped"])
STORY = st.lists(
    st.tuples(HOW, st.integers(0, 2), st.lists(st.integers(1, 45), max_size=3)), max_size=9
)


def test_any_story_with_deaths_anywhere_has_one_run_for_each_turn_and_loses_no_word(world: World):
    @settings(
        max_examples=25,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(STORY)
    def told(story: list[tuple[str, int, list[int]]]) -> None:
        line = feature(world, "Cart")
        line.start()
        taken_on(line)
        sent: list[str] = []
        for how, words, deaths in story:
            if line.state() != "running":
                break
            for _ in range(words):
                sent.append(f"word {len(sent)}")
                line.post(sent[-1])
            world.work_off()
            ended(line, how)
            for calls in deaths:
                killed_after(world, line, calls)
                world.tasks.take()
            taken_on(line)
            world.chat.delivery.sweep()
            taken_on(line)
            is_in_order(line)
        world.work_off()
        ends = Counter[str]()
        for run in line.runs():
            for event in line.events(run.id):
                if event["kind"] == "message" and event["sender"]["kind"] == "person":
                    item = world.chat.log.item(run.id, event["id"])
                    assert item is not None
                    if item.state != "moved":
                        ends[event["body"]["text"]] += 1
        assert ends == Counter(sent)
        if line.state() == "running":  # makes room for the next story
            world.chat.orders.give(ANNA, line.current(), OrderBody(action=Action.STOP))
            line.end("stopped")

    told()


def test_many_workers_at_once_begin_one_run_for_each_turn(world: World):
    limit = ROLES.pipeline.at_a_time
    lines = [feature(world, f"F{number}") for number in range(limit + 1)]
    for line in lines:
        line.start()
    workers = 2 * len(lines)
    together = Barrier(workers)

    def take_on(number: int) -> None:
        one = worker(world)
        together.wait()
        with suppress(Unavailable):  # others were faster too often: the task comes again
            one.on(lines[number % len(lines)].feature_id)

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(take_on, range(workers)))
    world.chat.pipelines.sweep()
    world.work_off()
    assert [line.state() for line in lines].count("running") == limit
    for line in lines:
        is_in_order(line)


@pytest.mark.parametrize("at", range(1, 12))
@pytest.mark.parametrize("what", ["restart", "skip"])
def test_a_decision_is_carried_on_though_the_web_died_behind_it(
    world: World, what: str, at: int
) -> None:
    line = started(world)
    line.end("failed")
    line.end("failed")
    world.work_off()
    world.chat.pipelines.sweep()
    world.work_off()
    assert line.state() == "failing"
    dying = worker(world, at)
    pipelines = Pipelines(dying._context, ROLES, dying)
    with suppress(Killed):
        if what == "restart":
            pipelines.restart(ANNA, line.feature_id, RestartRole(role="architect"))
        else:
            pipelines.skip(ANNA, line.feature_id, SkipRole(role="architect"))
    feature = world.chat.store.feature(line.feature_id)
    assert feature is not None
    assert feature.pipeline is not None
    decided = feature.pipeline.wanted is not None or bool(feature.pipeline.skipped)
    for _ in range(5):
        world.clock.advance(ms=60_000)
        world.chat.delivery.sweep()
        world.chat.pipelines.sweep()
        world.work_off()
    assert line.state() == ("running" if decided else "failing")
