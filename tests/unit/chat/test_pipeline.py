"""What happens next in a pipeline: the pure model, without a store and without a run."""

from __future__ import annotations

import pytest

from chat.pipeline import (
    Do,
    Facts,
    Goes,
    Over,
    Result,
    State,
    Wants,
    admitted,
    attempt_of,
    decide,
    next_step,
    round_of,
)
from chat.roles import ROLES
from chat.runs import Pipeline, Place, Role, Turn, Why

ARCHITECT, CODER, REVIEWER, TESTER = ROLES.line


def pipeline(*turns: str, **more: object) -> Pipeline:
    """From words like "coder" or "coder:retry"."""
    made = []
    for word in turns:
        role, _, why = word.partition(":")
        made.append(Turn(role=Role(role), why=Why(why or "next")))
    return Pipeline.model_validate({"number": 1, "turns": made} | more)


def wanted(follows: object) -> tuple[Role, Why]:
    assert isinstance(follows, Wants), follows
    return follows.turn.role, follows.turn.why


def why_over(follows: object) -> tuple[State, str]:
    assert isinstance(follows, Over), follows
    return follows.state, follows.why


def test_the_roles_follow_one_another_in_the_order_of_the_file():
    assert ROLES.line == (Role.ARCHITECT, Role.CODER, Role.REVIEWER, Role.TESTER)
    order = []
    one = pipeline()
    result = None
    while isinstance(follows := decide(ROLES, one, result), Wants):
        order.append(follows.turn.role)
        one = one.model_copy(update={"turns": (*one.turns, follows.turn)})
        result = Result.PASSED
    assert order == list(ROLES.line)
    assert why_over(follows)[0] is State.DONE


@pytest.mark.parametrize("result", [Result.NOT_BEGUN, Result.OPEN, Result.ASKING, Result.LATE])
def test_a_turn_that_is_not_over_goes_on_whatever_else_was_asked_for(result: Result):
    one = pipeline("architect", wanted=Turn(role=TESTER, why=Why.BY_HAND))
    assert decide(ROLES, one, result) == Goes(result)


def test_a_skipped_role_is_passed_over():
    one = pipeline("coder", skipped=(REVIEWER,))
    assert wanted(decide(ROLES, one, Result.PASSED)) == (TESTER, Why.NEXT)
    last = pipeline("coder", skipped=(REVIEWER, TESTER))
    assert why_over(decide(ROLES, last, Result.PASSED))[0] is State.DONE


@pytest.mark.parametrize("result", [Result.FAILED, Result.STOPPED, Result.SENT_BACK])
def test_a_role_that_is_skipped_after_it_went_wrong_counts_as_done(result: Result):
    one = pipeline("coder", "reviewer", skipped=(REVIEWER,))
    assert wanted(decide(ROLES, one, result)) == (TESTER, Why.NEXT)


def test_the_reviewer_sends_it_back_to_the_coder():
    one = pipeline("architect", "coder", "reviewer")
    assert wanted(decide(ROLES, one, Result.SENT_BACK)) == (CODER, Why.SENT_BACK)
    again = pipeline("architect", "coder", "reviewer", "coder:sent_back")
    assert wanted(decide(ROLES, again, Result.PASSED)) == (REVIEWER, Why.NEXT)


def test_it_is_sent_back_as_often_as_the_file_says_and_then_it_is_failing():
    turns = ["architect", "coder", "reviewer"]
    for _ in range(ROLES.pipeline.rounds):
        assert isinstance(decide(ROLES, pipeline(*turns), Result.SENT_BACK), Wants)
        turns += ["coder:sent_back", "reviewer"]
    state, why = why_over(decide(ROLES, pipeline(*turns), Result.SENT_BACK))
    assert (state, why) == (State.FAILING, "Koji asks for changes again, after 3 rounds.")
    by_hand = pipeline(*turns, "coder:by_hand", "reviewer")
    assert wanted(decide(ROLES, by_hand, Result.SENT_BACK)) == (CODER, Why.SENT_BACK)


def test_who_has_nobody_to_send_it_back_to_makes_the_feature_failing():
    assert why_over(decide(ROLES, pipeline("architect"), Result.SENT_BACK))[0] is State.FAILING
    skipped = pipeline("reviewer", skipped=(ARCHITECT, CODER))
    assert why_over(decide(ROLES, skipped, Result.SENT_BACK)) == (
        State.FAILING,
        "Koji asks for changes, and the coder is skipped.",
    )


def test_a_role_that_failed_is_tried_once_more_and_then_the_feature_is_failing():
    first = decide(ROLES, pipeline("architect", "coder"), Result.FAILED)
    assert wanted(first) == (CODER, Why.RETRY)
    second = decide(ROLES, pipeline("architect", "coder", "coder:retry"), Result.FAILED)
    assert why_over(second) == (State.FAILING, "Nori (coder) failed, again after being tried anew.")


def test_a_role_has_its_retry_in_each_of_its_turns():
    one = pipeline("coder", "coder:retry", "reviewer", "coder:sent_back")
    assert wanted(decide(ROLES, one, Result.FAILED)) == (CODER, Why.RETRY)
    by_hand = pipeline("coder", "coder:retry", "coder:by_hand")
    assert wanted(decide(ROLES, by_hand, Result.FAILED)) == (CODER, Why.RETRY)


def test_a_stopped_role_waits_for_a_person():
    assert why_over(decide(ROLES, pipeline("architect", "coder"), Result.STOPPED)) == (
        State.WAITING,
        "Nori was stopped: start a role again, or skip it.",
    )


def test_what_a_person_asks_for_comes_before_everything_else():
    asked = Turn(role=ARCHITECT, why=Why.BY_HAND, by="Anna")
    for result in (Result.PASSED, Result.FAILED, Result.STOPPED, Result.SENT_BACK):
        one = pipeline("architect", "coder", "coder:retry", wanted=asked)
        assert wanted(decide(ROLES, one, result)) == (ARCHITECT, Why.BY_HAND)


STEPS = [
    ("nothing was started", Facts(None), Do.REST, State.IDLE),
    ("a place without a pipeline", Facts(None, listed=True), Do.LEAVE, State.IDLE),
    ("no place yet", Facts(pipeline()), Do.ENTER, State.WAITING),
    ("others go first", Facts(pipeline(), listed=True), Do.REST, State.WAITING),
    ("it may enter", Facts(pipeline(), listed=True, may_enter=True), Do.ADMIT, State.WAITING),
    ("admitted", Facts(pipeline(), listed=True, admitted=True), Do.PLAN, State.RUNNING),
    (
        "planned",
        Facts(pipeline("architect"), Result.NOT_BEGUN, listed=True, admitted=True),
        Do.BEGIN,
        State.RUNNING,
    ),
    (
        "at work",
        Facts(pipeline("architect"), Result.OPEN, listed=True, admitted=True),
        Do.REST,
        State.RUNNING,
    ),
    (
        "asking",
        Facts(pipeline("architect"), Result.ASKING, listed=True, admitted=True),
        Do.REST,
        State.WAITING,
    ),
    (
        "too long",
        Facts(pipeline("architect"), Result.LATE, listed=True, admitted=True),
        Do.END_LATE,
        State.RUNNING,
    ),
    (
        "done",
        Facts(pipeline("tester"), Result.PASSED, listed=True, admitted=True),
        Do.LEAVE,
        State.DONE,
    ),
    ("done and left", Facts(pipeline("tester"), Result.PASSED), Do.REST, State.DONE),
    (
        "failing",
        Facts(pipeline("coder", "coder:retry"), Result.FAILED, listed=True),
        Do.TELL,
        State.FAILING,
    ),
    (
        "failing and told",
        Facts(pipeline("coder", "coder:retry", told=2), Result.FAILED, listed=True),
        Do.LEAVE,
        State.FAILING,
    ),
    ("stopped", Facts(pipeline("coder"), Result.STOPPED, listed=True), Do.LEAVE, State.WAITING),
]


@pytest.mark.parametrize(
    ("facts", "do", "state"), [one[1:] for one in STEPS], ids=[one[0] for one in STEPS]
)
def test_each_state_has_one_next_step(facts: Facts, do: Do, state: State):
    action = next_step(ROLES, facts)
    assert (action.do, action.state) == (do, state)
    assert action.why


def places(*words: str) -> tuple[Place, ...]:
    return tuple(Place(feature_id=word.strip("+"), admitted=word.endswith("+")) for word in words)


def test_pipelines_enter_in_order_up_to_the_limit_past_those_that_wait_for_others():
    assert admitted(places("a", "b", "c"), (), 2) == places("a+", "b+", "c")
    assert admitted(places("a", "b", "c"), {"a"}, 2) == places("a", "b+", "c+")
    assert admitted(places("a", "b+", "c+"), (), 2) == places("a", "b+", "c+")
    assert admitted(places("a+", "b+", "c+", "d"), (), 2) == places("a+", "b+", "c+", "d")


def test_attempts_and_rounds_are_counted_from_one():
    one = pipeline("architect", "coder", "coder:retry", "reviewer", "coder:sent_back", "reviewer")
    assert [attempt_of(one, index) for index in range(6)] == [1, 1, 2, 1, 3, 2]
    assert [round_of(one, index) for index in range(6)] == [1, 1, 1, 1, 2, 2]
