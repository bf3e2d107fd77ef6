"""What stands when a run ends before its work is done goes to the agent's next run, and both logs say so."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from chat.events import Action, OrderBody
from chat.requests import AskQuestion, CreateRun, PostAnswer
from chat.runs import RunStatus
from tests.crashing import Process, dies
from tests.world import ANNA, Talk, World, person

BEN = person("Ben")


def check_in(talk: Talk, steps: int) -> str:
    order = OrderBody(action=Action.CHECK_IN, every_steps=steps)
    event: dict[str, Any] = talk.world.chat.orders.give(ANNA, talk.id, order).event
    return str(event["id"])


def of(talk: Talk, kind: str) -> list[dict[str, Any]]:
    return [event for event in talk.events() if event["kind"] == kind]


def handovers(talk: Talk) -> list[str]:
    return [e["body"]["text"] for e in of(talk, "notice") if e["body"]["about"] == "handover"]


def broken_off(world: World, *, read: bool = False) -> Talk:
    """A run that failed with two unread messages, an open question and a standing order."""
    old = world.talk()
    order = check_in(old, 3)
    old.drain()
    if read:
        assert old.lease() == [order]
        old.confirm(order)
    old.post("one")
    old.post("two", by=BEN)
    old.ask("which-db")
    old.drain()
    old.finish("failed")
    old.drain()
    return old


@pytest.mark.parametrize("read", [True, False])
def test_mail_questions_and_standing_orders_move_and_both_logs_say_so_with_numbers_and_names(
    world: World, *, read: bool
) -> None:
    old = broken_off(world, read=read)

    new = world.talk()

    what = "2 unseen messages (Anna, Ben), 1 open question and the order to check in every 3 steps"
    assert handovers(old) == [f"Moved to Nori's next run {new.id}: {what}."]
    assert handovers(new) == [f"From Nori's last run {old.id}, which has failed: {what}."]
    [question] = new.shown()["questions"]
    assert question["body"]["handle"] == "which-db"
    assert question["sender"]["name"] == "Nori"
    [order] = of(new, "order")
    assert order["body"]["every_steps"] == 3
    assert order["sender"]["id"] == ANNA.id
    original = of(old, "order")[0]["id"]
    assert old.state_of(original) == ("in_context" if read else "moved")
    new.drain()
    assert order["id"] in new.lease()


def test_the_new_run_finds_its_question_and_the_answer_by_its_handle(world: World) -> None:
    broken_off(world)
    new = world.talk()
    [question] = new.shown()["questions"]
    world.chat.questions.answer(ANNA, new.id, question["id"], PostAnswer(text="Postgres"))

    asked = new.ask("which-db")

    assert asked["id"] == question["id"]
    found = world.chat.questions.by_handle(new.nori, new.id, "which-db")
    assert found["answer"]["body"]["text"] == "Postgres"


def test_what_has_moved_moves_on_with_its_new_run_and_never_twice(world: World) -> None:
    broken_off(world)
    second = world.talk()
    second.finish("stopped")
    second.drain()
    third, fourth = world.talk(), world.talk()
    assert [len(of(third, kind)) for kind in ("question", "order", "message")] == [1, 1, 2]
    assert [len(of(fourth, kind)) for kind in ("question", "order", "message")] == [0, 0, 0]


def test_work_that_is_complete_leaves_no_questions_and_no_orders(world: World) -> None:
    broken_off(world)
    second = world.talk()
    second.drain()
    second.confirm(*second.lease(task_end=True))
    second.finish("completed")
    second.drain()
    third = world.talk()
    assert [len(of(third, kind)) for kind in ("question", "order", "notice")] == [0, 0, 0]


def test_an_order_to_check_in_no_more_ends_it_for_the_next_run_as_well(world: World) -> None:
    old = world.talk()
    check_in(old, 3)
    check_in(old, 0)
    old.drain()
    old.finish("failed")
    old.drain()
    assert of(world.talk(), "order") == []


def test_a_newer_order_in_the_new_run_stands(world: World) -> None:
    old, new = world.talk(), world.talk()
    check_in(old, 3)
    check_in(new, 7)
    old.drain()
    old.finish("failed")
    old.drain()
    world.chat.delivery.sweep()
    assert [event["body"]["every_steps"] for event in of(new, "order")] == [7]


@pytest.mark.parametrize("way", ["repeated", "swept"])
@pytest.mark.parametrize("at", range(0, 84, 3))
def test_a_creation_killed_anywhere_moves_everything_once(world: World, way: str, at: int) -> None:
    old = broken_off(world)
    request = CreateRun(feature_id=world.feature_id, agent_id="nori")
    died = dies(lambda: Process(world, at).runs.create(ANNA, request, key="k"))
    assert died or at > 40, "the story is longer than this"
    if way == "repeated":
        world.chat.runs.create(ANNA, request, key="k")
    world.chat.delivery.sweep()
    world.work_off()
    rows = world.chat.store.runs(feature_id=world.feature_id)
    alive = [row.id for row in rows if row.id != old.id]
    if not alive:
        assert at < 6, "nothing was made, nothing has moved"
        return
    new = Talk(world, alive[0], old.nori)
    assert [len(of(new, kind)) for kind in ("question", "order", "message")] == [1, 1, 2]
    assert (len(handovers(old)), len(handovers(new))) == (1, 1)
    assert "2 unseen messages (Anna, Ben), 1 open question and the order" in handovers(old)[0]


def test_new_runs_made_at_once_share_it_and_double_nothing(world: World) -> None:
    broken_off(world)
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: world.talk(), range(4)))
    world.chat.delivery.sweep()
    for kind, count in (("question", 1), ("order", 1), ("message", 2)):
        assert sum(len(of(one, kind)) for one in made) == count


def test_a_question_promised_to_a_run_that_ended_too_early_goes_to_the_next(world: World) -> None:
    old = broken_off(world)
    request = CreateRun(feature_id=world.feature_id, agent_id="nori")
    for at in range(20, 60, 4):
        dies(lambda at=at: Process(world, at).runs.create(ANNA, request))  # type: ignore[misc]
        for row in world.chat.store.runs(feature_id=world.feature_id):
            world.chat.runs.end(row.id, RunStatus.FAILED, "gone")
    last = world.talk()
    assert [len(of(last, kind)) for kind in ("question", "order", "message")] == [1, 1, 2]
    assert old.id != last.id


def test_an_answer_that_nobody_read_moves_as_words_with_its_question(world: World) -> None:
    old = world.talk()
    options = [{"value": "pg", "label": "Postgres"}, {"value": "my", "label": "MySQL"}]
    question = old.ask("which-db", options=options)
    world.chat.questions.answer(ANNA, old.id, question["id"], PostAnswer(value="pg"))
    old.drain()
    old.finish("failed")
    old.drain()

    new, toro = world.talk(), world.talk(agent_id="toro")

    [moved] = of(new, "message")
    assert moved["body"]["text"] == "> Which?\n\nPostgres"
    assert moved["sender"]["id"] == ANNA.id
    [answer] = of(old, "answer")
    assert old.state_of(answer["id"]) == "moved"
    assert of(toro, "message") == []
    new.drain()
    assert new.lease() == [moved["id"]]


def test_a_long_question_costs_its_answer_no_word(world: World) -> None:
    old = world.talk()
    request = AskQuestion(handle="q", text="Which of them? " * 2_000)
    question = world.chat.questions.ask(old.nori, old.id, request)["event"]
    words = "w" * 32_000
    world.chat.questions.answer(ANNA, old.id, question["id"], PostAnswer(text=words))
    old.drain()
    old.finish("failed")
    old.drain()
    [moved] = of(world.talk(), "message")
    assert moved["body"]["text"].endswith(words)
