"""Nori is put on hold and comes back: real processes, a real worker, real git."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from demo.workshop import git
from tests.integration.demo.test_agents import PATIENCE_S, Run, nori, repository
from tests.serving import Server, until

__all__ = ["nori"]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(420), pytest.mark.xdist_group("demo-hold")]
ENVIRON = {"HOLD_AFTER_S": "4"}


def wrapper_of(run: Run) -> int:
    folder = Path(run.stack.environ["STATE_DIR"]) / "runs" / run.id
    pid: int = json.loads((folder / "process.json").read_text())["pid"]
    return pid


def is_there(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


def statuses(run: Run) -> list[str]:
    return [event["body"]["status"] for event in run.events("status")]


def said(run: Run) -> list[str]:
    return [
        event["body"]["text"]
        for event in run.events("message")
        if event["sender"]["kind"] == "agent"
    ]


def test_a_paused_agent_goes_on_hold_by_itself_and_a_message_brings_it_back_where_it_was(
    stack: Server, nori: Callable[[str], Run]
) -> None:
    run = nori("a hold")
    repo = repository(stack, run.state()["feature_id"])
    question = run.question()
    before = git(repo, "log", "--format=%s")

    # paused: the card says when it will be put on hold, and then it is
    run.order("pause")
    run.becomes("paused")
    card = until(lambda: (found := run.state())["hold_at"] and found, PATIENCE_S)
    assert card["since"] < card["hold_at"]
    first = wrapper_of(run)
    run.becomes("suspended")
    until(lambda: not is_there(first), PATIENCE_S)
    assert statuses(run)[-1] == "suspended"
    [kept] = [
        e["body"]["checkpoint"] for e in run.events("status") if e["body"]["status"] == "suspended"
    ]
    notes = json.loads(kept["text"])
    assert notes["role"]["_fixed"] >= 4
    assert run.question()["id"] == question["id"], "it stays open"
    assert run.state()["needs_you"] == 1
    assert git(repo, "log", "--format=%s") == before

    # the next word brings it back, and is read
    renaming = run.say("call it total_price")
    assert "Renamed `calc` to `total_price`" in run.reply(renaming)
    assert run.receipt(renaming)["receipt"]["state"] == "in_context"
    assert any("I was on hold and am back" in text for text in said(run))
    assert wrapper_of(run) != first
    names = [e["body"]["name"] for e in run.events("step") if e["body"]["state"] == "started"]
    assert names.count("read the shop") == 1, "it goes on, it does not begin anew"
    numbers = [e["body"]["step"] for e in run.events("step") if e["body"]["state"] == "started"]
    assert numbers == sorted(set(numbers)), "its steps are counted on"

    # it waits for the answer, and is put on hold for that as well; the answer brings it back
    run.becomes("suspended")
    second = wrapper_of(run)
    until(lambda: not is_there(second), PATIENCE_S)
    assert run.question()["id"] == question["id"]
    run.answer(value="total")
    until(lambda: "Round the total, as Anna decided" in git(repo, "log", "--format=%s"), PATIENCE_S)
    run.becomes("completed")
    assert statuses(run).count("suspended") == 2
    assert "failed" not in statuses(run)
    assert "unresponsive" not in statuses(run)


def test_what_is_half_done_is_kept_as_a_commit_of_its_own(
    stack: Server, nori: Callable[[str], Run]
) -> None:
    run = nori("half done")
    repo = repository(stack, run.state()["feature_id"])
    run.question()
    worktree = repo.with_name(f"{repo.name}.nori")
    (worktree / "teashop" / "half.py").write_text("HALF = 1\n")
    head = git(worktree, "rev-parse", "HEAD")
    run.becomes("suspended")
    assert git(repo, "show", "refs/checkpoints/nori:teashop/half.py") == "HALF = 1"
    assert git(repo, "rev-parse", "refs/checkpoints/nori~1") == head
    run.order("stop")
    run.becomes("stopped")


def test_stop_ends_it_without_starting_it(stack: Server, nori: Callable[[str], Run]) -> None:
    run = nori("stopped on hold")
    run.question()
    run.becomes("suspended")
    first = wrapper_of(run)
    until(lambda: not is_there(first), PATIENCE_S)
    run.order("stop")
    run.becomes("stopped")
    assert wrapper_of(run) == first
    assert statuses(run)[-1] == "stopped"


def test_a_hook_that_fails_ends_nothing(stack: Server, nori: Callable[[str], Run]) -> None:
    run = nori("a broken hook")
    run.question()
    folder = Path(stack.environ["STATE_DIR"]) / "runs" / run.id
    until((folder / "notes.json").exists, PATIENCE_S)
    (folder / "notes.json").write_text("{")  # it writes them again after its next step
    [notice] = until(
        lambda: [e for e in run.events("notice") if e["body"]["about"] == "hold"], PATIENCE_S
    )
    assert "could not be put on hold" in notice["body"]["text"]
    assert "JSONDecodeError" in notice["body"]["text"]
    assert is_there(wrapper_of(run))
    assert run.state()["status"] == "waiting"
    asked = run.say("help")
    assert "rule-driven demo agent" in run.reply(asked)
