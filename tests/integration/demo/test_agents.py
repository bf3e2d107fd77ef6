"""The demo's agents in real processes, at real work on real git, with a person who talks to them."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chat.settings import load_settings
from demo import seed
from demo.workshop import create_repository, git
from tests.serving import Server, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(420), pytest.mark.xdist_group("demo")]
PATIENCE_S = 150


class Run:
    """One agent's run, as a person sees it."""

    def __init__(self, stack: Server, run_id: str) -> None:
        self.stack = stack
        self.id = run_id
        self.person = stack.person("Anna")
        self.path = f"/api/agent-runs/{run_id}"
        self._keys = 0

    def events(self, *kinds: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while True:
            after = found[-1]["seq"] if found else 0
            page = self.person.get(f"{self.path}/messages?after={after}&limit=200").json
            found += page["events"]
            if not page["has_more"]:
                return [event for event in found if not kinds or event["kind"] in kinds]

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = self.person.get(self.path).json["run"]
        return found

    def say(self, text: str) -> dict[str, Any]:
        return self._post("/messages", {"text": text})

    def order(self, action: str) -> dict[str, Any]:
        return self._post("/orders", {"action": action})

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        self._keys += 1
        reply = self.person.post(self.path + path, body, Idempotency_Key=f"{self.id}-{self._keys}")
        assert reply.status == 201, reply.data
        event: dict[str, Any] = reply.json["event"]
        return event

    def receipt(self, message: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = self.person.get(f"{self.path}/messages/{message['id']}").json
        return found

    def reply(self, message: dict[str, Any]) -> str:
        """What the agent says to it, once it has."""

        def said() -> list[str]:
            return [
                event["body"]["text"]
                for event in self.events("message")
                if event["body"].get("reply_to") == message["id"]
            ]

        return until(said, PATIENCE_S)[0]

    def question(self) -> dict[str, Any]:
        found = until(
            lambda: self.person.get(f"{self.path}/questions").json["questions"], PATIENCE_S
        )
        return dict(found[0])

    def answer(self, **answer: str) -> None:
        question = self.question()
        reply = self.person.post(f"{self.path}/questions/{question['id']}/answer", answer)
        assert reply.status == 201, reply.data

    def becomes(self, status: str) -> dict[str, Any]:
        until(lambda: self.state()["status"] == status, PATIENCE_S)
        return self.state()

    def process(self) -> int:
        """The pid of the agent itself, below the wrapper."""
        folder = Path(self.stack.environ["STATE_DIR"]) / "runs" / self.id
        wrapper = json.loads((folder / "process.json").read_text())["pid"]
        children = Path(f"/proc/{wrapper}/task/{wrapper}/children")
        return int(until(lambda: children.read_text().split(), PATIENCE_S)[0])


def repository(stack: Server, feature_id: str) -> Path:
    return Path(stack.environ["STATE_DIR"]) / "repos" / feature_id


@pytest.fixture
def nori(stack: Server) -> Callable[[str], Run]:
    """A coder at work on a shop of its own."""

    def make(feature: str) -> Run:
        anna = stack.person("Anna")
        key = feature.replace(" ", "-")
        project = anna.post("/api/projects", {"name": feature}, Idempotency_Key=f"p-{key}").json
        path = f"/api/projects/{project['id']}/features"
        made = anna.post(path, {"name": feature}, Idempotency_Key=f"f-{key}").json
        create_repository(repository(stack, made["id"]), seed.TEMPLATE)
        body = {"feature_id": made["id"], "agent_id": "nori", "start": "launch"}
        reply = anna.post("/api/agent-runs", body, Idempotency_Key=f"r-{key}")
        assert reply.status == 201, reply.data
        return Run(stack, reply.json["run"]["id"])

    return make


def test_a_person_renames_pauses_answers_and_finds_all_of_it_in_the_repository(
    stack: Server, nori: Callable[[str], Run]
) -> None:
    run = nori("a story")
    repo = repository(stack, run.state()["feature_id"])
    assert run.question()["body"]["handle"] == "rounding-1"
    run.becomes("waiting")

    # words change what it does, and it says so
    renaming = run.say("call it total_price")
    assert "Renamed `calc` to `total_price`" in run.reply(renaming)
    receipt = run.receipt(renaming)
    assert receipt["receipt"]["state"] == "in_context"
    assert "call it total_price" in receipt["proof"]["text"]
    assert receipt["proof"]["text"].startswith(
        "The user sent a new message while you were working:"
    )
    assert "Rename calc to total_price, as Anna asked" in git(repo, "log", "--format=%s")
    assert "def total_price(self)" in (repo / "teashop" / "cart.py").read_text()

    # paused: nothing is read, nothing is done, until it may go on
    run.order("pause")
    run.becomes("paused")
    held = run.say("what are you doing?")
    run.answer(text="I leave that to you")
    until(lambda: run.receipt(held)["receipt"]["state"] == "stored", PATIENCE_S)
    resumed = run.order("resume")
    assert "round the tax to whole cents" in run.reply(held)
    paused_at = next(
        event["seq"] for event in run.events("status") if event["body"]["status"] == "paused"
    )
    between = [event for event in run.events() if paused_at < event["seq"] < resumed["seq"]]
    assert {event["kind"] for event in between} <= {"message", "answer", "receipt", "order", "log"}
    assert not [
        event for event in between if event["sender"]["kind"] == "agent" and event["kind"] != "log"
    ]

    # an unclear answer is asked again with the reason; a clear one is carried out
    until(lambda: run.question()["body"]["handle"] == "rounding-2", PATIENCE_S)
    assert "I leave that to you" in run.question()["body"]["text"]
    run.answer(value="total")
    until(lambda: "Round the total, as Anna decided" in git(repo, "log", "--format=%s"), PATIENCE_S)
    assert ", 38)" in (repo / "tests" / "test_rounding.py").read_text()
    assert "whole(sum(" in (repo / "teashop" / "tax.py").read_text()

    # the last words before the end are read as well
    until(
        lambda: any("That was my list" in event["body"]["text"] for event in run.events("message")),
        PATIENCE_S,
    )
    last = run.person.post(
        f"{run.path}/messages", {"text": "thanks!"}, Idempotency_Key="last-words"
    )
    assert last.status in {201, 409}, last.data
    run.becomes("completed")
    if last.status == 201:
        assert run.receipt(last.json["event"])["receipt"]["state"] == "in_context"
    assert git(repo, "log", "-1", "--format=%an") == "Nori"
    done = [event["body"] for event in run.events("status")][-1]
    assert "all 26 tests pass" in done["detail"]


def test_a_killed_agent_is_failed_and_says_so(
    nori: Callable[[str], Run],
) -> None:
    run = nori("a kill")
    run.question()
    os.kill(run.process(), signal.SIGKILL)
    run.becomes("failed")
    assert run.events("error")


def test_sigterm_ends_it_as_stopped_with_a_clean_working_copy(
    stack: Server, nori: Callable[[str], Run]
) -> None:
    run = nori("a signal")
    repo = repository(stack, run.state()["feature_id"])
    run.question()
    os.kill(run.process(), signal.SIGTERM)
    run.becomes("stopped")
    assert git(repo.with_name(f"{repo.name}.nori"), "status", "--porcelain") == ""


def test_the_word_stop_stops_it_and_the_order_does_too(nori: Callable[[str], Run]) -> None:
    by_word, by_order = nori("a word"), nori("an order")
    by_word.question()
    asked = by_word.say("stop")
    assert "Stopping after step" in by_word.reply(asked)
    by_word.becomes("stopped")
    by_order.order("stop")
    by_order.becomes("stopped")


def test_seeding_twice_starts_four_agents_once(stack: Server) -> None:
    settings = load_settings(stack.environ)
    said = seed.seed(settings, stack.origin, again=False)
    assert "Miso, Nori, Koji, Toro begin" in said
    again = seed.seed(settings, stack.origin, again=False)
    assert "begin" not in again
    feature = seed.feature_of(_signed_in(stack), "unused: it is there")
    anna = stack.person("Anna")
    runs = anna.get(f"/api/agent-runs?feature_id={feature['id']}").json["runs"]
    assert sorted(run["agent_name"] for run in runs) == ["Koji", "Miso", "Nori", "Toro"]
    repo = repository(stack, feature["id"])

    def authors() -> bool:
        return {"Nori", "Toro", "Miso"} <= set(git(repo, "log", "--format=%an").splitlines())

    until(authors, PATIENCE_S)


def test_a_pipeline_of_a_new_feature_goes_through_and_is_sent_back_once(stack: Server) -> None:
    anna = stack.person("Anna")
    project = anna.post("/api/projects", {"name": "Anew"}, Idempotency_Key="p-anew").json["id"]
    feature = anna.post(f"/api/projects/{project}/features", {"name": "Anew"}).json["id"]
    path = f"/api/features/{feature}/pipeline"
    assert anna.post(path, {}).status == 201

    def turn(number: int, result: str) -> Run:
        def reached() -> bool:
            turns = anna.get(path).json["turns"]
            return len(turns) >= number and turns[number - 1]["result"] == result

        until(reached, PATIENCE_S)
        return Run(stack, anna.get(path).json["turns"][number - 1]["run_id"])

    turn(1, "passed")
    coder = turn(2, "open")
    # what a person does not want done is not done, and the reviewer finds that
    coder.reply(coder.say("skip the rounding"))
    turn(2, "passed")
    turn(3, "sent_back")
    again = turn(4, "asking")
    assert "test_" in anna.get(path).json["turns"][2]["summary"]
    again.answer(value="total")
    turn(6, "passed")
    until(lambda: anna.get(path).json["state"] == "done", 30)
    shown = [(one["role"], one["result"]) for one in anna.get(path).json["turns"]]
    assert shown == [
        ("architect", "passed"), ("coder", "passed"), ("reviewer", "sent_back"),
        ("coder", "passed"), ("reviewer", "passed"), ("tester", "passed"),
    ]  # fmt: skip
    said = [event["body"]["text"] for event in again.events("message")]
    assert "I have read the hand-over, and begin." in said
    log = git(repository(stack, feature), "log", "--format=%an: %s")
    assert "Nori: Round the total, as Anna decided" in log
    assert "Miso: The plan" in log


def _signed_in(stack: Server) -> seed.Api:
    api = seed.Api(stack.origin)
    api.post("/api/session", {"name": seed.PERSON})
    return api
