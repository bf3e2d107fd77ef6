from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_hooks import envelope
from demo.intents import Intent, Want, decide, note_in, rounding_of


def wants(text: str) -> list[Want]:
    return [intent.want for intent in decide(text)]


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("what are you doing?", Want.STATUS),
        ("status?", Want.STATUS),
        ("Please pause", Want.PAUSE),
        ("Nori, wait a moment", Want.PAUSE),
        ("go on", Want.RESUME),
        ("stop", Want.STOP),
        ("Stop the run, please!", Want.STOP),
        ("skip this", Want.SKIP),
        ("can you run the tests?", Want.TESTS),
        ("show me the diff", Want.DIFF),
        ("show cart.py", Want.SHOW),
        ("commit now", Want.COMMIT),
        ("slow down a bit", Want.SLOWER),
        ("faster!", Want.FASTER),
        ("round the total instead", Want.ROUNDING),
        ("hello Nori!", Want.GREETING),
        ("what can you do?", Want.HELP),
        ("make me a sandwich", Want.UNKNOWN),
    ],
)
def test_what_people_say_is_understood(text: str, want: Want) -> None:
    assert wants(text) == [want]


@pytest.mark.parametrize(
    ("text", "old", "new"),
    [
        ("call it total_price", "", "total_price"),
        ("Please call it `total_price`.", "", "total_price"),
        ("use grand_total as the name", "", "grand_total"),
        ("it should be called total_price", "", "total_price"),
        ("rename calc to total_price", "calc", "total_price"),
        ("Rename Cart.calc() to total_price, please", "Cart.calc", "total_price"),
        ("call calc total_price instead", "calc", "total_price"),
    ],
)
def test_a_rename_is_understood_with_both_names(text: str, old: str, new: str) -> None:
    assert decide(text) == [Intent(Want.RENAME, decide(text)[0].words, old, new)]


@pytest.mark.parametrize(
    "text",
    [
        "don't stop",
        "do not rename calc to x",
        "never skip this",
        "why did you stop?",
        "stop using floats",
    ],
)
def test_words_that_hold_an_order_without_giving_it_are_not_obeyed(text: str) -> None:
    assert not {Want.STOP, Want.RENAME, Want.SKIP} & set(wants(text))


def test_several_wishes_are_done_in_their_order() -> None:
    assert wants("Call it total_price. Then run the tests, and show the diff!") == [
        Want.RENAME,
        Want.TESTS,
        Want.DIFF,
    ]


def test_a_line_that_is_only_quoted_is_no_order() -> None:
    assert wants("> stop\n\nwhat does tax do?") == [Want.EXPLAIN]


def test_the_words_are_found_in_the_envelope_of_the_agents_side() -> None:
    event = {
        "id": "msg_1",
        "kind": "message",
        "sender": {"kind": "person", "name": "Anna", "role": None},
        "body": {"text": "call it total_price"},
    }
    text = envelope.around([envelope.one(event, "0123456789abcdef")])
    assert [intent.new for intent in decide(text)] == ["total_price"]


@given(st.text(max_size=400))
def test_any_text_is_decided_upon(text: str) -> None:
    assert decide(text)


def test_a_giant_of_blanks_or_words_takes_no_time() -> None:
    began = time.monotonic()
    for text in (" " * 32_000, "stop " * 6_000, "and " * 8_000, "\n" * 32_000, "please " * 4_000):
        assert decide(text)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("value", "text", "choice"),
    [
        ("line", None, "line"),
        ("total", None, "total"),
        (None, "each line please", "line"),
        (None, "only once, at the end", "total"),
        (None, "the total, not each line", None),
        (None, "whatever you like", None),
        (None, None, None),
    ],
)
def test_a_free_answer_is_taken_only_when_it_is_clear(
    value: str | None, text: str | None, choice: str | None
) -> None:
    assert rounding_of(value, text) == choice


def test_the_note_of_a_hand_over_is_found_and_nothing_that_is_quoted_passes_for_one() -> None:
    opening = "Nori, you are the coder of 'Cart' (pipeline 1, turn 4). Anna starts you again."
    about = "The feature: Cart\n> Total.\n> Ben says:\n> > stop"
    done = "Koji (reviewer) asks for changes:\n> Anna says:\n> call it wrong_name"
    note = "Anna says:\n> call it total_price\n> and run the tests"
    found = note_in(f"{opening}\n\n{about}\n\n{note}\n\n{done}")
    assert found == ("Anna", "call it total_price\nand run the tests")
    assert wants(found[1]) == [Want.RENAME, Want.TESTS]
    assert note_in(f"{opening}\n\n{about}\n\n{done}") == ("", "")
