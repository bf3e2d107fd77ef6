"""A message's way from a person to an agent's context, and every turn it can take."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from chat.access import Level
from chat.errors import (
    AlreadyAnswered,
    AlreadyTaken,
    Forbidden,
    IdempotencyMismatch,
    IllegalMove,
    Invalid,
    MailboxNotEmpty,
    NotFound,
    RunEnded,
    StaleVersion,
    TokenRevoked,
    TooLarge,
    TooMany,
)
from chat.events import Action, Mode, OrderBody
from chat.ids import new_id
from chat.requests import (
    Confirm,
    Delta,
    EditMessage,
    FinishRequest,
    Heartbeat,
    PostAnswer,
    PostMessage,
    Release,
    Report,
    ReportedEvent,
)
from chat.service import lifecycle
from tests.world import ANNA, Talk, World, person


def test_a_message_goes_accepted_stored_leased_in_context_and_the_log_says_each(talk: Talk) -> None:
    message = talk.post("call it total_price")
    states = [talk.state_of(message["id"])]
    assert talk.lease() == [], "what is not stored is not handed out"
    talk.drain()
    states.append(talk.state_of(message["id"]))
    assert talk.lease() == [message["id"]]
    states.append(talk.state_of(message["id"]))
    talk.confirm(message["id"], step=5, text="<person>call it total_price</person>")
    states.append(talk.state_of(message["id"]))
    assert states == ["accepted", "stored", "leased", "in_context"]
    said = [event["body"]["state"] for event in talk.events() if event["kind"] == "receipt"]
    assert said == ["stored", "leased", "in_context"]
    proof = talk.world.chat.messages.get(ANNA, talk.id, message["id"])["proof"]
    assert (proof["step"], proof["text"]) == (5, "<person>call it total_price</person>")


def test_a_proof_whose_hash_is_not_of_its_text_is_refused(talk: Talk) -> None:
    message = talk.post()
    with pytest.raises(Invalid):
        talk.world.chat.mailbox.confirm(
            talk.nori, talk.id, Confirm(ids=[message["id"]], step=1, text="x", sha256="0" * 64)
        )


def test_confirming_twice_writes_one_receipt_and_gives_the_same_answer(talk: Talk) -> None:
    message = talk.post()
    talk.drain()
    talk.lease()
    first = talk.confirm(message["id"], message["id"])
    head = talk.world.chat.log.snapshot(talk.id).head
    assert talk.confirm(message["id"]) == first == {message["id"]: "in_context"}
    assert talk.world.chat.log.snapshot(talk.id).head == head
    receipt = talk.events()[-1]
    assert receipt["body"]["ids"] == [message["id"]]


def test_sixteen_threads_with_one_key_make_one_message(talk: Talk) -> None:
    def post(_: int) -> tuple[int, bool]:
        done = talk.world.chat.messages.post(ANNA, talk.id, PostMessage(text="once"), key="k")
        return done.seq, done.repeated

    with ThreadPoolExecutor(16) as pool:
        done = list(pool.map(post, range(64)))
    assert len({seq for seq, _ in done}) == 1
    assert sum(not repeated for _, repeated in done) == 1
    assert [event["kind"] for event in talk.events()] == ["status", "message"]


def test_a_key_belongs_to_one_person_and_one_text(talk: Talk) -> None:
    talk.post("one", key="k")
    with pytest.raises(IdempotencyMismatch):
        talk.post("two", key="k")
    assert talk.post("two", key="k", by=person("Ben"))["body"]["text"] == "two"


def test_the_repeat_of_a_message_is_the_same_after_the_run_has_ended(talk: Talk) -> None:
    first = talk.post("last words", key="k")
    talk.finish("failed")
    assert talk.post("last words", key="k") == first
    with pytest.raises(RunEnded) as refused:
        talk.post("too late", key="k2")
    assert refused.value.current_state == {"status": "failed"}


def test_an_edit_replaces_what_is_not_taken_and_keeps_its_place(talk: Talk) -> None:
    first, second = talk.post("one"), talk.post("two")
    talk.drain()
    talk.world.chat.messages.edit(ANNA, talk.id, first["id"], 1, EditMessage(text="one, better"))
    with pytest.raises(StaleVersion):
        talk.world.chat.messages.edit(ANNA, talk.id, first["id"], 1, EditMessage(text="again"))
    talk.drain()
    items = talk.lease_items()
    assert [item["event"]["id"] for item in items] == [first["id"], second["id"]]
    assert items[0]["event"]["body"]["text"] == "one, better"
    assert items[0]["version"] == 2
    with pytest.raises(AlreadyTaken):
        talk.world.chat.messages.edit(ANNA, talk.id, first["id"], 2, EditMessage(text="late"))


def test_what_was_handed_out_once_may_have_been_read_and_is_neither_changed_nor_taken_back(
    talk: Talk,
) -> None:
    """Else a late confirmation of the first words would say that the second were seen."""
    message = talk.post("delete the old file")
    talk.drain()
    assert talk.lease() == [message["id"]]
    released = Release(holder="h1", ids=[message["id"]])
    talk.world.chat.mailbox.release(talk.nori, talk.id, released)
    assert talk.state_of(message["id"]) == "stored"
    with pytest.raises(AlreadyTaken, match="may have read it"):
        talk.world.chat.messages.edit(ANNA, talk.id, message["id"], 1, EditMessage(text="no"))
    with pytest.raises(AlreadyTaken, match="may have read it"):
        talk.world.chat.messages.cancel(ANNA, talk.id, message["id"])
    assert talk.confirm(message["id"]) == {message["id"]: "in_context"}


def test_what_a_refused_finish_showed_is_neither_changed_nor_taken_back(talk: Talk) -> None:
    message = talk.post(
        "one more thing"
    )  # not stored, so it is not leased, but the agent has it now
    with pytest.raises(MailboxNotEmpty):
        talk.finish()
    assert talk.state_of(message["id"]) == "accepted"
    with pytest.raises(AlreadyTaken):
        talk.world.chat.messages.edit(ANNA, talk.id, message["id"], 1, EditMessage(text="no"))


def test_what_goes_on_is_listed_however_many_have_ended_since(
    talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "LISTED", 3)
    chat, run = talk.world.chat, talk.world.chat.store.run(talk.id)
    assert run is not None
    others = [talk.world.talk(agent_id="toro") for _ in range(4)]
    for other in others:
        other.finish()
        other.drain()
    for one in ({"project_id": run.project_id}, {"feature_id": run.feature_id}):
        listed = [card["id"] for card in chat.runs.list(ANNA, **one)]
        assert len(listed) == len(set(listed)) == 4
        assert listed[-1] == talk.id


def test_nobody_puts_words_into_another_persons_mouth(talk: Talk) -> None:
    message = talk.post("mine")
    ben, viewer = person("Ben", Level.COMMENTER), person("Vera", Level.VIEWER)
    with pytest.raises(Forbidden):
        talk.world.chat.messages.edit(ben, talk.id, message["id"], 1, EditMessage(text="his"))
    with pytest.raises(Forbidden):
        talk.world.chat.messages.cancel(ben, talk.id, message["id"])
    with pytest.raises(Forbidden):
        talk.world.chat.messages.cancel(viewer, talk.id, message["id"])
    own = talk.post("his own", by=ben)
    assert talk.world.chat.messages.cancel(ben, talk.id, own["id"]) == {"result": "cancelled"}
    talk.world.chat.messages.cancel(person("Olga", Level.OPERATOR), talk.id, message["id"])


def test_a_cancelled_message_is_never_handed_out_and_cancelling_again_is_the_same(
    talk: Talk,
) -> None:
    message = talk.post()
    talk.drain()
    for _ in range(2):
        assert talk.world.chat.messages.cancel(ANNA, talk.id, message["id"]) == {
            "result": "cancelled"
        }
    assert talk.lease() == []
    talk.finish()


def test_who_may_only_look_can_neither_speak_answer_nor_steer(talk: Talk) -> None:
    viewer, commenter = person("Vera", Level.VIEWER), person("Carl", Level.COMMENTER)
    question = talk.ask()
    chat = talk.world.chat
    assert chat.messages.page(viewer, talk.id).records
    with pytest.raises(Forbidden):
        talk.post(by=viewer)
    for who in (viewer, commenter):
        with pytest.raises(Forbidden):
            chat.orders.give(who, talk.id, OrderBody(action=Action.STOP))
        with pytest.raises(Forbidden):
            chat.questions.answer(who, talk.id, question["id"], PostAnswer(text="yes"))
        with pytest.raises(Forbidden):
            chat.mailbox.lease(who, talk.id, holder="h")


def test_an_agent_reaches_its_own_run_and_of_it_only_the_agents_side(world: World) -> None:
    mine, other = world.talk(), world.talk(agent_id="koji")
    chat, nori = world.chat, mine.nori
    for refused in (
        lambda: chat.mailbox.lease(nori, other.id, holder="h"),
        lambda: chat.agents.report(
            nori,
            other.id,
            Report(events=[ReportedEvent(key="k", kind="message", body={"text": "x"})]),
        ),
        lambda: chat.runs.heartbeat(nori, other.id, Heartbeat(holder="h")),
        lambda: chat.messages.page(nori, other.id),
        lambda: chat.tokens.agent(other.id, chat.tokens.of(mine.id)),
    ):
        with pytest.raises(NotFound):
            refused()
    for forbidden in (
        lambda: chat.messages.page(nori, mine.id),
        lambda: chat.live.snapshot(nori, mine.id),
        lambda: mine.post(by=nori),
        lambda: chat.orders.give(nori, mine.id, OrderBody(action=Action.PAUSE)),
        lambda: chat.runs.list(nori, feature_id=world.feature_id),
    ):
        with pytest.raises(Forbidden):
            forbidden()


def test_a_token_dies_with_its_run(talk: Talk) -> None:
    token = talk.world.chat.tokens.of(talk.id)
    talk.finish()
    with pytest.raises(TokenRevoked):
        talk.world.chat.tokens.agent(talk.id, token)


def test_a_queued_mode_message_waits_for_the_end_of_the_task(talk: Talk) -> None:
    later, now = talk.post("later", mode=Mode.QUEUE), talk.post("now")
    talk.drain()
    assert talk.lease() == [now["id"]]
    assert talk.lease(task_end=True) == [later["id"]]


def test_a_pause_hands_out_orders_only_until_it_is_lifted(talk: Talk) -> None:
    give = talk.world.chat.orders.give
    message = talk.post()
    pause = give(ANNA, talk.id, OrderBody(action=Action.PAUSE)).event
    talk.drain()
    assert talk.lease() == [pause["id"]]
    resume = give(ANNA, talk.id, OrderBody(action=Action.RESUME)).event
    talk.drain()
    assert talk.lease() == [message["id"], resume["id"]]


def test_a_lease_that_is_not_confirmed_comes_again_with_its_attempt(talk: Talk) -> None:
    old = talk.post("old")
    talk.drain()
    talk.lease()
    talk.world.clock.advance(ms=60_001)
    new = talk.post("new")
    talk.drain()
    items = talk.lease_items()
    assert [(item["event"]["id"], item["attempt"]) for item in items] == [
        (old["id"], 2),
        (new["id"], 1),
    ]
    leases = [
        e["body"]
        for e in talk.events()
        if e["kind"] == "receipt" and e["body"]["state"] == "leased"
    ]
    said = {item_id: body["attempt"] for body in leases for item_id in body["ids"]}
    assert said == {old["id"]: 2, new["id"]: 1}, "each receipt is true for all that it names"


def test_a_heartbeat_renews_the_leases_of_its_holder_alone(talk: Talk) -> None:
    message = talk.post()
    talk.drain()
    talk.lease("h1")
    for _ in range(3):
        talk.world.clock.advance(ms=40_000)
        talk.world.chat.runs.heartbeat(talk.nori, talk.id, Heartbeat(holder="h1"))
        talk.world.chat.delivery.sweep()
    assert talk.state_of(message["id"]) == "leased"
    talk.world.clock.advance(ms=60_001)
    talk.world.chat.runs.heartbeat(talk.nori, talk.id, Heartbeat(holder="another"))
    talk.world.chat.delivery.sweep()
    assert talk.state_of(message["id"]) == "stored"


def test_a_new_holder_takes_over_at_once_and_a_release_gives_back_at_once(talk: Talk) -> None:
    message = talk.post()
    talk.drain()
    assert talk.lease("h1") == [message["id"]]
    assert talk.lease("h2") == [message["id"]]
    release = talk.world.chat.mailbox.release
    assert release(talk.nori, talk.id, Release(holder="h1"))["released"] == []
    assert release(talk.nori, talk.id, Release(holder="h2"))["released"] == [message["id"]]
    assert talk.lease("h2") == [message["id"]]


def test_a_run_cannot_complete_while_anything_is_unread(talk: Talk) -> None:
    talk.drain()
    message = talk.post("wait!")
    with pytest.raises(MailboxNotEmpty) as refused:
        talk.finish()
    assert refused.value.current_state is not None
    assert [i["event"]["body"]["text"] for i in refused.value.current_state["items"]] == ["wait!"]
    talk.drain()
    with pytest.raises(MailboxNotEmpty):
        talk.finish()
    assert talk.state_of(message["id"]) == "leased"
    talk.confirm(message["id"])
    talk.finish()


def test_a_refused_finish_shows_as_much_as_one_lease(talk: Talk) -> None:
    for number in range(60):
        talk.post(str(number))
    talk.drain()
    with pytest.raises(MailboxNotEmpty) as refused:
        talk.finish()
    assert refused.value.current_state is not None
    assert [i["event"]["body"]["text"] for i in refused.value.current_state["items"]] == [
        str(number) for number in range(50)
    ]


def test_a_failed_run_shows_what_was_never_read_and_closes_its_questions(talk: Talk) -> None:
    message, question = talk.post(), talk.ask()
    talk.finish("failed")
    assert talk.state_of(message["id"]) == "undelivered"
    kinds = [event["kind"] for event in talk.events()]
    assert kinds == ["status", "message", "question", "receipt", "answer", "error", "status"]
    shown = talk.world.chat.questions.get(ANNA, talk.id, question["id"])
    assert shown["answer"]["body"]["outcome"] == "cancelled"


def test_more_than_a_thousand_unread_are_told_in_receipts_that_fit_the_wire(talk: Talk) -> None:
    ids = [talk.post(str(number))["id"] for number in range(1_101)]
    talk.drain()
    talk.finish("failed")
    receipts = [event for event in talk.events() if event["kind"] == "receipt"]
    for state in ("stored", "undelivered"):
        told = [e["body"]["ids"] for e in receipts if e["body"]["state"] == state]
        assert [item_id for part in told for item_id in part] == ids
    assert len({event["id"] for event in receipts}) == len(receipts)


def test_a_run_takes_as_many_messages_as_its_budget_allows(
    make_world: Callable[..., World],
) -> None:
    talk = make_world(RUN_MESSAGE_BUDGET="3").talk()
    for number in range(3):
        talk.post(str(number), key=str(number))
    with pytest.raises(TooMany):
        talk.post("one too many")
    assert talk.post("0", key="0")["seq"] == 2, "a repeat is no message more"


def test_a_text_longer_than_allowed_is_refused(make_world: Callable[..., World]) -> None:
    talk = make_world(TEXT_MAX="10").talk()
    with pytest.raises(TooLarge):
        talk.post("x" * 11)
    message = talk.post("short")
    with pytest.raises(TooLarge):
        talk.world.chat.messages.edit(ANNA, talk.id, message["id"], 1, EditMessage(text="x" * 11))


def test_the_first_answer_stands_and_the_same_again_is_the_same(talk: Talk) -> None:
    question = talk.ask(options=[{"value": "a", "label": "A"}, {"value": "b", "label": "B"}])
    assert talk.ask()["id"] == question["id"], "the same handle finds the same question"
    answer = talk.world.chat.questions.answer
    first = answer(ANNA, talk.id, question["id"], PostAnswer(value="a"))
    again = answer(person("Ben"), talk.id, question["id"], PostAnswer(value="a"))
    assert (again.seq, again.repeated) == (first.seq, True)
    with pytest.raises(AlreadyAnswered) as refused:
        answer(ANNA, talk.id, question["id"], PostAnswer(value="b"))
    assert refused.value.current_state is not None
    assert refused.value.current_state["answer"] == first.event
    talk.drain()
    assert talk.lease() == [first.event["id"]]


def test_of_many_answers_at_once_one_wins(talk: Talk) -> None:
    question = talk.ask()

    def answer(number: int) -> bool:
        try:
            talk.world.chat.questions.answer(
                ANNA, talk.id, question["id"], PostAnswer(text=str(number))
            )
        except AlreadyAnswered:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(answer, range(16))) == 1


def test_a_batch_of_reports_is_kept_whole_or_not_at_all(talk: Talk) -> None:
    head = talk.world.chat.log.snapshot(talk.id).head
    good = ReportedEvent(key="a", kind="message", body={"text": "fine"})
    bad = ReportedEvent(key="b", kind="status", body={"status": "starting"})
    talk.report("status", {"status": "working"})
    with pytest.raises(IllegalMove):
        talk.world.chat.agents.report(talk.nori, talk.id, Report(events=[good, bad]))
    assert talk.world.chat.log.snapshot(talk.id).head == head + 1


def test_one_key_twice_in_a_batch_is_one_event_and_a_repeat_gives_the_first_id(talk: Talk) -> None:
    one = ReportedEvent(key="a", kind="message", body={"text": "once"})
    report = talk.world.chat.agents.report
    first = report(talk.nori, talk.id, Report(events=[one, one]))["events"]
    again = report(talk.nori, talk.id, Report(events=[one]))["events"]
    assert [event["repeated"] for event in first + again] == [False, True, True]
    assert len({(event["seq"], event["id"]) for event in first + again}) == 1
    other = ReportedEvent(key="b", kind="message", body={"text": "x"})
    with pytest.raises(IdempotencyMismatch):
        report(
            talk.nori,
            talk.id,
            Report(events=[other, other.model_copy(update={"body": {"text": "y"}})]),
        )
    assert [event["kind"] for event in talk.events()] == ["status", "message"]


@pytest.mark.parametrize("status", ["unresponsive", "queued", "completed", "failed", "stopped"])
def test_an_agent_says_only_what_is_its_own_to_say_of_its_status(talk: Talk, status: str) -> None:
    with pytest.raises(Invalid):
        talk.report("status", {"status": status})


def test_streamed_text_is_put_together_by_its_offsets(talk: Talk) -> None:
    message_id = new_id("msg")

    def delta(offset: int, text: str) -> int:
        request = Delta(message_id=message_id, offset=offset, text=text)
        return talk.world.chat.agents.delta(talk.nori, talk.id, request)["units"]

    assert delta(0, "Hé") == 2
    assert delta(0, "Hé") == 2, "applying one twice is harmless"
    assert delta(5, "lost") == 2, "what is missing is asked for"
    assert delta(2, "llo 🍣") == 8, "a sushi is two UTF-16 units"
    [text] = talk.world.chat.log.snapshot(talk.id).open_texts
    assert (text.text, text.units) == ("Héllo 🍣", 8)
    done = talk.report("message", {"text": "Héllo 🍣"}, id=message_id)
    assert done["id"] == message_id
    assert talk.world.chat.log.snapshot(talk.id).open_texts == []
    assert delta(8, "!") == 9, "a straggler changes nothing"
    assert talk.world.chat.log.snapshot(talk.id).open_texts == []


def test_streams_that_are_never_completed_do_not_pile_up(talk: Talk) -> None:
    ids = [new_id("msg") for _ in range(200)]
    for message_id in ids:
        talk.world.chat.agents.delta(
            talk.nori, talk.id, Delta(message_id=message_id, offset=0, text="x")
        )
    texts = talk.world.chat.log.snapshot(talk.id).open_texts
    assert {text.message_id for text in texts} == set(ids[-16:])
    for message_id in ids:
        talk.report("message", {"text": "x"}, id=message_id)
    assert talk.world.chat.redis.hlen(f"run:{{{talk.id}}}:open") <= 2


def test_an_agent_that_is_heard_of_again_is_where_it_was(talk: Talk) -> None:
    talk.report("status", {"status": "working", "phase": "coding"})
    talk.report("status", {"status": "waiting", "phase": "testing"})
    talk.drain()
    talk.world.clock.advance(ms=60_001)
    assert talk.world.chat.delivery.sweep().unresponsive == 1
    beat = talk.world.chat.runs.heartbeat(talk.nori, talk.id, Heartbeat(holder="h1"))
    snapshot = talk.world.chat.log.snapshot(talk.id)
    assert (beat["status"], snapshot.status, snapshot.phase) == ("waiting", "waiting", "testing")


def test_an_agent_may_finish_though_redis_lost_the_end_of_the_log_it_knows(talk: Talk) -> None:
    talk.drain()
    for _ in range(5):
        talk.report("message", {"text": "said, and lost"})
    talk.world.lose_redis()
    request = FinishRequest.model_validate({"holder": "h", "last_seq": 6, "outcome": "completed"})
    assert talk.world.chat.runs.finish(talk.nori, talk.id, request) == {"status": "completed"}
