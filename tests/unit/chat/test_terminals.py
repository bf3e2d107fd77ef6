"""The use case of a terminal: what the record says whatever goes wrong, and that nobody gets in without it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from chat.access import Level
from chat.adapters.redis_claims import RedisClaims
from chat.errors import Conflict, Forbidden, NotFound, TerminalFailed, Unauthenticated, Unavailable
from chat.events import TerminalEnd
from chat.ports import NudgeFailure, ShellEnd
from chat.requests import OpenTerminal
from chat.runs import Run
from chat.service.lifecycle import Lifecycle
from chat.service.terminals import Terminals
from tests.ecs_world import EcsWorld
from tests.world import ANNA, Talk, person

WISH = OpenTerminal(reason="to look", cols=80, rows=24)


@dataclass
class FakeShell:
    """A Shell that shows what the test puts there, until it ends or is woken."""

    shows: list[bytes] = field(default_factory=list)
    end: ShellEnd | None = None
    typed: bytes = b""
    closed: int = 0
    backlog: int = 0
    woken: threading.Event = field(default_factory=threading.Event)

    def write(self, data: bytes) -> None:
        self.typed += data

    def resize(self, columns: int, rows: int) -> None:
        pass

    def pump(
        self, show: Callable[[bytes], None], turned: Callable[[], None], *, until: float
    ) -> ShellEnd | None:
        while self.shows:
            show(self.shows.pop(0))
        turned()
        if self.end is None:
            self.woken.wait(0.01)
        return self.end

    def wake(self) -> None:
        self.woken.set()

    def close(self) -> None:
        self.closed += 1


@dataclass
class FakeShells:
    shell: FakeShell = field(default_factory=FakeShell)
    broken: Exception | None = None
    opened: list[str] = field(default_factory=list)

    def open(self, run: Run, *, columns: int, rows: int) -> FakeShell:
        if self.broken is not None:
            raise self.broken
        self.opened.append(run.id)
        return self.shell


class Flaky:
    """A log that fails as the list says, call by call: before it does it, or after ("half")."""

    def __init__(self, log: Any) -> None:
        self.log = log
        self.plans: dict[str, list[str]] = {}

    def __getattr__(self, name: str) -> Any:
        real = getattr(self.log, name)
        plan = self.plans.get(name)
        if not plan:
            return real

        def call(*args: Any, **named: Any) -> Any:
            how = plan.pop(0) if plan else "well"
            if how == "before":
                raise Unavailable("The run log cannot be reached.")
            done = real(*args, **named)
            if how == "half":
                raise Unavailable("The run log cannot be reached.")
            return done

        return call


@dataclass
class Scene:
    ecs: EcsWorld
    talk: Talk
    shells: FakeShells
    log: Flaky
    terminals: Terminals

    def records(self) -> list[dict[str, Any]]:
        return [
            event["body"]
            for event in self.talk.events()
            if event["kind"] == "notice" and event["body"]["about"] == "terminal"
        ]

    def states(self) -> list[str]:
        return [record["terminal"]["state"] for record in self.records()]

    def open(self, **given: Any) -> Any:
        named = {"stands": lambda: True} | given
        return self.terminals.open(ANNA, self.talk.id, WISH, **named)


@pytest.fixture
def scene(make_ecs: Callable[..., EcsWorld]) -> Iterator[Scene]:
    ecs = make_ecs(EXEC_TERMINAL="on")
    talk = ecs.launched()
    context = ecs.world.chat.live._context
    log = Flaky(context.log)
    context.log = log
    shells = FakeShells()
    lifecycle: Lifecycle = ecs.world.chat.runs
    claims = RedisClaims(ecs.world.chat.redis)
    yield Scene(ecs, talk, shells, log, Terminals(context, lifecycle, claims, lambda: shells))
    context.log = log.log


def run(terminal: Any, shown: bytearray | None = None) -> TerminalEnd:
    end: TerminalEnd = terminal.run((shown if shown is not None else bytearray()).extend, str)
    return end


def test_it_counts_what_was_typed_and_shown(scene: Scene):
    scene.shells.shell.shows = [b"# ", "grüß".encode()]
    terminal = scene.open()
    assert scene.states() == ["opened"]
    terminal.type(b"ls\r")
    scene.shells.shell.end = ShellEnd()
    shown = bytearray()
    assert run(terminal, shown) is TerminalEnd.SHELL_ENDED
    assert bytes(shown) == "# grüß".encode()
    _, closed = scene.records()
    assert (closed["terminal"]["typed_bytes"], closed["terminal"]["shown_bytes"]) == (3, 8)
    assert scene.shells.shell.closed == 1


def test_where_the_opening_cannot_be_written_nobody_gets_in(scene: Scene):
    scene.log.plans["append"] = ["before"] * 5  # as often as it is tried
    with pytest.raises(Unavailable):
        scene.open()
    assert scene.shells.shell.closed == 1
    (record,) = scene.records()
    assert (record["terminal"]["state"], record["failure"]) == ("failed", "unavailable")
    assert scene.open() is not None  # the place and the claim were given back


def test_records_whose_answers_were_lost_are_written_once(scene: Scene):
    scene.log.plans["append"] = ["half", "before", "well", "half", "half", "well"]
    terminal = scene.open()
    terminal.end(TerminalEnd.LEFT)
    assert run(terminal) is TerminalEnd.LEFT
    assert scene.states() == ["opened", "closed"]


def test_an_end_that_cannot_be_written_is_given_up_and_everything_let_go(scene: Scene):
    terminal = scene.open()
    terminal.end(TerminalEnd.LEFT)
    scene.log.plans["append"] = ["before"] * 5
    assert run(terminal) is TerminalEnd.LEFT
    assert scene.states() == ["opened"]
    scene.open()


def test_the_first_reason_to_end_counts(scene: Scene):
    terminal = scene.open()
    terminal.end(TerminalEnd.SERVER_STOPPED)
    terminal.end(TerminalEnd.LEFT)
    assert run(terminal) is TerminalEnd.SERVER_STOPPED


def test_a_log_that_is_away_for_a_moment_does_not_end_it(scene: Scene):
    asked = []

    def stands() -> bool:
        asked.append(1)
        if len(asked) in {2, 3}:
            raise Unavailable("away")
        if len(asked) == 5:
            scene.shells.shell.end = ShellEnd(NudgeFailure.UNAVAILABLE)
        return True

    assert run(scene.open(stands=stands)) is TerminalEnd.CHANNEL_LOST
    assert len(asked) == 5


def test_a_claim_that_somebody_else_has_by_now_ends_it(scene: Scene):
    terminal = scene.open()
    scene.ecs.world.chat.redis.set(f"claim:terminal:{scene.talk.id}", "another")
    assert run(terminal) is TerminalEnd.UNCHECKED
    assert scene.ecs.world.chat.redis.get(f"claim:terminal:{scene.talk.id}") == b"another"


def test_who_signed_out_is_refused_and_ends(scene: Scene):
    with pytest.raises(Unauthenticated):
        scene.open(stands=lambda: False)
    assert scene.states() == ["refused"]
    answers = [True, True, False]
    assert run(scene.open(stands=lambda: answers.pop(0))) is TerminalEnd.ACCESS_REMOVED


@pytest.mark.parametrize(("wait_s", "has_room"), [(None, False), (0.3, True)])
def test_a_page_that_reads_little_or_nothing_keeps_nobody_from_looking_whether_it_may_go_on(
    scene: Scene, wait_s: float | None, has_room: bool
):
    scene.shells.shell.shows = [b"x"] * 100
    answers = [True, True, False]
    terminal = scene.open(stands=lambda: answers.pop(0))
    shown = bytearray()

    def room(most_s: float) -> bool:
        threading.Event().wait(most_s if wait_s is None else wait_s)
        return has_room

    assert terminal.run(shown.extend, str, room) is TerminalEnd.ACCESS_REMOVED
    assert len(shown) < 50
    assert scene.records()[-1]["terminal"]["shown_bytes"] == len(shown)


def test_an_error_while_it_is_open_ends_and_records_it(scene: Scene):
    scene.shells.shell.shows = [b"x"]

    def show(_: bytes) -> None:
        raise RuntimeError("a fault of ours")

    assert scene.open().run(show, str) is TerminalEnd.BROKEN
    assert scene.records()[-1]["terminal"]["end"] == "broken"
    assert scene.shells.shell.closed == 1


@pytest.mark.parametrize(
    ("broken", "failure"),
    [
        (TerminalFailed("no", failure=NudgeFailure.NOT_CONNECTED), "not_connected"),
        (RuntimeError("a fault of ours"), "unavailable"),
    ],
)
def test_what_cannot_be_opened_is_recorded_once_and_holds_nothing(
    scene: Scene, broken: Exception, failure: str
):
    scene.shells.broken = broken
    for _ in range(10):  # more than there are places
        with pytest.raises(type(broken)):
            scene.open()
    assert {record["failure"] for record in scene.records()} == {failure}
    assert scene.states() == ["failed"] * 10
    scene.shells.broken = None
    assert scene.open() is not None
    assert "a fault of ours" not in str(scene.records())


@pytest.mark.parametrize("level", [Level.VIEWER, Level.COMMENTER, Level.OPERATOR])
def test_the_use_case_itself_refuses_who_is_no_owner(scene: Scene, level: Level):
    ben = person("Ben", level)
    with pytest.raises(Forbidden):
        scene.terminals.admit(ben, scene.talk.id)
    with pytest.raises(Forbidden):
        scene.terminals.open(ben, scene.talk.id, WISH, stands=lambda: True)
    assert scene.states() == ["refused", "refused"]
    assert scene.shells.opened == []


def test_a_run_that_was_attached_by_hand_has_no_container(scene: Scene):
    talk = scene.ecs.world.talk()
    with pytest.raises(Conflict, match="no task"):
        scene.terminals.open(ANNA, talk.id, WISH, stands=lambda: True)


@pytest.mark.parametrize("environ", [{}, {"EXEC_TERMINAL": "off"}])
def test_it_is_off_by_default(make_ecs: Callable[..., EcsWorld], environ: dict[str, str]):
    ecs = make_ecs(**environ)
    talk = ecs.launched()
    terminals = ecs.world.chat.terminals
    assert not terminals.is_on
    with pytest.raises(NotFound):
        terminals.admit(ANNA, talk.id)
    with pytest.raises(NotFound):
        terminals.open(ANNA, talk.id, WISH, stands=lambda: True)
    assert not [event for event in talk.events() if event["kind"] == "notice"]
