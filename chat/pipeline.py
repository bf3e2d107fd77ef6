"""A pipeline: the roles of a feature one after another, and what happens next. Pure; nothing is done here.

What is stored is only what was decided (`chat.runs.Pipeline`: the turns begun, the roles skipped, the turn
that a person asked for). How a turn went is in its run. `next_step` looks at both and names the one thing
to do; whoever does it looks again. So it does not matter who does it, how often, or where they break off.

    result of the last turn      what follows
    none                         the first role
    not begun, open              that run
    passed                       the next role; after the last one the pipeline is done
    sent back                    the role that its role sends back to, `rounds` times; then failing
    failed                       the same role again, `retries` times; then failing
    stopped (by a person)        nothing, until a person starts a role again or skips it
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from chat.ids import hashed_id
from chat.roles import Roles
from chat.runs import Pipeline, Place, Role, Turn, Why


class Result(StrEnum):
    """How a turn stands. `not_begun`: decided, and perhaps begun only in part."""

    NOT_BEGUN = "not_begun"
    OPEN = "open"
    ASKING = "asking"  # open, and waiting for a person
    LATE = "late"  # open, and for too long at work
    PASSED = "passed"
    SENT_BACK = "sent_back"
    FAILED = "failed"
    STOPPED = "stopped"


class State(StrEnum):
    """Where a feature is."""

    IDLE = "idle"
    RUNNING = "running"
    WAITING = "waiting"
    FAILING = "failing"
    DONE = "done"


class Do(StrEnum):
    """The one thing to do next."""

    ENTER = "enter"  # take a place in the project's queue
    ADMIT = "admit"  # let those whose turn it is begin
    PLAN = "plan"  # decide on a turn
    BEGIN = "begin"  # make the turn's run, and have it started
    END_LATE = "end_late"  # end a run that has been at work for too long
    TELL = "tell"  # tell people that it is failing
    LEAVE = "leave"  # give the place back, and wake who waits
    REST = "rest"  # nothing: a run, a person or another pipeline is waited for


@dataclass(frozen=True, slots=True)
class Facts:
    """What `next_step` looks at. `listed` and `admitted`: the place in the project's queue;
    `may_enter`: it would be admitted now; `waits_for`: features that have to be done before."""

    pipeline: Pipeline | None
    result: Result | None = None
    listed: bool = False
    admitted: bool = False
    may_enter: bool = False
    waits_for: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Action:
    """What to do, where the feature is, and why, in words for people."""

    do: Do
    state: State
    why: str
    turn: Turn | None = None


@dataclass(frozen=True, slots=True)
class Wants:
    """The pipeline's next turn."""

    turn: Turn


@dataclass(frozen=True, slots=True)
class Goes:
    """The last turn is not over."""

    result: Result


@dataclass(frozen=True, slots=True)
class Over:
    """Nothing follows by itself."""

    state: State
    why: str


UNDER_WAY: Final = frozenset({Result.NOT_BEGUN, Result.OPEN, Result.ASKING, Result.LATE})


def decide(roles: Roles, pipeline: Pipeline, result: Result | None) -> Wants | Goes | Over:
    """What follows the last turn, which stands at `result` (None when there was none)."""
    if result in UNDER_WAY and result is not None:
        return Goes(result)
    if pipeline.wanted is not None:
        return Wants(pipeline.wanted)
    if not pipeline.turns or result is None:
        return _next(roles, pipeline, after=None)
    last = pipeline.turns[-1]
    if result is Result.PASSED or last.role in pipeline.skipped:
        return _next(roles, pipeline, after=last.role)
    return _AFTER[result](roles, pipeline, last)


def _next(roles: Roles, pipeline: Pipeline, *, after: Role | None) -> Wants | Over:
    line = roles.line
    rest = line if after is None else line[line.index(after) + 1 :]
    for role in rest:
        if role not in pipeline.skipped:
            return Wants(Turn(role=role, why=Why.NEXT))
    return Over(State.DONE, "Every role is done.")


def _sent_back(roles: Roles, pipeline: Pipeline, last: Turn) -> Wants | Over:
    name = roles.role[last.role].name
    back = roles.role[last.role].sends_back_to
    if back is None:
        return Over(State.FAILING, f"{name} asks for changes, and has nobody to send it back to.")
    if back in pipeline.skipped:
        return Over(State.FAILING, f"{name} asks for changes, and the {back} is skipped.")
    rounds = sum(turn.why is Why.SENT_BACK for turn in _since_by_hand(pipeline))
    if rounds >= roles.pipeline.rounds:
        return Over(State.FAILING, f"{name} asks for changes again, after {_times(rounds)}.")
    return Wants(Turn(role=back, why=Why.SENT_BACK))


def _failed(roles: Roles, pipeline: Pipeline, last: Turn) -> Wants | Over:
    tries = 0
    for turn in reversed(pipeline.turns):
        if turn.role is not last.role or turn.why is not Why.RETRY:
            break
        tries += 1
    if tries >= roles.pipeline.retries:
        again = ", again after being tried anew" if tries else ""
        return Over(State.FAILING, f"{roles.role[last.role].name} ({last.role}) failed{again}.")
    return Wants(Turn(role=last.role, why=Why.RETRY))


def _stopped(roles: Roles, _pipeline: Pipeline, last: Turn) -> Over:
    name = roles.role[last.role].name
    return Over(State.WAITING, f"{name} was stopped: start a role again, or skip it.")


_AFTER: Final = {Result.SENT_BACK: _sent_back, Result.FAILED: _failed, Result.STOPPED: _stopped}


def _since_by_hand(pipeline: Pipeline) -> list[Turn]:
    """The turns from the last that a person started: their word gives everything another chance."""
    turns: list[Turn] = []
    for turn in reversed(pipeline.turns):
        turns.append(turn)
        if turn.why is Why.BY_HAND:
            break
    return turns


def next_step(roles: Roles, facts: Facts) -> Action:
    """The one thing to do now; doing it twice, or by two at once, must be the same as once."""
    pipeline = facts.pipeline
    if pipeline is None:
        return Action(Do.LEAVE if facts.listed else Do.REST, State.IDLE, "No pipeline was started.")
    follows = decide(roles, pipeline, facts.result)
    if isinstance(follows, Over):
        leave = Do.LEAVE if facts.listed else Do.REST
        told = follows.state is not State.FAILING or pipeline.told == len(pipeline.turns)
        return Action(leave if told else Do.TELL, follows.state, follows.why)
    if not facts.listed:
        return Action(Do.ENTER, State.WAITING, "It gets its place in the project's queue.")
    if isinstance(follows, Goes) and follows.result is not Result.NOT_BEGUN:
        return _while_open(roles, pipeline.turns[-1].role, follows.result)
    if not facts.admitted:
        return _at_the_door(facts)
    turn = follows.turn if isinstance(follows, Wants) else None
    role = turn.role if turn else pipeline.turns[-1].role
    return Action(Do.PLAN if turn else Do.BEGIN, State.RUNNING, f"The {role} begins.", turn)


def _at_the_door(facts: Facts) -> Action:
    if facts.may_enter:
        return Action(Do.ADMIT, State.WAITING, "It is its turn.")
    if facts.waits_for:
        return Action(Do.REST, State.WAITING, "It comes after features that are not done.")
    return Action(Do.REST, State.WAITING, "Other pipelines of the project go first.")


def _while_open(roles: Roles, role: Role, result: Result) -> Action:
    name = roles.role[role].name
    if result is Result.LATE:
        minutes = roles.role[role].timeout_min
        return Action(Do.END_LATE, State.RUNNING, f"{name} was at work for {minutes} minutes.")
    if result is Result.ASKING:
        return Action(Do.REST, State.WAITING, f"{name} waits for a person.")
    return Action(Do.REST, State.RUNNING, f"{name} is at work.")


def admitted(
    places: Sequence[Place], waiting: Collection[str], at_a_time: int
) -> tuple[Place, ...]:
    """The queue after everybody whose turn it is was let in: in order, but for the features in
    `waiting`, which wait for others; who was let in before stays in."""
    free = at_a_time - sum(place.admitted for place in places)
    after = []
    for one in places:
        enters = not one.admitted and free > 0 and one.feature_id not in waiting
        free -= enters
        after.append(one.model_copy(update={"admitted": True}) if enters else one)
    return tuple(after)


def attempt_of(pipeline: Pipeline, index: int) -> int:
    """The how-manyth turn of its role the turn at `index` is, from 1."""
    role = pipeline.turns[index].role
    return sum(turn.role is role for turn in pipeline.turns[: index + 1])


def round_of(pipeline: Pipeline, index: int) -> int:
    """How often the work had been sent back when the turn at `index` began, plus one."""
    return 1 + sum(turn.why is Why.SENT_BACK for turn in pipeline.turns[: index + 1])


def handover_id(run_id: str) -> str:
    """The id of the message that hands over to a run: the first in its mailbox."""
    return hashed_id("msg", "handover", run_id)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} rounds"
