"""What workers do, done twice, at once, and broken off between any two steps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from chat.errors import IdempotencyMismatch, Unavailable
from chat.events import Action, Kind, OrderBody
from chat.ports import Log, Record
from chat.requests import CreateRun, Heartbeat
from chat.runs import RunStatus
from chat.service.reconcile import reconcile
from tests.crashing import Process, dies
from tests.world import ANNA, Talk, World


def told(talk: Talk, state: str) -> list[str]:
    """The ids that the log's receipts say have come to `state`, as often as they say so."""
    return [
        item_id
        for event in talk.events()
        if event["kind"] == "receipt" and event["body"]["state"] == state
        for item_id in event["body"]["ids"]
    ]


def test_a_drain_stores_everything_once_and_in_order(talk: Talk) -> None:
    for number in range(1_200):
        talk.report("log", {"first_line": number + 1, "lines": [{"text": str(number)}]})
    talk.drain()
    assert [event["seq"] for event in talk.stored()] == list(range(1, 1_202))
    assert talk.drain() == 0


def test_two_drains_at_once_leave_one_history_and_one_receipt(talk: Talk) -> None:
    ids = [talk.post(str(number))["id"] for number in range(300)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: talk.drain(), range(6)))
    talk.drain()
    assert talk.stored() == talk.events()
    assert told(talk, "stored") == ids


def test_messages_that_arrive_during_drains_are_all_stored(talk: Talk) -> None:
    with ThreadPoolExecutor(4) as pool:
        posts = [pool.submit(talk.post, str(number)) for number in range(200)]
        while not all(post.done() for post in posts):
            talk.world.work_off()
    talk.world.work_off()
    assert [event["seq"] for event in talk.stored()] == list(range(1, len(talk.events()) + 1))


def test_one_drain_is_queued_at_a_time_however_many_messages_come(talk: Talk) -> None:
    talk.world.tasks.take()
    talk.drain()
    for _ in range(50):
        talk.post()
    assert talk.world.tasks.take() == [("store", talk.id)]


@pytest.mark.parametrize("at", range(14))
def test_a_worker_killed_anywhere_in_a_drain_is_made_good_by_the_sweep(
    world: World, at: int
) -> None:
    talk = world.talk()
    ids = [talk.post(str(number))["id"] for number in range(3)]
    talk.report("status", {"status": "working"})
    died = dies(lambda: Process(world, at).delivery.drain(talk.id))
    assert died or at > 8, "the story is longer than this"
    for _ in range(2):
        world.chat.delivery.sweep()
        world.work_off()
    assert talk.stored() == talk.events()
    assert told(talk, "stored") == ids
    assert talk.lease() == ids
    row = world.chat.store.run(talk.id)
    assert row is not None
    assert row.status is RunStatus.WORKING


def test_a_redelivered_drain_forwards_what_the_killed_one_had_stored(talk: Talk) -> None:
    message = talk.post()
    chat = talk.world.chat
    run = chat.store.run(talk.id)
    assert run is not None
    records = chat.log.read(talk.id, after=0, limit=10)
    chat.store.put_events(run, records)
    chat.log.mark_stored(talk.id, records[-1].seq)
    talk.drain()
    assert talk.lease() == [message["id"]]


def test_a_late_drain_cannot_bring_an_ended_run_back_to_life(world: World) -> None:
    talk = world.talk()
    talk.report("status", {"status": "working"})
    talk.finish()
    talk.drain()
    world.chat.store.update_run(talk.id, status="working", ended_at=None)  # the late one's write
    world.chat.delivery.sweep()
    row = world.chat.store.run(talk.id)
    assert row is not None
    assert row.status is RunStatus.COMPLETED
    assert row.ended_at == talk.events()[-1]["at"]
    assert talk.id not in world.chat.log.active()


def test_a_trim_drops_only_what_is_stored_and_a_lease_still_has_its_words(
    make_world: Callable[..., World],
) -> None:
    talk = make_world(STREAM_KEEP="1").talk()
    message = talk.post("the first words")
    question = talk.ask()
    talk.report("step", {"step": 1, "name": "pytest", "state": "started"})
    for number in range(20):
        talk.report("log", {"first_line": number + 1, "lines": [{"text": "x"}]})
    chat = talk.world.chat
    chat.log.trim(talk.id, keep=1)
    assert len(chat.log.read(talk.id, after=0, limit=100)) == 24, "nothing is stored yet"
    talk.drain()
    assert chat.log.read(talk.id, after=0, limit=100)[0].seq > message["seq"]
    [item] = talk.lease_items()
    assert item["event"]["body"]["text"] == "the first words"
    shown = talk.shown()
    assert [one["id"] for one in shown["questions"]] == [question["id"]]
    assert shown["step"]["body"]["name"] == "pytest"
    assert chat.runs.list(ANNA, feature_id=talk.world.feature_id)[0]["step"]["name"] == "pytest"
    assert [event["seq"] for event in talk.events()] == list(range(1, len(talk.events()) + 1))


@pytest.mark.parametrize("keep", ["1", "1000"])
@pytest.mark.parametrize("stored", [True, False])
def test_pages_go_through_the_whole_log_both_ways_wherever_it_stands(
    make_world: Callable[..., World], *, keep: str, stored: bool
) -> None:
    talk = make_world(STREAM_KEEP=keep).talk()
    for number in range(30):
        talk.post(str(number))
        if number == 15:
            talk.drain()
    if stored:
        talk.drain()
    everything = [event["seq"] for event in talk.events()]
    page = talk.world.chat.messages.page
    for limit in (1, 4, 7, 100):
        forth: list[int] = []
        while (found := page(ANNA, talk.id, after=forth[-1] if forth else 0, limit=limit)).records:
            forth += [record.seq for record in found.records]
            assert found.has_more == (forth[-1] < everything[-1])
        back: list[int] = []
        while (found := page(ANNA, talk.id, before=back[0] if back else None, limit=limit)).records:
            back = [record.seq for record in found.records] + back
            assert found.has_more == (back[0] > 1)
        assert (forth, back) == (everything, everything)


def test_pages_by_kind_and_sender_hold_what_is_not_stored_yet(talk: Talk) -> None:
    for number in range(6):
        talk.post(str(number))
        talk.report("message", {"text": "yes"})
        if number == 2:
            talk.drain()
    page = talk.world.chat.messages.page
    for kinds, sender, count in (
        (frozenset({Kind.MESSAGE}), ANNA.id, 6),
        (frozenset({Kind.MESSAGE}), None, 12),
        (frozenset({Kind.RECEIPT}), None, 1),
        (None, "nori", 6),
    ):
        every = page(ANNA, talk.id, after=0, limit=50, kinds=kinds, sender_id=sender)
        newest = page(ANNA, talk.id, limit=50, kinds=kinds, sender_id=sender)
        few = page(ANNA, talk.id, limit=1, kinds=kinds, sender_id=sender)
        assert (len(every.records), every.has_more) == (count, False)
        assert (newest.records, newest.has_more) == (every.records, False)
        assert (few.records, few.has_more) == (every.records[-1:], count > 1)
        between = page(
            ANNA, talk.id, after=every.records[0].seq, before=every.records[-1].seq, limit=50,
            kinds=kinds, sender_id=sender,
        )  # fmt: skip
        assert between.records == every.records[1:-1]


def test_what_the_store_has_beyond_its_cursor_may_have_holes_and_is_not_trusted(talk: Talk) -> None:
    talk.drain()
    for number in range(5):
        talk.post(str(number))
    chat = talk.world.chat
    run = chat.store.run(talk.id)
    assert run is not None
    records = chat.log.read(talk.id, after=1, limit=10)
    chat.store.put_events(run, records[3:])  # half of a batch, as DynamoDB may have it
    assert len(chat.messages.page(ANNA, talk.id, after=0, limit=10).records) == 6
    assert len(chat.messages.page(ANNA, talk.id, limit=10).records) == 6


# --- a log that Redis has lost -------------------------------------------------------------------


def test_a_sweep_after_redis_was_emptied_rebuilds_logs_and_never_begins_them_anew(
    talk: Talk,
) -> None:
    talk.post("kept")
    talk.report("status", {"status": "working"})
    talk.drain()
    before = talk.stored()
    talk.world.lose_redis()
    talk.world.chat.delivery.sweep()
    talk.world.work_off()
    assert talk.stored()[: len(before)] == before
    talk.post("and more")
    talk.drain()
    assert [event["seq"] for event in talk.stored()] == list(range(1, len(talk.stored()) + 1))
    assert talk.stored()[: len(before)] == before


def test_every_way_to_reach_a_lost_log_rebuilds_it(world: World) -> None:
    talk = world.talk()
    message = talk.post("kept")
    talk.drain()
    chat = world.chat
    for look in (
        lambda: chat.messages.get(ANNA, talk.id, message["id"])["event"]["body"]["text"] == "kept",
        lambda: len(chat.live.since(ANNA, talk.id, 0)) >= 3,
        lambda: len(chat.messages.page(ANNA, talk.id).records) >= 3,
        lambda: chat.tokens.agent(talk.id, chat.tokens.of(talk.id)) == talk.nori,
        lambda: chat.live.snapshot(ANNA, talk.id).head >= 3,
        lambda: talk.post("more")["seq"] > 3,
    ):
        world.lose_redis()
        assert look()
        talk.drain()


def test_the_epoch_changes_when_a_log_is_rebuilt(talk: Talk) -> None:
    talk.drain()
    before = talk.world.chat.log.snapshot(talk.id).epoch
    talk.world.lose_redis()
    assert talk.world.chat.log.snapshot(talk.id).epoch != before


def test_what_is_sent_again_with_its_key_is_known_after_redis_was_emptied(talk: Talk) -> None:
    chat = talk.world.chat
    said = talk.post("once", key="k1")
    told = talk.report("message", {"text": "done"}, key="spool-1")
    order = chat.orders.give(ANNA, talk.id, OrderBody(action=Action.PAUSE), key="k1")
    talk.drain()
    talk.world.lose_redis()

    assert talk.post("once", key="k1")["seq"] == said["seq"]
    again = talk.report("message", {"text": "done"}, key="spool-1")
    assert (again["seq"], again["repeated"]) == (told["seq"], True)
    given = chat.orders.give(ANNA, talk.id, OrderBody(action=Action.PAUSE), key="k1")
    assert given.repeated
    assert given.event["seq"] == order.event["seq"]
    with pytest.raises(IdempotencyMismatch):
        talk.post("something else", key="k1")
    assert talk.post("once", key="k2")["seq"] > said["seq"]


def test_a_key_that_is_used_again_long_after_does_not_put_another_message_over_the_first(
    talk: Talk,
) -> None:
    first = talk.post("long ago", key="k1")
    log_keys = f"run:{{{talk.id}}}:key:*"
    talk.world.chat.redis.delete(*talk.world.chat.redis.keys(log_keys))  # 24 hours later

    with pytest.raises(IdempotencyMismatch):
        talk.post("another one", key="k1")
    assert talk.post("long ago", key="k1")["seq"] == first["seq"]


def test_a_redis_that_comes_back_from_before_writes_over_nothing_and_loses_nothing(
    talk: Talk,
) -> None:
    world = talk.world
    talk.post("at first")
    talk.drain()
    before, copy = world.chat.log.snapshot(talk.id), world.copy_of_redis()
    read = talk.post("read, and then forgotten", key="old")
    unread = talk.post("forgotten before it was read")
    talk.drain()
    talk.confirm(*talk.lease(limit=2))
    talk.drain()
    kept = talk.stored()
    world.put_back(copy)
    new = talk.post("said to the copy", key="new")
    assert new["seq"] == read["seq"], "a number that the store knows"

    talk.drain()

    stored = talk.stored()
    assert stored[: len(kept)] == kept
    assert [event["seq"] for event in stored] == list(range(1, len(stored) + 1))
    assert [event["id"] for event in stored].count(new["id"]) == 1
    assert world.chat.log.snapshot(talk.id).epoch != before.epoch
    assert talk.lease() == [unread["id"], new["id"]]
    assert talk.state_of(read["id"]) == "in_context"
    assert talk.post("read, and then forgotten", key="old")["seq"] == read["seq"]
    assert talk.post("said to the copy", key="new")["id"] == new["id"]


class Busy:
    """A log of which every reading lets somebody else say something first, a few times."""

    def __init__(self, log: Log, said: Iterator[Callable[[], object]]) -> None:
        self._log = log
        self._said = said

    def __getattr__(self, name: str) -> Any:
        if name in {"read", "snapshot", "rebuild"}:
            next(self._said, lambda: None)()
        return getattr(self._log, name)


def test_what_is_said_while_a_log_is_rebuilt_is_in_it(talk: Talk) -> None:
    world = talk.world
    talk.drain()
    copy = world.copy_of_redis()
    for number in range(3):
        talk.post(f"old {number}")
    talk.drain()
    world.put_back(copy)
    said = [talk.post("first")["id"]]
    speakers = (
        lambda number=number: said.append(talk.post(f"meanwhile {number}")["id"])  # type: ignore[misc]
        for number in range(12)
    )
    context = world.chat.delivery._context
    run = world.chat.store.run(talk.id)
    assert run is not None

    reconcile(replace(context, log=Busy(context.log, speakers)), run)
    talk.drain()

    ids = [event["id"] for event in talk.stored()]
    assert [ids.count(one) for one in said] == [1] * len(said)
    assert [event["seq"] for event in talk.stored()] == list(range(1, len(ids) + 1))
    assert talk.lease()[-len(said) :] == said


def test_what_is_sent_again_to_a_redis_that_does_not_know_it_any_more_is_there_once(
    talk: Talk,
) -> None:
    world = talk.world
    talk.drain()
    copy = world.copy_of_redis()
    said = talk.post("got no answer", key="k1")
    told = talk.report("message", {"text": "from the spool"}, key="spool-1")
    talk.drain()
    world.put_back(copy)
    assert talk.post("got no answer", key="k1")["id"] == said["id"]
    assert talk.report("message", {"text": "from the spool"}, key="spool-1")["id"] == told["id"]

    talk.drain()

    ids = [event["id"] for event in talk.stored()]
    assert (ids.count(said["id"]), ids.count(told["id"])) == (1, 1)
    assert talk.lease() == [said["id"]]


def test_a_redis_that_is_behind_is_found_though_nothing_new_is_said(talk: Talk) -> None:
    world = talk.world
    talk.drain()
    copy = world.copy_of_redis()
    said = talk.post("forgotten")
    talk.drain()
    world.put_back(copy)
    world.chat.redis.set("runs:home", "the server that was there before")

    world.chat.delivery.sweep()
    world.work_off()

    assert talk.lease() == [said["id"]]
    assert not world.chat.log.home().is_new


def test_what_is_said_to_a_copy_that_does_not_know_the_end_is_undelivered(talk: Talk) -> None:
    world = talk.world
    talk.drain()
    copy = world.copy_of_redis()
    talk.finish()
    talk.drain()
    world.put_back(copy)
    late = talk.post("are you still there?")

    talk.drain()

    assert world.chat.log.snapshot(talk.id).status is RunStatus.COMPLETED
    assert talk.state_of(late["id"]) == "undelivered"
    assert told(talk, "undelivered") == [late["id"]]
    talk.drain()
    assert [event["seq"] for event in talk.stored()] == list(range(1, len(talk.stored()) + 1))


def test_a_drain_that_broke_off_before_its_cursor_moved_is_no_reason_to_rebuild(talk: Talk) -> None:
    chat, run = talk.world.chat, talk.world.chat.store.run(talk.id)
    assert run is not None
    talk.drain()
    before = chat.log.snapshot(talk.id)
    talk.post("stored, and nobody has said so")
    chat.store.put_events(run, chat.log.read(talk.id, after=before.stored, limit=10))

    talk.drain()

    assert chat.log.snapshot(talk.id).epoch == before.epoch


def test_a_drain_of_the_lost_log_does_not_hide_what_is_new_in_the_rebuilt_one(talk: Talk) -> None:
    chat = talk.world.chat
    talk.drain()
    old = chat.log.snapshot(talk.id)
    for number in range(10):
        talk.post(f"old {number}", key=f"o{number}")
    lost = chat.log.read(talk.id, after=old.stored, limit=100)
    talk.world.lose_redis()
    for number in range(3):
        talk.post(f"new {number}")
    talk.drain()
    run = chat.store.run(talk.id)
    assert run is not None
    chat.store.put_events(run, lost)  # a drain that was stuck wakes up
    assert not chat.log.mark_stored(talk.id, lost[-1].seq, epoch=old.epoch, since=old.stored)
    talk.drain()
    kept = talk.stored()
    words = [event["body"]["text"] for event in kept if event["kind"] == "message"]
    assert words == [f"old {n}" for n in range(10)] + [f"new {n}" for n in range(3)]


def test_a_run_told_to_stop_is_still_told_so_after_redis_was_emptied(world: World) -> None:
    run_id = world.launched()
    world.work_off()
    world.chat.orders.give(ANNA, run_id, OrderBody(action=Action.STOP))
    world.work_off()
    world.lose_redis()
    world.chat.delivery.sweep()
    world.runtime.dead.add(f"listed:{run_id}")
    assert world.chat.delivery.watch() == 1
    assert world.chat.log.snapshot(run_id).status is RunStatus.STOPPED


def test_a_rebuilt_run_is_not_called_unresponsive_before_its_agent_had_time(talk: Talk) -> None:
    talk.report("status", {"status": "working"})
    talk.drain()
    talk.world.lose_redis()
    assert [talk.world.chat.delivery.sweep().unresponsive for _ in range(2)] == [0, 0]


def test_a_cancelled_message_stays_cancelled_after_redis_was_emptied(talk: Talk) -> None:
    message = talk.post()
    talk.world.chat.messages.cancel(ANNA, talk.id, message["id"])
    talk.drain()
    talk.world.lose_redis()
    assert talk.world.chat.messages.cancel(ANNA, talk.id, message["id"]) == {"result": "cancelled"}
    assert talk.lease() == []


# --- unread mail of a run that has ended ----------------------------------------------------------


def copies(talk: Talk) -> list[tuple[str, str]]:
    """(words, id of the original) of what was moved into a run, in order."""
    return [
        (event["body"]["text"], event["body"]["moved_from"]["id"])
        for event in talk.events()
        if event["kind"] == "message" and "moved_from" in event["body"]
    ]


def moved_mail(talk: Talk) -> list[str]:
    """The messages that have moved; tests/unit/chat/test_rehoming.py has the rest."""
    return [item_id for item_id in told(talk, "moved") if item_id.startswith("msg_")]


def ended_with_unread(world: World) -> tuple[Talk, list[tuple[str, str]]]:
    old = world.talk()
    first = old.post("one")
    second = old.post("two", mode="queue")
    gone = old.post("taken back")
    world.chat.messages.cancel(ANNA, old.id, gone["id"])
    world.chat.orders.give(ANNA, old.id, OrderBody(action=Action.CHECK_IN, every_steps=3))
    old.drain()
    old.finish("stopped")
    return old, [("one", first["id"]), ("two", second["id"])]


def test_unread_mail_moves_to_the_next_run_once_and_both_logs_say_so(world: World) -> None:
    old, unread = ended_with_unread(world)
    new = world.talk(key="k")
    again = world.talk(key="k")
    assert again.id == new.id
    other = world.talk(agent_id="koji")
    assert (copies(new), copies(other)) == (unread, [])
    assert moved_mail(old) == [item_id for _, item_id in unread]
    moved = [
        event["body"]["moved_to"]["run_id"]
        for event in old.events()
        if event["kind"] == "receipt" and "moved_to" in event["body"]
    ]
    assert moved == [new.id] * 3, "two messages, and the order to check in"
    new.drain()
    assert len(new.lease(task_end=True)) == 3
    assert copies(world.talk()) == []


@pytest.mark.parametrize("way", ["repeated", "swept"])
@pytest.mark.parametrize("at", range(0, 36, 2))
def test_a_creation_killed_anywhere_loses_and_doubles_no_mail(
    world: World, way: str, at: int
) -> None:
    old, unread = ended_with_unread(world)
    request = CreateRun(feature_id=world.feature_id, agent_id="nori")
    dies(lambda: Process(world, at).runs.create(ANNA, request, key="k"))
    if way == "repeated":
        run_id = world.chat.runs.create(ANNA, request, key="k").run.id
    else:
        world.chat.delivery.sweep()
        rows = world.chat.store.runs(feature_id=world.feature_id)
        alive = [row.id for row in rows if row.id != old.id]
        if not alive:
            assert at < 4, "nothing was made, nothing has moved"
            return
        [run_id] = alive
    world.work_off()
    new = Talk(world, run_id, old.nori)
    assert copies(new) == unread
    assert moved_mail(old) == [item_id for _, item_id in unread]
    assert world.runtime.started == [run_id]
    assert new.events()[0]["kind"] == "status", (
        "every move of status is an event, the first one too"
    )


def test_two_runs_made_at_once_share_the_mail_and_double_none(world: World) -> None:
    old, unread = ended_with_unread(world)
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: world.talk(), range(4)))
    world.chat.delivery.sweep()
    got = sorted(copy for one in made for copy in copies(one))
    assert got == sorted(unread)
    assert Counter(moved_mail(old)) == Counter(item_id for _, item_id in unread)


def test_mail_of_a_run_that_ends_after_its_successor_began_moves_as_well(world: World) -> None:
    old = world.talk()
    new = world.talk()
    left = old.post("still here")
    old.finish("failed")
    old.drain()
    world.chat.delivery.sweep()
    assert copies(new) == [("still here", left["id"])]


@pytest.mark.parametrize("at", range(4, 36, 2))
def test_mail_whose_move_was_broken_off_goes_on_though_the_new_run_has_ended(
    world: World, at: int
) -> None:
    old, _ = ended_with_unread(world)
    request = CreateRun(feature_id=world.feature_id, agent_id="nori")
    dies(lambda: Process(world, at).runs.create(ANNA, request, key="k"))
    run_ids = [row.id for row in world.chat.store.runs(feature_id=world.feature_id)]
    for run_id in run_ids:
        if run_id != old.id:
            world.chat.runs.end(run_id, RunStatus.FAILED, "gone")
    last = world.talk()
    # two faults, one after the other, may leave them in two runs, whose order is not compared
    assert sorted(words for words, _ in copies(last)) == ["one", "two"]
    assert sorted(moved_mail(old)) == sorted(set(moved_mail(old))), "each one moved once"


# --- starting and watching -----------------------------------------------------------------------


@pytest.mark.parametrize("at", range(14))
def test_a_launch_killed_anywhere_is_done_by_the_sweep(world: World, at: int) -> None:
    run_id = world.launched()
    world.tasks.take()
    dies(lambda: Process(world, at).delivery.launch(run_id))
    world.chat.delivery.sweep()
    world.work_off()
    row = world.chat.store.run(run_id)
    assert row is not None
    assert row.handle == f"listed:{run_id}"
    assert set(world.runtime.started) == {run_id}
    assert world.chat.log.snapshot(run_id).status is RunStatus.STARTING


@pytest.mark.parametrize("error", [OSError("no such program"), KeyError("none"), ValueError("bad")])
def test_an_agent_that_cannot_be_started_ends_its_run_and_says_why(
    world: World, error: Exception
) -> None:
    run_id = world.launched()
    world.runtime.broken = error
    world.work_off()
    events = Talk(world, run_id, ANNA).events()
    assert [event["kind"] for event in events[-2:]] == ["error", "status"]
    assert "could not be started" in events[-2]["body"]["summary"]
    assert world.chat.delivery.sweep().launched == 0


def test_a_run_stopped_before_its_launch_is_never_started(world: World) -> None:
    run_id = world.launched()
    world.chat.orders.give(ANNA, run_id, OrderBody(action=Action.STOP))
    world.work_off()
    assert world.runtime.started == []
    assert world.chat.log.snapshot(run_id).status is RunStatus.STOPPED


def test_a_process_that_vanished_fails_its_run_and_is_swept_up(world: World) -> None:
    run_id = world.launched()
    world.work_off()
    world.runtime.dead.add(f"listed:{run_id}")
    assert [world.chat.delivery.watch(), world.chat.delivery.watch()] == [1, 0]
    assert world.chat.log.snapshot(run_id).status is RunStatus.FAILED
    assert world.runtime.stopped == [f"listed:{run_id}"]


def test_a_silent_agent_is_unresponsive_and_never_failed(talk: Talk) -> None:
    talk.report("status", {"status": "working", "phase": "coding"})
    talk.world.clock.advance(ms=3_600_000)
    for _ in range(3):
        talk.world.chat.delivery.sweep()
        talk.world.chat.delivery.watch()
    assert talk.shown()["status"] == "unresponsive"
    talk.world.chat.runs.heartbeat(talk.nori, talk.id, Heartbeat(holder="h"))
    assert (talk.shown()["status"], talk.shown()["phase"]) == ("working", "coding")


def test_an_order_to_stop_that_is_not_followed_is_enforced(world: World) -> None:
    run_id = world.launched()
    world.work_off()
    world.chat.orders.give(ANNA, run_id, OrderBody(action=Action.STOP))
    world.chat.delivery.watch()
    assert world.runtime.stopped == []
    world.clock.advance(ms=10_001)
    world.chat.delivery.watch()
    assert world.runtime.stopped == [f"listed:{run_id}"]


def test_one_runs_trouble_stops_no_other(world: World) -> None:
    poisoned, healthy = world.talk(), world.talk(agent_id="koji")
    world.chat.redis.zadd(f"run:{{{poisoned.id}}}:leases", {"nobody knows it": 0})
    world.chat.redis.set(f"run:{{{poisoned.id}}}:pending", "no sorted set")
    world.chat.redis.zadd("runs:active", {"run_that_never_was": 0})
    message = healthy.post()
    world.tasks.take()
    with pytest.raises(Exception, match="WRONGTYPE"):
        world.chat.log.snapshot(poisoned.id)
    world.chat.delivery.sweep()
    assert ("store", healthy.id) in world.tasks.queued
    healthy.drain()
    assert healthy.lease() == [message["id"]]
    assert "run_that_never_was" not in world.chat.log.active()


# --- Redis says no ---------------------------------------------------------------------------------


def test_a_full_redis_is_an_answer_to_try_again_and_nothing_is_half_done(talk: Talk) -> None:
    client = talk.world.chat.redis
    head = talk.world.chat.log.snapshot(talk.id).head
    client.config_set("maxmemory", "1")
    try:
        with pytest.raises(Unavailable):
            talk.post("x")
    finally:
        client.config_set("maxmemory", "0")
    assert talk.world.chat.log.snapshot(talk.id).head == head
    assert talk.post("x")["seq"] == head + 1


def test_records_that_are_written_again_change_nothing(talk: Talk) -> None:
    talk.post()
    talk.drain()
    before = talk.stored()
    run = talk.world.chat.store.run(talk.id)
    assert run is not None
    records: list[Record] = talk.world.chat.log.read(talk.id, after=0, limit=100)
    talk.world.chat.store.put_events(run, records)
    assert talk.stored() == before
