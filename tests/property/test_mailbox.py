"""The mailbox against every order in which people, workers and the agent can act on it.

The race of issue 2 is here: what is said while the agent takes its last step is read, or its sender is
told that the run has ended. Never neither.
"""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from chat.errors import (
    AlreadyAnswered,
    AlreadyTaken,
    MailboxNotEmpty,
    RunEnded,
    StaleVersion,
    TokenRevoked,
)
from chat.events import EVENT, Action, Mode, OrderBody
from chat.ports import MailItem
from chat.requests import EditMessage, Heartbeat, PostAnswer, Release
from chat.runs import ENDED, RunStatus
from tests.world import ANNA, ENDS, Talk, World

UNREAD = frozenset({"accepted", "stored", "leased"})
HOLDERS = st.sampled_from(["h1", "h2"])


def shown_by(refused: MailboxNotEmpty) -> list[str]:
    assert refused.current_state is not None
    return [item["event"]["id"] for item in refused.current_state["items"]]


class Mailbox(RuleBasedStateMachine):
    """People, two processes of the agent's side, and workers, one atomic step after another."""

    world: World
    sent = Bundle("sent")
    asked = Bundle("asked")

    def __init__(self) -> None:
        super().__init__()
        self.talk: Talk = self.world.talk()
        self.ended = False
        self.read_by_model: list[str] = []
        self.questions = 0
        self.said: list[dict[str, Any]] = []

    # --- people ---

    @rule(target=sent, mode=st.sampled_from(Mode))
    def post(self, mode: Mode) -> str:
        try:
            message_id: str = self.talk.post(f"{mode} words", mode=mode)["id"]
        except RunEnded:
            assert self.ended
            return "nothing"
        assert not self.ended
        return message_id

    @rule(message=sent, version=st.integers(1, 2))
    def edit(self, message: str, version: int) -> None:
        if message == "nothing":
            return
        before = self.item(message)
        try:
            self.world.chat.messages.edit(
                ANNA, self.talk.id, message, version, EditMessage(text=f"better, {version}")
            )
        except AlreadyTaken:
            assert before.state not in {"accepted", "stored"}
        except StaleVersion:
            assert before.version != version
        else:
            assert before.state in {"accepted", "stored"}
            assert before.version == version

    @rule(message=sent)
    def cancel(self, message: str) -> None:
        if message == "nothing":
            return
        before = self.item(message)
        try:
            self.world.chat.messages.cancel(ANNA, self.talk.id, message)
        except AlreadyTaken:
            assert before.state not in {"accepted", "stored", "cancelled"}
        else:
            assert before.state in {"accepted", "stored", "cancelled"}

    @rule(action=st.sampled_from([Action.PAUSE, Action.RESUME, Action.INTERRUPT]))
    def order(self, action: Action) -> None:
        try:
            self.world.chat.orders.give(ANNA, self.talk.id, OrderBody(action=action))
        except RunEnded:
            assert self.ended

    @rule(question=asked, text=st.sampled_from(["yes", "no"]))
    def answer(self, question: str, text: str) -> None:
        with suppress(AlreadyAnswered, RunEnded):
            self.world.chat.questions.answer(ANNA, self.talk.id, question, PostAnswer(text=text))

    # --- the agent's side ---

    @rule(target=asked)
    @precondition(lambda self: not self.ended)
    def ask(self) -> str:
        self.questions += 1
        question_id: str = self.talk.ask(f"q{self.questions}")["id"]
        return question_id

    @rule(holder=HOLDERS, limit=st.sampled_from([1, 2, 50]), task_end=st.booleans())
    @precondition(lambda self: not self.ended)
    def lease(self, holder: str, limit: int, *, task_end: bool) -> None:
        given = [
            self.item(item["event"]["id"])
            for item in self.talk.lease_items(holder, limit=limit, task_end=task_end)
        ]
        assert [item.seq for item in given] == sorted(item.seq for item in given)
        assert len(given) <= limit
        snapshot = self.world.chat.log.snapshot(self.talk.id)
        for item in given:
            assert item.state == "leased"
            assert item.id not in self.read_by_model, "what the model has never comes again"
            assert task_end or item.mode != "queue"
            assert not snapshot.held or item.kind == "order"
            earlier = [
                other
                for other in snapshot.items
                if other.state == "stored" and other.seq < item.seq and other.mode == item.mode
            ]
            assert all(snapshot.held and other.kind != "order" for other in earlier)

    @rule(holder=HOLDERS, several=st.booleans())
    @precondition(lambda self: not self.ended)
    def confirm(self, holder: str, *, several: bool) -> None:
        leased = [item.id for item in self.pending() if item.state == "leased"]
        ids = leased if several else leased[:1]
        if ids:
            assert set(self.talk.confirm(*ids).values()) == {"in_context"}
            assert not set(ids) & set(self.read_by_model)
            self.read_by_model += ids

    @rule(holder=HOLDERS)
    @precondition(lambda self: not self.ended)
    def release(self, holder: str) -> None:
        self.world.chat.mailbox.release(self.talk.nori, self.talk.id, Release(holder=holder))

    @rule(holder=HOLDERS)
    @precondition(lambda self: not self.ended)
    def heartbeat(self, holder: str) -> None:
        self.world.chat.runs.heartbeat(self.talk.nori, self.talk.id, Heartbeat(holder=holder))

    @rule()
    @precondition(lambda self: not self.ended)
    def work(self) -> None:
        self.talk.report("status", {"status": "working", "phase": "coding"})

    @rule(holder=HOLDERS)
    @precondition(lambda self: not self.ended)
    def complete(self, holder: str) -> None:
        unread = [item.id for item in self.pending()]
        try:
            self.talk.finish("completed", holder)
        except MailboxNotEmpty as refused:
            shown = shown_by(refused)
        else:
            shown, self.ended = [], True
        assert shown == unread, "who may not finish is shown why"

    # --- workers, clocks and trouble ---

    @rule()
    def drain(self) -> None:
        self.talk.drain()

    @rule()
    def drain_that_was_killed_before_it_forwarded(self) -> None:
        chat, run = self.world.chat, self.world.chat.store.run(self.talk.id)
        assert run is not None
        snapshot = chat.log.snapshot(self.talk.id)
        if records := chat.log.read(self.talk.id, after=snapshot.stored, limit=3):
            chat.store.put_events(run, records)
            chat.log.mark_stored(self.talk.id, records[-1].seq)

    @rule()
    def forward(self) -> None:
        self.world.chat.delivery.forward(self.talk.id)

    @rule(ms=st.sampled_from([30_000, 60_001]))
    def time_passes_and_the_sweep_comes(self, ms: int) -> None:
        self.world.clock.advance(ms=ms)
        self.world.chat.delivery.sweep()

    @rule()
    @precondition(lambda self: self.said)
    def redis_loses_the_run(self) -> None:
        self.talk.drain()
        before = self.talk.shown()
        client = self.world.chat.redis
        client.delete(*client.keys(f"run:{{{self.talk.id}}}:*"))
        assert self.talk.shown() == before, "the state before is the state folded from the events"

    @rule(outcome=st.sampled_from([RunStatus.FAILED, RunStatus.STOPPED]))
    @precondition(lambda self: not self.ended and len(self.said) > 12)
    def vanish(self, outcome: RunStatus) -> None:
        assert self.world.chat.runs.end(self.talk.id, outcome, "its process is gone")
        self.ended = True

    # --- what holds after every step ---

    def item(self, item_id: str) -> MailItem:
        item = self.world.chat.log.item(self.talk.id, item_id)
        assert item is not None
        return item

    def pending(self) -> list[MailItem]:
        return self.world.chat.log.snapshot(self.talk.id).items

    @invariant()
    def the_log_tells_the_whole_truth(self) -> None:
        records = self.world.chat.live.since(ANNA, self.talk.id, len(self.said))
        fresh = [orjson.loads(record.data) for record in records]
        for event in fresh:
            EVENT.validate_python(event)
        self.said += fresh
        assert [event["seq"] for event in self.said] == list(range(1, len(self.said) + 1))
        states: dict[str, str] = {}
        for event in self.said:
            body, sender = event["body"], event["sender"]["kind"]
            if event["kind"] == "receipt":
                for item_id in body["ids"]:
                    assert states[item_id] not in ENDS, f"{item_id} had come to its end"
                    states[item_id] = body["state"]
            elif event["kind"] in {"message", "answer", "order"} and sender == "person":
                states[body.get("edit_of") or event["id"]] = "accepted"
        items = self.world.chat.redis.hgetall(f"run:{{{self.talk.id}}}:items")
        kept = {item_id.decode(): orjson.loads(item)["state"] for item_id, item in items.items()}
        assert kept == states
        unread = {item_id for item_id, state in states.items() if state in UNREAD}
        assert {item.id for item in self.pending()} == unread
        self.ledger = Counter(states.values())
        assert set(self.ledger) <= UNREAD | ENDS
        assert sorted(self.read_by_model) == sorted(
            item_id for item_id, state in states.items() if state == "in_context"
        )

        self.nothing_is_ended_with_something_unread()

    def nothing_is_ended_with_something_unread(self) -> None:
        status = self.world.chat.log.snapshot(self.talk.id).status
        assert (status in ENDED) == self.ended
        if self.ended:
            assert not set(self.ledger) & UNREAD
        if status is RunStatus.COMPLETED:
            assert "undelivered" not in self.ledger

    def teardown(self) -> None:
        if not self.ended:
            self.world.chat.runs.end(self.talk.id, RunStatus.FAILED, "the test is over")
            self.ended = True
        self.talk.drain()
        self.the_log_tells_the_whole_truth()
        assert set(self.ledger) <= ENDS, "every item has come to an end"
        assert self.talk.stored() == self.talk.events()
        self.world.chat.log.retire(self.talk.id)


def test_no_order_of_acting_loses_doubles_or_strands_a_message(world: World) -> None:
    machine = type("OnThisRedis", (Mailbox,), {"world": world})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=15,
            stateful_step_count=30,
            phases=(
                Phase.generate,
            ),  # a failing story is printed as it is: shrinking takes minutes
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_a_message_against_the_last_step_is_read_or_refused_never_neither(world: World) -> None:
    outcomes: Counter[tuple[bool, bool]] = Counter()
    with ThreadPoolExecutor(2) as pool:
        for number in range(40):
            talk = world.talk(agent_id=("nori", "koji", "miso", "toro")[number % 4])
            barrier = threading.Barrier(2)

            def post(talk: Talk = talk, barrier: threading.Barrier = barrier) -> bool:
                barrier.wait()
                try:
                    talk.post("wait!")
                except RunEnded:
                    return False
                return True

            def finish(talk: Talk = talk, barrier: threading.Barrier = barrier) -> bool:
                barrier.wait()
                try:
                    talk.finish()
                except MailboxNotEmpty:
                    return False
                return True

            posted, finished = pool.submit(post), pool.submit(finish)
            outcomes[posted.result(), finished.result()] += 1
            if not finished.result():
                world.chat.runs.end(talk.id, RunStatus.STOPPED, "enough")
                world.chat.delivery.drain(talk.id)
    assert set(outcomes) <= {(True, False), (False, True)}, outcomes


def test_an_agent_that_finishes_under_fire_has_read_all_that_was_accepted(world: World) -> None:
    talk = world.talk()
    accepted: list[str] = []
    read: list[str] = []

    def speak() -> None:
        with suppress(RunEnded):
            for _ in range(40):
                message = talk.post("and one more thing")
                accepted.append(message["id"])

    def listen() -> None:
        for number in itertools.count():
            holder = f"h{number % 2}"
            talk.drain()
            for item_id in talk.lease(holder, task_end=True):
                talk.confirm(item_id)
                read.append(item_id)
            with suppress(MailboxNotEmpty):
                talk.finish(holder=holder)
                return

    with ThreadPoolExecutor(3) as pool:
        acting = [pool.submit(speak), pool.submit(speak), pool.submit(listen)]
        for actor in acting:
            actor.result(timeout=60)
    assert Counter(read) == Counter(accepted), "each one once, none missing"
    assert [talk.state_of(item_id) for item_id in accepted] == ["in_context"] * len(accepted)


@pytest.mark.parametrize("keep", ["3", "1000"])
def test_the_ledger_of_a_feature_balances(make_world: Callable[..., World], keep: str) -> None:
    """accepted = in_context + queued + leased + cancelled + undelivered + moved, over all runs."""
    world = make_world(STREAM_KEEP=keep)
    accepted = 0
    talks = []
    for generation in range(4):
        talk = world.talk()
        talks.append(talk)
        carried = len(world.chat.log.snapshot(talk.id).items)
        ids = [talk.post(str(number))["id"] for number in range(8)]
        accepted += len(ids) + carried
        talk.drain()
        world.chat.messages.cancel(ANNA, talk.id, ids[7])
        talk.confirm(*talk.lease(limit=3 + generation))
        talk.lease(limit=2)
        if generation < 3:
            talk.finish("failed")
            talk.drain()
    with pytest.raises(TokenRevoked):
        world.chat.tokens.agent(talks[0].id, world.chat.tokens.of(talks[0].id))
    states: Counter[str] = Counter()
    for talk in talks:
        for event in talk.events():
            if event["kind"] == "message":
                states[talk.state_of(event["id"])] += 1
    assert states.total() == accepted
    assert states["in_context"] == 3 + 4 + 5 + 6
    assert states["cancelled"] == 4
    assert states["undelivered"] == 0, "there is a next run"
    assert states["leased"] == 2
    assert states["moved"] == 4 + 7 + 9
