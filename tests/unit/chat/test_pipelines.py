"""Pipelines on a real Redis and SQLite: from role to role, back, on after failures, and in order."""

from __future__ import annotations

import re
from collections.abc import Callable

import orjson
import pytest

from chat.access import Level
from chat.channels import project_channel
from chat.errors import Conflict, Forbidden, IdempotencyMismatch, Invalid, NotFound
from chat.events import Action, EventJson, OrderBody
from chat.requests import (
    AskQuestion,
    ComesAfter,
    Report,
    ReportedEvent,
    RestartRole,
    SkipRole,
    StartPipeline,
)
from chat.roles import ROLES
from chat.runs import Role, RunStatus
from tests.pipelines import Line, feature, started
from tests.world import ANNA, World, person


def restart(line: Line, role: str, note: str | None = None, *, key: str | None = None) -> bool:
    request = RestartRole(role=Role(role), note=note)
    _, repeated = line.world.chat.pipelines.restart(ANNA, line.feature_id, request, key=key)
    line.world.work_off()
    return repeated


def skip(line: Line, role: str) -> None:
    line.world.chat.pipelines.skip(ANNA, line.feature_id, SkipRole(role=Role(role)))
    line.world.work_off()


def stop(line: Line) -> None:
    run_id = line.current()
    line.world.chat.orders.give(ANNA, run_id, OrderBody(action=Action.STOP))
    line.end("stopped")


def test_a_feature_goes_from_the_architect_to_the_tester_and_is_done(world: World):
    line = started(world)
    seen = []
    while line.state() == "running":
        run = world.chat.runs.get(ANNA, line.current()).run
        seen.append((run.role, run.agent_name, run.pipeline, run.turn))
        line.end(summary=f"The {run.role} is through.")
    assert seen == [
        ("architect", "Miso", 1, 1),
        ("coder", "Nori", 1, 2),
        ("reviewer", "Koji", 1, 3),
        ("tester", "Toro", 1, 4),
    ]
    assert line.state() == "done"
    assert world.runtime.started == [run.id for run in line.runs()]
    assert world.chat.store.projects()[0].places == ()


def test_the_hand_over_is_the_first_thing_in_the_mailbox_and_says_what_the_one_before_left(
    world: World,
):
    line = started(world)
    first = line.read()
    assert [event["sender"]["kind"] for event in first] == ["system"]
    assert (
        "Miso, you are the architect of 'Cart' (pipeline 1, turn 1). You begin."
        in (first[0]["body"]["text"])
    )
    assert "> Add, remove, total." in first[0]["body"]["text"]
    miso = line.agent(line.current())
    said = ReportedEvent(key="k", kind="message", body={"text": "Cents, never floats."})
    world.chat.agents.report(miso, line.current(), Report(events=[said]))
    line.end(summary="The plan: cart.py, three functions.")
    line.post("and call it total_price")
    text = line.events(line.current())[1]["body"]["text"]
    assert "You take over from Miso." in text
    assert "Miso (architect) is done:\n> The plan: cart.py, three functions." in text
    assert "Miso's last words:\n> Cents, never floats." in text
    assert line.read()[0]["seq"] == 2


def test_the_reviewer_sends_it_back_and_the_coder_gets_the_review(world: World):
    line = started(world)
    line.end()
    line.end(summary="Written.")
    line.end(summary="Round the total, not the lines.", verdict="changes_requested")
    assert line.turns()[-2:] == [("reviewer", "next"), ("coder", "sent_back")]
    text = line.read()[0]["body"]["text"]
    assert "Koji asks for changes (round 1 of 3)." in text
    assert "Koji (reviewer) asks for changes:\n> Round the total, not the lines." in text
    line.end(summary="Rounded.")
    text = line.read()[0]["body"]["text"]
    assert "Nori (coder) is done:\n> Rounded." in text
    line.end(verdict="approved")
    line.end()
    assert line.state() == "done"
    assert [turn["round"] for turn in line.view()["turns"]] == [1, 1, 1, 2, 2, 2]


def test_after_the_last_round_the_feature_is_failing_and_people_are_told_once(world: World):
    line = started(world, skip=["architect"])
    line.end()
    for _ in range(ROLES.pipeline.rounds):
        line.end(verdict="changes_requested")
        line.end()
    last = line.current()
    line.end(verdict="changes_requested")
    for _ in range(3):
        world.chat.pipelines.sweep()
        world.chat.pipelines.advance(line.feature_id)
        world.work_off()
    assert line.state() == "failing"
    errors = [event for event in line.events(last) if event["kind"] == "error"]
    assert [error["body"]["summary"] for error in errors] == [
        "The feature 'Cart' is failing. Koji asks for changes again, after 3 rounds."
    ]
    assert world.chat.store.last_seq(last) == line.events(last)[-1]["seq"]
    assert world.chat.store.projects()[0].places == ()


def test_a_failed_role_is_tried_once_more_with_what_nobody_has_read(world: World):
    line = started(world, skip=["architect"])
    line.post("call it total_price")
    world.work_off()
    first = line.current()
    line.end("failed", summary="The disk is full.")
    mail = line.read()
    assert "The run before yours failed." in mail[0]["body"]["text"]
    assert "Nori (coder) failed:\n> The disk is full." in mail[0]["body"]["text"]
    assert [event["body"]["text"] for event in mail[1:]] == ["call it total_price"]
    assert mail[1]["sender"]["name"] == "Anna"
    moved = [
        e for e in line.events(first) if e["kind"] == "receipt" and e["body"]["state"] == "moved"
    ]
    assert [one["body"]["moved_to"]["run_id"] for one in moved] == [line.current()]
    line.end("failed", summary="Full again.")
    world.chat.pipelines.sweep()
    assert line.state() == "failing"
    assert line.turns() == [("coder", "next"), ("coder", "retry")]


def test_unread_words_go_to_the_next_role_when_their_own_is_skipped(world: World):
    line = started(world, skip=["architect"])
    line.post("call it total_price")
    world.work_off()
    line.end("failed")
    line.post("and round the total")
    world.work_off()
    line.end("failed")
    assert line.state() == "failing"
    skip(line, "coder")
    assert line.turns()[-1] == ("reviewer", "next")
    assert [event["body"]["text"] for event in line.read()[1:]] == [
        "call it total_price",
        "and round the total",
    ]


def test_an_open_question_goes_on_with_its_agent_and_not_with_another_role(world: World):
    line = started(world, skip=["architect"])
    ask = AskQuestion(handle="q", text="Which?")
    world.chat.questions.ask(line.agent(line.current()), line.current(), ask)
    line.end("failed")
    assert [one["body"]["text"] for one in open_questions(line)] == ["Which?"]
    line.end("failed")
    skip(line, "coder")
    assert line.turns()[-1] == ("reviewer", "next")
    assert open_questions(line) == []


def open_questions(line: Line) -> list[EventJson]:
    return line.world.chat.questions.list(ANNA, line.current())


def test_a_stopped_role_waits_for_a_person_and_lets_the_next_pipeline_in(world: World):
    line = started(world)
    stop(line)
    assert (line.state(), line.view()["reason"]) == (
        "waiting",
        "Miso was stopped: start a role again, or skip it.",
    )
    assert world.chat.store.projects()[0].places == ()
    skip(line, "architect")
    assert line.turns()[-1] == ("coder", "next")
    assert line.state() == "running"


def test_a_role_that_was_ended_from_outside_is_tried_again_as_one_that_failed(world: World):
    line = started(world)
    line.end("stopped", summary="The run was ended from outside (SIGTERM).")
    assert line.turns() == [("architect", "next"), ("architect", "retry")]
    text = line.read()[0]["body"]["text"]
    assert "Miso (architect) failed:\n> The run was ended from outside (SIGTERM)." in text


def test_a_role_is_started_again_by_hand_with_a_note_and_the_rest_follows(world: World):
    line = started(world, skip=["tester"])
    line.end()
    line.end()
    line.end()
    assert line.state() == "done"
    assert not restart(line, "coder", "Round the total, not the lines.", key="k1")
    assert restart(line, "coder", "Round the total, not the lines.", key="k1")
    for role, note in (("architect", None), ("coder", "Round the lines.")):
        with pytest.raises(IdempotencyMismatch):
            restart(line, role, note, key="k1")
    text = line.read()[0]["body"]["text"]
    assert "Anna starts you again." in text
    assert "Anna says:\n> Round the total, not the lines." in text
    line.end()
    assert line.turns()[-2:] == [("coder", "by_hand"), ("reviewer", "next")]
    line.end()
    with pytest.raises(IdempotencyMismatch):
        restart(line, "architect", key="k1")
    assert line.state() == "done"
    assert not restart(line, "reviewer", key="k2")
    restart_of_open = RestartRole(role=Role.CODER)
    with pytest.raises(Conflict, match="Koji is at work: stop it first"):
        world.chat.pipelines.restart(ANNA, line.feature_id, restart_of_open)


def test_a_role_at_work_is_not_skipped(world: World):
    line = started(world)
    with pytest.raises(Conflict, match="Miso is at work: stop it first, then skip it"):
        skip(line, "architect")
    skip(line, "coder")
    line.end()
    assert line.turns()[-1] == ("reviewer", "next")


def test_one_pipeline_of_a_feature_at_a_time_and_the_same_key_is_the_same_pipeline(world: World):
    line = feature(world)
    line.start(key="k1")
    shown, repeated = world.chat.pipelines.start(ANNA, line.feature_id, _wish(), key="k1")
    assert (shown["number"], repeated) == (1, True)
    with pytest.raises(IdempotencyMismatch):
        world.chat.pipelines.start(ANNA, line.feature_id, _wish("tester"), key="k1")
    with pytest.raises(Conflict, match="under way"):
        line.start(key="k2")
    with pytest.raises(Invalid, match="At least one role"):
        line.start(skip=ROLES.line)
    world.work_off()
    for _ in range(4):
        line.end()
    assert line.start(key="k2")["number"] == 2
    world.work_off()
    assert line.state() == "running"
    assert len(line.runs()) == 5


def _wish(*skipped: str) -> StartPipeline:
    return StartPipeline(skip=[Role(role) for role in skipped])


def test_no_more_pipelines_of_a_project_run_at_a_time_than_the_file_says(world: World):
    limit = ROLES.pipeline.at_a_time
    lines = [started(world, f"F{number}") for number in range(limit + 2)]
    assert [line.state() for line in lines] == ["running"] * limit + ["waiting"] * 2
    assert lines[-1].view()["reason"] == "Other pipelines of the project go first."
    for _ in range(4):
        lines[1].end()
    assert [line.state() for line in lines[limit:]] == ["running", "waiting"]
    stop(lines[0])
    assert [line.state() for line in lines[limit:]] == ["running", "running"]


def test_a_feature_waits_until_those_before_it_are_done_and_holds_nobody_up(world: World):
    cart = feature(world, "Cart")
    pay = started(world, "Pay", after=[cart.feature_id])
    others = [started(world, f"F{number}") for number in range(ROLES.pipeline.at_a_time - 1)]
    assert pay.state() == "waiting"
    assert pay.view()["after"] == [{"feature_id": cart.feature_id, "name": "Cart", "done": False}]
    assert [line.state() for line in others] == ["running"] * len(others)
    cart.start()
    world.work_off()
    for _ in range(4):
        assert pay.state() == "waiting"
        cart.end()
    assert pay.state() == "running"
    assert pay.view()["after"][0]["done"]


def test_features_may_not_wait_for_one_another_in_a_circle(world: World):
    cart = feature(world, "Cart")
    pay = feature(world, "Pay", after=[cart.feature_id])
    ship = feature(world, "Ship", after=[pay.feature_id])
    put = world.chat.pipelines.put_after
    said = (
        "They would wait for one another: this feature after 'Ship' after 'Pay' after this feature."
    )
    with pytest.raises(Invalid, match=re.escape(said)):
        put(ANNA, cart.feature_id, ComesAfter(after=[ship.feature_id]))
    with pytest.raises(Invalid, match="this feature after this feature"):
        put(ANNA, cart.feature_id, ComesAfter(after=[cart.feature_id]))
    with pytest.raises(Invalid, match="no feature of this project"):
        put(ANNA, cart.feature_id, ComesAfter(after=["ftr_unknown"]))
    with pytest.raises(Invalid, match="no feature of this project"):
        feature(world, "Odd", after=["ftr_unknown"])
    assert put(ANNA, ship.feature_id, ComesAfter(after=[]))["after"] == []
    assert (
        put(ANNA, cart.feature_id, ComesAfter(after=[ship.feature_id]))["after"][0]["name"]
        == "Ship"
    )


def test_who_may_not_give_orders_may_look_at_a_pipeline_and_no_more(world: World):
    line = feature(world)
    eve = person("Eve", Level.COMMENTER)
    assert world.chat.pipelines.view(eve, line.feature_id)["state"] == "idle"
    with pytest.raises(Forbidden):
        line.start(by=eve)
    assert line.start(by=person("Otto", Level.OPERATOR))["number"] == 1


def test_a_role_that_is_too_long_at_work_is_ended_and_tried_again_but_not_while_it_asks(
    world: World,
):
    line = started(world)
    world.chat.runs.move(line.current(), RunStatus.WAITING)
    world.work_off()
    world.clock.advance(ms=1_000 * 60 * 60 * 24)
    world.chat.pipelines.sweep()
    assert line.state() == "waiting"
    world.chat.runs.move(line.current(), RunStatus.WORKING)
    world.work_off()
    world.chat.pipelines.sweep()
    world.work_off()
    first = line.current()
    assert line.state() == "running"
    world.clock.advance(ms=1_000 * 60 * (ROLES.role[Role.ARCHITECT].timeout_min + 1))
    world.chat.pipelines.sweep()
    world.work_off()
    assert line.turns() == [("architect", "next"), ("architect", "retry")]
    ended = line.view()["turns"][0]
    assert (ended["result"], ended["run_id"]) == ("failed", first)
    assert "was at work for 60 minutes" in ended["summary"]
    assert world.runtime.stopped == [f"listed:{first}"]


def test_a_run_that_somebody_made_by_hand_is_no_part_of_the_pipeline(world: World):
    line = started(world)
    world.feature_id = line.feature_id
    talk = world.talk(agent_id="nori")
    talk.drain()
    talk.lease()
    talk.finish()
    talk.drain()
    assert ("advance", line.feature_id) not in world.tasks.take()
    assert line.turns() == [("architect", "next")]


def test_who_fetches_a_pipeline_again_whenever_told_to_sees_what_stands(world: World):
    project = world.chat.store.projects()[0]
    with world.chat.redis.pubsub(ignore_subscribe_messages=True) as heard:
        heard.subscribe(project_channel(project.id))
        heard.get_message(timeout=5)

        def told() -> set[str]:
            found = set()
            while (message := heard.get_message(timeout=0.02)) is not None:
                frame = orjson.loads(message["data"])
                if frame["type"] == "features":
                    found.add(frame["feature_id"])
            return found

        line = feature(world)
        assert told() == {line.feature_id}
        page = line.view()

        def all_steps(act: Callable[[], object]) -> None:
            """Do it and all that follows, as a page that fetches when it is told sees it."""
            nonlocal page
            before, todo = page, [act]
            while todo:
                todo.pop()()
                if line.feature_id in told():
                    page = line.view()
                todo += [lambda task=task: world.work(*task) for task in world.tasks.take()]
            assert page == line.view() != before

        all_steps(line.start)
        all_steps(lambda: line.end_run(line.current(), "completed", summary="planned"))
        agent = line.agent(line.current())
        asks = ReportedEvent(key="w", kind="status", body={"status": "waiting"})
        report = Report(events=[asks])
        all_steps(lambda: world.chat.agents.report(agent, line.current(), report))
        assert line.view()["turns"][-1]["result"] == "asking"
        all_steps(lambda: line.end_run(line.current(), "completed"))
        all_steps(lambda: line.end_run(line.current(), "completed", verdict="changes_requested"))
        all_steps(lambda: line.end_run(line.current(), "failed"))
        all_steps(lambda: line.end_run(line.current(), "failed"))
        assert line.state() == "failing"
        all_steps(
            lambda: world.chat.pipelines.skip(ANNA, line.feature_id, SkipRole(role=Role.CODER))
        )
        other = feature(world, "Pay")
        told()
        before = ComesAfter(after=[other.feature_id])
        all_steps(lambda: world.chat.pipelines.put_after(ANNA, line.feature_id, before))


def test_all_pipelines_of_a_project_are_shown_at_once(world: World):
    project = world.chat.store.projects()[0]
    cart, pay = started(world), feature(world, "Pay")
    shown = {one["feature_id"]: one for one in world.chat.pipelines.of_project(ANNA, project.id)}
    assert shown[cart.feature_id] == cart.view()
    assert shown[pay.feature_id] == pay.view()
    assert len(shown) == 3  # and the world's own
    with pytest.raises(NotFound):
        world.chat.pipelines.of_project(ANNA, "prj_nowhere")


def test_a_log_that_redis_lost_before_the_agent_was_started_has_its_hand_over_once(world: World):
    line = feature(world)
    line.start()
    world.chat.pipelines.advance(line.feature_id)
    world.chat.delivery.drain(line.current())
    world.lose_redis()
    world.tasks.take()
    world.chat.delivery.sweep()
    world.chat.pipelines.sweep()
    world.work_off()
    assert len(line.read()) == 1
    assert world.runtime.started == [line.current()]


def test_looking_at_a_run_before_its_log_is_there_does_not_cost_it_its_hand_over(world: World):
    line = feature(world)
    line.start()
    project = world.chat.store.projects()[0]
    world.chat.pipelines.advance(line.feature_id)
    world.tasks.take()
    run_id = line.current()
    world.lose_redis()  # nothing is stored yet: the row is there, and no log
    world.chat.runs.list(ANNA, project_id=project.id)
    world.chat.log.snapshot(run_id)
    world.chat.pipelines.sweep()
    world.work_off()
    assert len(line.read()) == 1
