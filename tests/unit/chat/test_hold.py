"""Runs that only cost money: asked to checkpoint, put on hold, and brought back by the next word."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
import pytest

from chat.access import Principal
from chat.channels import project_channel
from chat.errors import (
    IdempotencyMismatch,
    IllegalMove,
    Invalid,
    MailboxNotEmpty,
    RunEnded,
    Unavailable,
)
from chat.events import CHECKPOINT_MAX_BYTES, Action, Checkpoint, OrderBody, SenderKind
from chat.ports import Alive, Record
from chat.requests import Heartbeat, HoldRequest, PostAnswer
from chat.runs import Run, RunStatus
from chat.service.launching import HOLD_GRACE_MS
from tests.crashing import Process, dies
from tests.ecs_world import EcsWorld, runtime_on
from tests.fake_aws import Fault, Refused
from tests.world import ANNA, Talk, World

HOUR_MS = 3_600_000
KEPT = Checkpoint(text="commit 3f2a; next: the tax", step=7, session_id="s-1")


@pytest.fixture
def hourly(make_world: Callable[..., World]) -> World:
    """A world that puts idle runs on hold after an hour."""
    return make_world(HOLD_AFTER_S="3600")


def at_work(world: World) -> Talk:
    """A run that we started and whose agent has been heard of."""
    run_id = world.launched()
    world.work_off()
    agent = Principal(kind=SenderKind.AGENT, id="nori", name="Nori", run_id=run_id)
    talk = Talk(world, run_id, agent)
    talk.report("status", {"status": "working", "phase": "coding"})
    return talk


def beat(talk: Talk) -> None:
    """The agent lives, and the workers do what they do every few seconds."""
    talk.world.chat.runs.heartbeat(talk.nori, talk.id, Heartbeat(holder="h1"))
    talk.world.chat.delivery.watch()
    talk.world.chat.delivery.sweep()
    talk.world.work_off()


def order(talk: Talk, action: Action) -> None:
    talk.world.chat.orders.give(ANNA, talk.id, OrderBody(action=action))


def row(talk: Talk) -> Run:
    run = talk.world.chat.store.run(talk.id)
    assert run is not None
    return run


def asked(talk: Talk) -> list[str]:
    """The ids of the orders to checkpoint."""
    return [
        event["id"]
        for event in talk.events()
        if event["kind"] == "order" and event["body"]["action"] == "checkpoint"
    ]


def obey(talk: Talk) -> None:
    """Take every order that waits, and say that it was obeyed."""
    talk.drain()
    if ids := talk.lease():
        talk.confirm(*ids)


def hold(talk: Talk, *, generation: int | None = None, **said: Any) -> dict[str, Any]:
    if generation is None:
        generation = row(talk).generation
    given = {"checkpoint": KEPT} | said
    request = HoldRequest(holder="h1", generation=generation, **given)
    return talk.world.chat.holding.hold(talk.nori, talk.id, request)


def paused(world: World) -> Talk:
    """A run that a person has paused, and that has obeyed."""
    talk = at_work(world)
    order(talk, Action.PAUSE)
    obey(talk)
    talk.report("status", {"status": "paused"})
    talk.drain()
    return talk


def on_hold(world: World) -> Talk:
    """A run on hold whose process has ended."""
    talk = paused(world)
    assert hold(talk) == {"status": "suspended"}
    talk.drain()
    world.runtime.dead.add(str(row(talk).handle))
    return talk


def status(talk: Talk) -> str:
    return talk.world.chat.log.snapshot(talk.id).status.value


def card(talk: Talk) -> dict[str, Any]:
    return talk.world.chat.runs.cards([row(talk)])[0]


# --- being asked ----------------------------------------------------------------------------------


def test_a_paused_run_is_asked_after_the_limit_once_and_not_before(hourly: World) -> None:
    talk = paused(hourly)
    hourly.clock.advance(ms=HOUR_MS - 1_000)
    beat(talk)
    assert asked(talk) == []
    hourly.clock.advance(ms=2_000)
    beat(talk)
    beat(talk)
    [order_id] = asked(talk)
    assert order_id in talk.lease(), "a held mailbox hands out orders"


def test_two_workers_that_sweep_at_once_ask_once(hourly: World) -> None:
    talk = paused(hourly)
    hourly.clock.advance(ms=HOUR_MS + 1_000)
    hourly.chat.runs.heartbeat(talk.nori, talk.id, Heartbeat(holder="h1"))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: hourly.chat.delivery.sweep(), range(4)))
    assert len(asked(talk)) == 1


def test_who_waits_for_an_answer_is_asked_and_who_works_or_talks_is_not(hourly: World) -> None:
    waiting, working = at_work(hourly), at_work(hourly)
    waiting.ask()
    waiting.report("status", {"status": "waiting"})
    hourly.clock.advance(ms=HOUR_MS // 2)
    waiting.report("message", {"text": "still here"})
    for talk in (waiting, working):
        talk.drain()
    hourly.clock.advance(ms=HOUR_MS // 2 + 1_000)
    for talk in (waiting, working):
        beat(talk)
    assert asked(waiting) == [], "it said something half an hour ago"
    hourly.clock.advance(ms=HOUR_MS // 2)
    for talk in (waiting, working):
        beat(talk)
    assert (len(asked(waiting)), asked(working)) == (1, [])


@pytest.mark.parametrize("limit", ["0", "3600"])
def test_nobody_is_asked_who_could_not_come_back_or_where_it_is_switched_off(
    make_world: Callable[..., World], limit: str
) -> None:
    world = make_world(HOLD_AFTER_S=limit)
    talk = world.talk() if limit == "3600" else paused(world)  # one that somebody attached by hand
    talk.report("status", {"status": "working"})
    talk.report("status", {"status": "paused"})
    talk.drain()
    world.clock.advance(ms=24 * HOUR_MS)
    beat(talk)
    assert asked(talk) == []


def test_a_run_with_something_unread_is_not_asked(hourly: World) -> None:
    talk = paused(hourly)
    talk.post("read me when you go on")
    hourly.clock.advance(ms=2 * HOUR_MS)
    beat(talk)
    assert asked(talk) == []
    assert card(talk)["hold_at"] is None


def test_a_sweep_with_an_old_view_does_not_wake_who_has_just_gone_on_hold(hourly: World) -> None:
    talk = paused(hourly)
    hourly.clock.advance(ms=HOUR_MS + 1)
    old = hourly.chat.log.brief([talk.id])[talk.id]
    hold(talk)

    assert not hourly.chat.holding.ask_if_due(talk.id, old)

    hourly.work_off()
    assert status(talk) == "suspended"


def test_a_hook_that_failed_is_told_once_and_asked_again_after_the_limit(hourly: World) -> None:
    talk = paused(hourly)
    hourly.clock.advance(ms=HOUR_MS + 1_000)
    beat(talk)
    obey(talk)
    for _ in range(2):  # the answer to the first was lost
        assert hold(talk, checkpoint=None, failure="The hook ended with exit code 3.") == {
            "status": "paused"
        }
    said = [event["body"]["text"] for event in talk.events() if event["kind"] == "notice"]
    assert said == [
        "It could not be put on hold, and goes on as it was: The hook ended with exit code 3."
    ]
    hourly.clock.advance(ms=HOUR_MS // 2)
    beat(talk)
    assert len(asked(talk)) == 1
    hourly.clock.advance(ms=HOUR_MS // 2 + 1_000)
    beat(talk)
    assert len(asked(talk)) == 2
    assert hourly.runtime.stopped == []


def test_every_order_that_fails_is_answered_in_the_log_once(hourly: World) -> None:
    talk = paused(hourly)
    hourly.clock.advance(ms=HOUR_MS + 1_000)
    beat(talk)
    obey(talk)
    hold(talk, checkpoint=None, failure="The disk is full.")
    hourly.clock.advance(ms=300_000)
    order(talk, Action.CHECKPOINT)
    obey(talk)
    for _ in range(2):  # the answer to the first was lost
        hold(talk, checkpoint=None, failure="It was not done in 120 s.")
        hourly.clock.advance(ms=1_000)
    said = [event["body"]["text"] for event in talk.events() if event["kind"] == "notice"]
    assert [text.partition(": ")[2] for text in said] == [
        "The disk is full.",
        "It was not done in 120 s.",
    ]


def test_a_failure_that_nobody_asked_for_is_told_once(world: World) -> None:
    talk = paused(world)
    for number in range(3):
        hold(talk, checkpoint=None, failure=f"No. {number}")
        world.clock.advance(ms=1_000)
    said = [event["body"]["text"] for event in talk.events() if event["kind"] == "notice"]
    assert [text.partition(": ")[2] for text in said] == ["No. 0"]


def test_a_person_may_put_it_on_hold_by_hand_but_only_what_is_idle_and_ours(world: World) -> None:
    talk, working, attached = paused(world), at_work(world), world.talk()
    order(talk, Action.CHECKPOINT)
    assert len(asked(talk)) == 1
    for other, words in ((working, "only what is paused"), (attached, "Somebody else")):
        with pytest.raises(IllegalMove, match=words):
            order(other, Action.CHECKPOINT)


# --- the barrier ----------------------------------------------------------------------------------


def test_on_hold_its_questions_stay_its_token_works_and_its_mailbox_is_open(world: World) -> None:
    talk = at_work(world)
    question = talk.ask()
    talk.report("status", {"status": "waiting"})
    assert hold(talk) == {"status": "suspended"}
    assert [one["id"] for one in talk.shown()["questions"]] == [question["id"]]
    assert world.chat.log.token_sha256(talk.id) == row(talk).token_sha256
    assert world.chat.holding.checkpoint(talk.nori, talk.id)["checkpoint"] == KEPT.model_dump()
    assert talk.shown()["held"] is False
    talk.drain()
    assert talk.stored() == talk.events()


def test_a_message_that_came_at_the_last_moment_wins(world: World) -> None:
    talk = at_work(world)
    talk.report("status", {"status": "waiting"})
    message = talk.post("wait, one thing more")
    talk.drain()
    with pytest.raises(MailboxNotEmpty) as refused:
        hold(talk)
    state = refused.value.current_state
    assert state is not None
    [item] = state["items"]
    assert (item["event"]["id"], item["state"]) == (message["id"], "leased")
    assert status(talk) == "waiting"
    talk.confirm(message["id"])
    assert hold(talk) == {"status": "suspended"}


def test_of_a_message_and_a_hold_at_the_same_moment_one_is_first_and_the_message_is_never_lost(
    world: World,
) -> None:
    for number in range(15):
        talk = at_work(world)
        talk.report("status", {"status": "waiting"})
        with ThreadPoolExecutor(2) as pool:
            held = pool.submit(lambda talk=talk: hold(talk))
            posted = pool.submit(talk.post, f"now {number}")
        message = posted.result()
        talk.drain()
        if held.exception() is None:
            assert status(talk) == "suspended"
            assert talk.lease("of the dying one") == []
            assert talk.state_of(message["id"]) == "stored"
            assert ("launch", talk.id) in world.tasks.take()
        else:
            assert isinstance(held.exception(), MailboxNotEmpty)
            assert talk.state_of(message["id"]) in {"stored", "leased"}


def test_a_hold_whose_answer_was_lost_is_the_same_again(world: World) -> None:
    talk = paused(world)
    assert hold(talk) == hold(talk) == {"status": "suspended"}
    assert [e["body"]["status"] for e in talk.events() if e["kind"] == "status"].count(
        "suspended"
    ) == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("token ghp_" + "a" * 36, "looks like a secret"),
        ("é" * (CHECKPOINT_MAX_BYTES // 2 + 1), "at most 32768 bytes"),
    ],
)
def test_a_checkpoint_that_is_too_large_or_holds_a_secret_is_refused(
    world: World, text: str, words: str
) -> None:
    talk = paused(world)
    with pytest.raises(Invalid, match=words):
        hold(talk, checkpoint=Checkpoint(text=text))
    assert status(talk) == "paused"


def test_who_works_or_is_not_the_runs_process_any_more_is_not_put_on_hold(world: World) -> None:
    talk = at_work(world)
    with pytest.raises(IllegalMove):
        hold(talk)
    talk.report("status", {"status": "waiting"})
    with pytest.raises(IllegalMove, match="another process"):
        hold(talk, generation=1)
    assert status(talk) == "waiting"


def test_the_dying_process_can_neither_end_the_run_nor_bring_it_back(world: World) -> None:
    talk = on_hold(world)
    for outcome in ("stopped", "failed", "completed"):
        with pytest.raises(IllegalMove):
            talk.finish(outcome)
    for said in ("starting", "working"):
        with pytest.raises(IllegalMove):
            talk.report("status", {"status": said})
    world.chat.runs.heartbeat(talk.nori, talk.id, Heartbeat(holder="h1"))
    assert status(talk) == "suspended"


# --- while it is on hold --------------------------------------------------------------------------


def test_a_vanished_process_is_no_failure_and_silence_is_no_trouble(world: World) -> None:
    talk = on_hold(world)
    for _ in range(5):
        world.clock.advance(ms=HOUR_MS)
        assert world.chat.delivery.watch() == 0
        swept = world.chat.delivery.sweep()
        assert (swept.unresponsive, swept.launched, swept.retired) == (0, 0, 0)
    world.work_off()
    assert status(talk) == "suspended"
    assert len(world.runtime.started) == 1


def test_a_process_that_was_seen_gone_while_the_hold_was_written_is_no_failure(
    world: World,
) -> None:
    talk = paused(world)
    before = world.chat.log.brief([talk.id])
    hold(talk)
    world.runtime.dead.add(str(row(talk).handle))
    watching = world.chat.delivery._watching
    assert watching._look([row(talk)], before) == 0
    assert status(talk) == "suspended"


def test_a_process_that_does_not_go_is_stopped_by_the_runtime_after_the_grace(world: World) -> None:
    talk = paused(world)
    hold(talk)
    world.chat.delivery.watch()
    assert world.runtime.stopped == []
    world.clock.advance(ms=HOLD_GRACE_MS + 1)
    world.chat.delivery.watch()
    assert world.runtime.stopped == [row(talk).handle]


def test_a_watcher_with_an_old_view_does_not_stop_the_process_that_has_just_come_back(
    world: World,
) -> None:
    talk = on_hold(world)
    old = world.chat.log.brief([talk.id])[talk.id]
    world.runtime.dead.add(row(talk).handle or "")
    talk.post("come back")
    world.work_off()
    world.clock.advance(ms=HOLD_GRACE_MS + 1)
    here = row(talk)
    assert here.generation == 1

    world.chat.delivery._watching._watched(here, old, Alive(running=True))

    assert here.handle not in world.runtime.stopped


def test_a_stop_order_ends_it_without_starting_anything(world: World) -> None:
    talk = on_hold(world)
    order(talk, Action.STOP)
    world.chat.delivery.sweep()
    world.work_off()
    assert status(talk) == "stopped"
    assert len(world.runtime.started) == 1
    with pytest.raises(RunEnded):
        talk.post()


def test_a_stop_order_that_was_broken_off_ends_it_with_the_next_look(world: World) -> None:
    talk = on_hold(world)
    stop = OrderBody(action=Action.STOP)
    assert dies(lambda: Process(world, 3).orders.give(ANNA, talk.id, stop))
    assert [e["kind"] for e in talk.events()][-1] == "order"
    assert world.chat.log.snapshot(talk.id).status is RunStatus.SUSPENDED
    world.chat.delivery.sweep()
    world.work_off()
    assert (status(talk), len(world.runtime.started)) == ("stopped", 1)


@pytest.mark.parametrize("action", [Action.PAUSE, Action.INTERRUPT, Action.CHECKPOINT])
def test_orders_that_have_nothing_to_act_upon_are_refused(world: World, action: Action) -> None:
    talk = on_hold(world)
    with pytest.raises(IllegalMove, match="on hold"):
        order(talk, action)
    assert status(talk) == "suspended"


@pytest.mark.parametrize("action", [Action.PAUSE, Action.INTERRUPT, Action.CHECKPOINT])
def test_an_order_whose_answer_was_lost_is_the_same_again_although_the_run_is_on_hold_by_now(
    world: World, action: Action
) -> None:
    talk = at_work(world)
    talk.report("status", {"status": "waiting"})
    give = world.chat.orders.give
    first = give(ANNA, talk.id, OrderBody(action=action), key="o1")
    obey(talk)
    hold(talk)
    again = give(ANNA, talk.id, OrderBody(action=action), key="o1")
    assert (again.repeated, again.data) == (True, first.data)
    with pytest.raises(IdempotencyMismatch):
        give(ANNA, talk.id, OrderBody(action=action, reason="Lunch."), key="o1")
    with pytest.raises(IllegalMove, match="on hold"):
        give(ANNA, talk.id, OrderBody(action=action), key="o2")


# --- back again -----------------------------------------------------------------------------------


def message(talk: Talk) -> None:
    talk.post("go on, please")


def answer(talk: Talk) -> None:
    [question] = talk.shown()["questions"]
    talk.world.chat.questions.answer(ANNA, talk.id, question["id"], PostAnswer(text="blue"))


def resume(talk: Talk) -> None:
    order(talk, Action.RESUME)


@pytest.mark.parametrize("speak", [message, answer, resume])
def test_the_next_word_starts_the_same_run_again_with_its_checkpoint(
    world: World, speak: Callable[[Talk], None]
) -> None:
    talk = at_work(world)
    talk.ask()
    talk.report("status", {"status": "waiting"})
    hold(talk)
    world.work_off()
    world.runtime.dead.add(str(row(talk).handle))
    speak(talk)
    world.work_off()
    assert world.runtime.started == [talk.id, talk.id]
    assert (row(talk).generation, row(talk).handle) == (1, f"listed:{talk.id}.1")
    assert status(talk) == "starting"
    world.chat.runs.heartbeat(talk.nori, talk.id, Heartbeat(holder="h2"))
    assert status(talk) == "working"
    assert len(talk.lease("h2")) == 1
    assert world.chat.holding.checkpoint(talk.nori, talk.id)["checkpoint"] == KEPT.model_dump()
    assert [world.chat.delivery.watch() for _ in range(2)] == [0, 0]
    assert world.chat.delivery.sweep().unresponsive == 0


def test_a_message_that_was_taken_back_starts_nothing(world: World) -> None:
    talk = on_hold(world)
    said = talk.post("no, wait")
    world.tasks.take()
    world.chat.messages.cancel(ANNA, talk.id, said["id"])
    world.work_off()
    world.chat.delivery.launch(talk.id)
    assert (status(talk), len(world.runtime.started)) == ("suspended", 1)


def test_it_is_not_started_before_the_process_before_is_gone(world: World) -> None:
    talk = paused(world)
    hold(talk)
    talk.drain()
    talk.post()
    world.tasks.take()
    with pytest.raises(Unavailable):
        world.chat.delivery.launch(talk.id)
    assert world.runtime.stopped == [row(talk).handle]
    assert len(world.runtime.started) == 1
    world.runtime.dead.add(str(row(talk).handle))
    world.chat.delivery.sweep()
    world.work_off()
    assert (status(talk), len(world.runtime.started)) == ("starting", 2)


@pytest.mark.parametrize("at", range(24))
def test_a_return_killed_anywhere_is_done_by_the_sweep_and_leaves_one_process(
    world: World, at: int
) -> None:
    talk = on_hold(world)
    said = talk.post()
    talk.drain()
    world.tasks.take()
    died = dies(lambda: Process(world, at).delivery.launch(talk.id))
    world.chat.delivery.watch()
    world.chat.delivery.sweep()
    world.work_off()
    assert (row(talk).generation, row(talk).handle) == (1, f"listed:{talk.id}.1")
    assert status(talk) == "starting"
    assert talk.lease("h2") == [said["id"]]
    if at == 23:
        assert not died, "there are more steps than are tried here"


def test_two_workers_that_bring_it_back_at_once_start_one_generation(world: World) -> None:
    for _ in range(10):
        talk = on_hold(world)
        talk.post()
        talk.drain()
        world.tasks.take()
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _, t=talk: world.chat.delivery.launch(t.id), range(4)))
        world.chat.delivery.sweep()
        world.work_off()
        assert (row(talk).generation, row(talk).handle) == (1, f"listed:{talk.id}.1")
        assert status(talk) == "starting"


def test_what_is_said_while_redis_is_lost_still_brings_it_back(world: World) -> None:
    talk = on_hold(world)
    shown = talk.shown()
    since = card(talk)["since"]
    world.lose_redis()
    assert talk.shown() == shown
    assert card(talk)["since"] == since
    assert world.chat.holding.checkpoint(talk.nori, talk.id)["checkpoint"] == KEPT.model_dump()
    world.chat.delivery.sweep()
    world.work_off()
    assert len(world.runtime.started) == 1
    world.lose_redis()
    talk.post()
    world.work_off()
    assert (status(talk), len(world.runtime.started)) == ("starting", 2)


def test_a_watcher_that_missed_the_whole_hold_looks_at_the_new_process(world: World) -> None:
    talk = paused(world)
    world.chat.delivery.watch()  # it remembers the first process
    hold(talk)
    world.runtime.dead.add(str(row(talk).handle))
    talk.post()
    world.work_off()
    world.chat.runs.heartbeat(talk.nori, talk.id, Heartbeat(holder="h2"))
    assert [world.chat.delivery.watch() for _ in range(2)] == [0, 0]
    assert status(talk) == "working"
    world.runtime.dead.add(str(row(talk).handle))
    world.chat.delivery.watch()
    assert status(talk) == "failed"


def test_a_run_may_go_on_hold_again_and_again(hourly: World) -> None:
    talk = on_hold(hourly)
    for generation in (1, 2, 3):
        talk.post()
        hourly.work_off()
        obey(talk)
        talk.report("status", {"status": "working"})
        talk.report("status", {"status": "waiting"})
        talk.drain()
        hourly.clock.advance(ms=HOUR_MS + 1_000)
        beat(talk)
        obey(talk)
        assert hold(talk, checkpoint=Checkpoint(text=f"the {generation}.")) == {
            "status": "suspended"
        }
        hourly.runtime.dead.add(str(row(talk).handle))
        talk.drain()
        beat(talk)
        kept = hourly.chat.holding.checkpoint(talk.nori, talk.id)["checkpoint"]
        assert (kept["text"], row(talk).generation) == (f"the {generation}.", generation)


def test_who_asks_for_its_checkpoint_costs_one_event_however_long_the_log_is(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    never, talk = at_work(world), on_hold(world)
    talk.post()
    world.work_off()
    for one in (never, talk):
        for _ in range(70):
            one.report("message", {"text": "step by step"})
    read: list[int] = []
    ask_log = world.chat.log.read

    def counted(run_id: str, *, after: int, limit: int) -> list[Record]:
        found = ask_log(run_id, after=after, limit=limit)
        read.append(len(found))
        return found

    monkeypatch.setattr(world.chat.log, "read", counted)
    checkpoint = world.chat.holding.checkpoint
    assert checkpoint(never.nori, never.id) == {"checkpoint": None}
    assert read == []
    assert checkpoint(talk.nori, talk.id) == {"checkpoint": KEPT.model_dump()}
    assert read == [1]
    world.chat.store.update_run(never.id, generation=2)  # it was refused for want of room
    assert checkpoint(never.nori, never.id) == {"checkpoint": None}
    assert read == [1]


def test_a_checkpoint_that_has_another_number_by_now_is_found_all_the_same(world: World) -> None:
    talk = on_hold(world)
    talk.post()
    world.work_off()
    kept_seq = row(talk).kept_seq
    assert kept_seq is not None
    for wrong in (kept_seq - 1, kept_seq + 1_000):
        world.chat.store.update_run(talk.id, kept_seq=wrong)
        assert world.chat.holding.checkpoint(talk.nori, talk.id)["checkpoint"] == KEPT.model_dump()


# --- the card -------------------------------------------------------------------------------------


def test_the_card_says_since_when_and_when_it_will_be_put_on_hold(hourly: World) -> None:
    talk = at_work(hourly)
    assert (card(talk)["since"], card(talk)["hold_at"]) == (None, None)
    order(talk, Action.PAUSE)
    obey(talk)
    talk.report("status", {"status": "paused"})
    assert card(talk)["since"] == "2026-11-22T09:33:00.000Z"
    assert card(talk)["hold_at"] == "2026-11-22T10:33:00.000Z"
    assert card(talk)["cost"] is None, "a process of this machine costs nothing"
    hold(talk)
    assert (card(talk)["status"], card(talk)["hold_at"]) == ("suspended", None)


def test_whoever_looks_is_told_when_the_hour_of_the_hold_is_another_one_and_only_then(
    hourly: World,
) -> None:
    talk, waiting = paused(hourly), at_work(hourly)
    waiting.ask()
    said: list[Any] = []
    waiting.report("status", {"status": "waiting"})
    with hourly.chat.redis.pubsub(ignore_subscribe_messages=True) as heard:
        heard.subscribe(project_channel(row(talk).project_id))
        heard.get_message(timeout=5)

        def told(act: Callable[[], object]) -> bool:
            act()
            found = []
            while (frame := heard.get_message(timeout=0.02)) is not None:
                found.append(orjson.loads(frame["data"])["type"])
            return "runs" in found

        assert card(talk)["hold_at"] == "2026-11-22T10:33:00.000Z"
        assert told(lambda: said.append(talk.post("read me when you go on", key="k1")))
        assert card(talk)["hold_at"] is None
        assert not told(lambda: talk.post("read me when you go on", key="k1"))
        assert told(lambda: hourly.chat.messages.cancel(ANNA, talk.id, said[0]["id"]))
        assert card(talk)["hold_at"] == "2026-11-22T10:33:00.000Z"
        hourly.clock.advance(ms=HOUR_MS + 1_000)
        for one in (talk, waiting):
            one.drain()
        hourly.chat.runs.heartbeat(waiting.nori, waiting.id, Heartbeat(holder="h1"))
        assert told(lambda: beat(talk)), "it was asked"
        obey(talk)
        assert card(talk)["hold_at"] == "2026-11-22T11:33:01.000Z"
        assert told(lambda: hold(talk, checkpoint=None, failure="The disk is full."))
        assert told(lambda: answer(waiting))
        assert told(lambda: order(waiting, Action.INTERRUPT))
        waiting.report("status", {"status": "working"})
        told(lambda: None)
        assert not told(lambda: (waiting.post("go on"), order(waiting, Action.INTERRUPT)))


def test_what_it_costs_stands_still_on_hold_and_goes_on_after_it(
    make_world: Callable[..., World],
) -> None:
    world = make_world(
        RUNTIME="ecs", PRICE_VCPU_HOUR="0.04", PRICE_GIB_HOUR="0.005", PRICE_CURRENCY="€"
    )
    talk = at_work(world)
    world.clock.advance(ms=2 * HOUR_MS)
    assert card(talk)["cost"] == {"currency": "€", "per_hour": 0.06, "so_far": 0.12}
    talk.report("status", {"status": "waiting"})
    assert card(talk)["hold_at"] == "2026-11-22T12:33:00.000Z", "an hour, where nothing is set"
    hold(talk)
    talk.drain()
    world.runtime.dead.add(str(row(talk).handle))
    world.clock.advance(ms=10 * HOUR_MS)
    assert card(talk)["cost"]["so_far"] == 0.12
    talk.post()
    world.work_off()
    world.clock.advance(ms=HOUR_MS)
    assert card(talk)["cost"]["so_far"] == pytest.approx(0.18)


def test_a_run_that_is_stopped_on_hold_has_cost_nothing_since(
    make_world: Callable[..., World],
) -> None:
    world = make_world(RUNTIME="ecs", PRICE_VCPU_HOUR="0.04", PRICE_GIB_HOUR="0.005")
    talk = at_work(world)
    world.clock.advance(ms=2 * HOUR_MS)
    talk.report("status", {"status": "waiting"})
    hold(talk)
    talk.drain()
    world.clock.advance(ms=72 * HOUR_MS)
    order(talk, Action.STOP)
    talk.drain()
    assert status(talk) == "stopped"
    assert card(talk)["cost"]["so_far"] == 0.12


def test_a_task_that_died_on_hold_is_looked_at_once(world: World) -> None:
    talk = on_hold(world)
    seen: list[Any] = []
    describe = world.runtime.describe

    def counted(handles: Any) -> dict[str, Alive]:
        seen.extend(handles)
        return describe(handles)

    world.runtime.describe = counted  # type: ignore[method-assign]  # a fake of the tests' own
    for _ in range(4):
        world.chat.delivery.watch()
    assert seen == [row(talk).handle]


# --- on ECS ---------------------------------------------------------------------------------------


def task_at_work(ecs: EcsWorld) -> tuple[Talk, str]:
    """A run whose task runs and whose agent waits for a person."""
    talk = ecs.launched()
    arn = ecs.aws.task_of(talk.id)
    ecs.aws.move(arn, "RUNNING", event=False)
    ecs.world.chat.runs.heartbeat(talk.nori, talk.id, Heartbeat(holder="h1"))
    talk.report("status", {"status": "waiting"})
    ecs.world.work_off()
    return talk, arn


def test_a_task_on_hold_may_stop_and_the_next_word_gives_the_run_another_one(
    ecs: EcsWorld,
) -> None:
    talk, first = task_at_work(ecs)
    secrets = dict(ecs.aws.secrets)
    hold(talk)
    ecs.beat()
    assert ecs.aws.stopped == [], "it has its time to end by itself"
    ecs.aws.move(first, "STOPPED", exit_code=0)
    ecs.passes(seconds=3_600)
    ecs.hear()
    assert ecs.status(talk.id) == "suspended"
    assert ecs.aws.secrets == secrets, "its token is still needed"

    message = talk.post("go on")
    ecs.world.work_off()
    second = str(row(talk).handle)
    assert second != first
    assert len(ecs.aws.tasks) == 2
    assert ecs.aws.secrets == secrets
    [override] = ecs.aws.tasks[second]["overrides"]["containerOverrides"]
    assert {"name": "OMAKASE_GENERATION", "value": "1"} in override["environment"]
    ecs.aws.move(second, "RUNNING")
    ecs.passes(seconds=30)
    ecs.hear()
    assert ecs.status(talk.id) == "starting"
    ecs.world.chat.runs.heartbeat(talk.nori, talk.id, Heartbeat(holder="h2"))
    assert talk.lease("h2") == [message["id"]]
    talk.confirm(message["id"])
    talk.finish("completed", holder="h2")
    ecs.world.work_off()
    ecs.aws.move(second, "STOPPED", exit_code=0)
    ecs.beat()
    assert ecs.aws.secrets == {}


def test_a_task_that_stays_although_it_is_on_hold_is_stopped_and_waited_for(ecs: EcsWorld) -> None:
    talk, first = task_at_work(ecs)
    hold(talk)
    ecs.passes(seconds=HOLD_GRACE_MS / 1_000 + 1)
    assert [arn for arn, _ in ecs.aws.stopped] == [first]
    talk.post()
    talk.drain()
    ecs.world.tasks.take()
    with pytest.raises(Unavailable):
        ecs.world.chat.delivery.launch(talk.id)
    assert len(ecs.aws.tasks) == 1
    ecs.aws.move(first, "STOPPED", exit_code=137)
    ecs.beat()
    assert len(ecs.aws.tasks) == 2


def test_while_ecs_does_not_say_whether_the_task_before_is_gone_no_other_is_started(
    ecs: EcsWorld,
) -> None:
    talk, first = task_at_work(ecs)
    hold(talk)
    ecs.world.work_off()
    talk.post()
    talk.drain()
    ecs.world.tasks.take()
    throttled = Refused("ThrottlingException", "Rate exceeded")
    ecs.aws.faults.append(Fault("DescribeTasks", throttled, times=2))
    assert ecs.world.chat.delivery.launch(talk.id) is None
    assert (ecs.status(talk.id), len(ecs.aws.tasks)) == ("suspended", 1)
    ecs.aws.move(first, "STOPPED", exit_code=0)
    ecs.beat()
    assert (ecs.status(talk.id), len(ecs.aws.tasks)) == ("starting", 2)


def test_a_run_that_comes_back_waits_for_room_like_any_other(ecs: EcsWorld) -> None:
    talk, first = task_at_work(ecs)
    hold(talk)
    ecs.aws.move(first, "STOPPED", exit_code=0)
    ecs.aws.refused_reason = "RESOURCE:CPU"
    message = talk.post()
    ecs.world.work_off()
    assert ecs.status(talk.id) == "starting"
    assert "The cluster has no CPU left" in ecs.details(talk)[-1]
    ecs.aws.refused_reason = None
    ecs.passes(seconds=8)
    assert row(talk).handle in ecs.aws.tasks
    assert row(talk).generation == 2
    ecs.world.chat.runs.heartbeat(talk.nori, talk.id, Heartbeat(holder="h2"))
    assert talk.lease("h2") == [message["id"]]


def test_no_room_is_told_at_each_return(ecs: EcsWorld) -> None:
    talk, task = task_at_work(ecs)
    no_room = "The cluster has no CPU left"
    for number in (1, 2):
        hold(talk)
        ecs.aws.move(task, "STOPPED", exit_code=0)
        ecs.aws.refused_reason = "RESOURCE:CPU"
        message = talk.post()
        ecs.world.work_off()
        assert sum(no_room in one for one in ecs.details(talk)) == number
        ecs.aws.refused_reason = None
        ecs.passes(seconds=8)
        task = str(row(talk).handle)
        ecs.aws.move(task, "RUNNING", event=False)
        ecs.world.chat.runs.heartbeat(talk.nori, talk.id, Heartbeat(holder="h1"))
        assert talk.lease("h1") == [message["id"]]
        talk.confirm(message["id"])
        talk.report("status", {"status": "waiting"})
        ecs.world.work_off()


def test_a_process_that_a_later_start_took_over_may_go_on_hold_and_an_older_one_may_not(
    ecs: EcsWorld,
) -> None:
    """Two workers started it; the first one's task stayed, under the second one's generation."""
    talk, _ = task_at_work(ecs)
    ecs.world.chat.store.update_run(talk.id, generation=3, back_generation=2)
    with pytest.raises(IllegalMove, match="another process"):
        hold(talk, generation=1)
    assert hold(talk, generation=2) == {"status": "suspended"}


@pytest.mark.parametrize("at", range(24))
def test_on_ecs_too_a_return_killed_anywhere_leaves_one_task(ecs: EcsWorld, at: int) -> None:
    talk, first = task_at_work(ecs)
    hold(talk)
    ecs.world.work_off()
    ecs.aws.move(first, "STOPPED", exit_code=0)
    talk.post()
    talk.drain()
    ecs.world.tasks.take()
    on_ecs = Process(ecs.world, at, runtime=runtime_on(ecs.aws))
    dies(lambda: on_ecs.delivery.launch(talk.id))
    ecs.beat()
    ecs.hear()
    ecs.beat()
    assert len(ecs.aws.tasks) == 2
    assert (row(talk).generation, row(talk).handle in ecs.aws.tasks) == (1, True)
    assert ecs.status(talk.id) == "starting"
