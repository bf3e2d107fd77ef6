"""A pipeline on the page from its making to its end: a real web process, Redis and database, people in a
real browser, agents over the API they have. What workers do is done here, by the calls that they make."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
import redis
from playwright.sync_api import Browser, Locator, Page, expect

from chat.adapters.embedded_redis import EmbeddedRedis
from chat.bootstrap import Chat, bootstrap
from chat.settings import load_settings
from tests.serving import Api, Server, start, until, web_redis
from tests.world import ListedRuntime, RecordedTasks

__all__ = ["web_redis"]
pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]
PATIENCE_MS = 30_000
WISH = "and call it total_price"
NOTE = "Half a cent is rounded up."


@dataclass
class Workers:
    """What a worker and its beat do, over and over; it starts agents that are only the test's."""

    chat: Chat
    tasks: RecordedTasks
    stop: Event = field(default_factory=Event)
    failure: Exception | None = None

    def __post_init__(self) -> None:
        self.thread = Thread(target=self._work, daemon=True)
        self.thread.start()

    def _work(self) -> None:
        try:
            while not self.stop.wait(0.05):
                for run_id in self.chat.log.active():
                    self.chat.delivery.drain(run_id)
                self.chat.pipelines.sweep()
                for name, run_id in self.tasks.take():
                    if name == "launch":  # the rest is done with every round
                        self.chat.delivery.launch(run_id)
        except Exception as error:  # noqa: BLE001 - raised where the test ends
            self.failure = error

    def close(self) -> None:
        self.stop.set()
        self.thread.join(30)
        if self.failure is not None:
            raise self.failure


@dataclass
class Agent:
    """A light agent: it reads its mailbox and ends."""

    run_id: str
    api: Api

    def _post(self, path: str, body: Any) -> None:
        reply = self.api.post(f"/api/agent-runs/{self.run_id}{path}", body)
        assert reply.status in {200, 201}, reply.data

    def works(self, phase: str) -> None:
        body = {"status": "working", "phase": phase}
        self._post("/events", {"events": [{"key": "w", "kind": "status", "body": body}]})

    def reads(self, count: int) -> list[str]:
        """So many messages of its mailbox, confirmed."""
        found: dict[str, str] = {}

        def all_there() -> bool:
            given = self.api.get(f"/api/agent-runs/{self.run_id}/mailbox?holder=h").json["items"]
            found.update({one["event"]["id"]: one["event"]["body"]["text"] for one in given})
            return len(found) >= count

        until(all_there, 60)
        text = "\n".join(found.values())
        sha256 = hashlib.sha256(text.encode()).hexdigest()
        body = {"ids": list(found), "step": 1, "text": text, "sha256": sha256}
        self._post("/mailbox/confirm", body)
        return list(found.values())

    def ends(self, outcome: str = "completed", **said: Any) -> None:
        self._post("/finish", {"holder": "h", "last_seq": 0, "outcome": outcome, **said})


@dataclass
class Place:
    """The running server, and the agents' side of whatever runs on it."""

    server: Server
    anna: Api
    chat: Chat
    done: int = 0
    """Turns that the test has played."""

    def turns(self) -> list[dict[str, Any]]:
        """Of the only feature there is, or will be."""
        (project,) = self.chat.store.projects()
        lines = self.anna.get(f"/api/projects/{project.id}/pipelines").json["pipelines"]
        turns: list[dict[str, Any]] = lines[0]["turns"] if lines else []
        return turns

    def next_agent(self) -> Agent:
        """The agent of the next turn, as soon as its run has been started."""

        def begun() -> str | None:
            turns = self.turns()
            is_open = len(turns) > self.done and turns[self.done]["result"] == "open"
            return turns[self.done]["run_id"] if is_open else None

        run_id: str = until(begun, 60)
        self.done += 1
        token = self.chat.tokens.of(run_id)
        return Agent(run_id, Api(self.server.port, {"Authorization": f"Bearer {token}"}))


@pytest.fixture
def place(web_redis: EmbeddedRedis, tmp_path: Path) -> Iterator[Place]:
    with redis.Redis.from_url(web_redis.url) as client:
        client.flushall()
    server = start(web_redis.url, tmp_path)
    tasks = RecordedTasks()
    chat = bootstrap(load_settings(server.environ), tasks=tasks, runtime=ListedRuntime())
    workers = Workers(chat, tasks)
    yield Place(server, server.person(), chat)
    server.stop()
    workers.close()


@pytest.fixture
def page(ui_chromium: Browser, place: Place) -> Iterator[Page]:
    context = ui_chromium.new_context(viewport={"width": 1440, "height": 900})
    errors: list[str] = []
    page = context.new_page()
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(place.server.origin)
    page.get_by_label("Your name").fill("Anna")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="What is being made")).to_be_visible()
    yield page
    context.close()
    assert errors == []


def stage(page: Page, name: str) -> Locator:
    return page.locator(".stage", has_text=name)


def stands(page: Page, **words: str) -> None:
    """Each named role's stage says this, sooner or later."""
    for name, word in words.items():
        expect(stage(page, name.capitalize())).to_contain_text(word, timeout=PATIENCE_MS)


def test_a_person_makes_a_feature_and_takes_it_through_its_pipeline_on_one_page(
    place: Place, page: Page
) -> None:
    # nobody has used this place before: the page says what to do, and it is enough
    expect(page.get_by_text("No project yet")).to_be_visible()
    page.get_by_label("Name of a new project").fill("Corner Shop")
    page.get_by_role("button", name="Create project").click()
    expect(page.get_by_text("No feature yet")).to_be_visible()
    page.evaluate("window.neverReloaded = true")
    page.get_by_label("Name of a new feature").fill("Shopping Cart")
    page.get_by_label("What it is about").fill("Add, remove, total.")
    page.get_by_role("button", name="Create and start its pipeline").click()

    # the architect and the coder pass it on
    miso = place.next_agent()
    (handed,) = miso.reads(1)
    assert "Miso, you are the architect of 'Shopping Cart'" in handed
    assert "> Add, remove, total." in handed
    miso.works("thinking")
    stands(page, miso="At work", nori="Not begun", koji="Not begun", toro="Not begun")
    miso.ends(summary="The plan: cart.py, three functions.")
    stands(page, miso="Passed", nori="At work")
    nori = place.next_agent()
    assert "> The plan: cart.py, three functions." in nori.reads(1)[0]
    nori.ends(summary="Written.")

    # the reviewer sends it back, which is said once
    koji = place.next_agent()
    koji.reads(1)
    stands(page, nori="Passed", koji="At work")
    koji.ends(verdict="changes_requested", summary="Round the total, not the lines.")
    spoken = page.locator("omakase-app > p[role=status]")
    expect(spoken).to_have_text("Koji sent Shopping Cart back", timeout=PATIENCE_MS)
    nori = place.next_agent()
    stands(page, koji="Sent back", nori="round 2, attempt 2")

    # one click leads to who is at work, with what was handed over; the person writes and stops it
    stage(page, "Nori").get_by_role("link").click()
    turn = page.locator("run-turn")
    expect(turn).to_contain_text("Turn 4 of the pipeline, round 2, attempt 2: sent back by Koji")
    hand_over = page.locator(".row[data-kind=message]").first
    expect(hand_over).to_contain_text("Koji asks for changes (round 1 of 3).")
    expect(hand_over).to_contain_text("Round the total, not the lines.")
    assert "Koji asks for changes" in nori.reads(1)[0]
    composer = page.get_by_role("textbox", name="Message to Nori")
    composer.fill(WISH)
    composer.press("Enter")
    expect(page.get_by_role("article", name="Anna wrote")).to_contain_text(WISH)
    page.get_by_role("complementary", name="Chat").get_by_role("button", name="Stop Nori").click()
    page.get_by_role("alertdialog").get_by_role("button", name="Stop Nori").click()
    expect(page.get_by_text("Anna asked the agent to stop")).to_be_visible()
    nori.ends("stopped", summary="Stopped by Anna.")
    stands(page, nori="Stopped")
    expect(page.locator(".line-state")).to_contain_text("Nori was stopped", timeout=PATIENCE_MS)

    # work is sent back by hand, with a note; what nobody had read comes after it
    page.get_by_role("button", name="Start a role again").click()
    dialog = page.get_by_role("dialog", name="Start a role again: Shopping Cart")
    expect(dialog.get_by_label("Nori")).to_be_checked()
    dialog.get_by_label("What should be done otherwise?").fill(NOTE)
    dialog.get_by_role("button", name="Start this role").click()
    expect(dialog).to_have_count(0)
    old_run, nori = nori.run_id, place.next_agent()
    handed, moved = nori.reads(2)
    assert f"Anna says:\n> {NOTE}" in handed
    assert moved == WISH
    notice = page.locator(".row[data-kind=notice]")
    expect(notice).to_contain_text("1 unseen message (Anna)", timeout=PATIENCE_MS)
    notice.get_by_role("button", name="run").click()
    expect(page).to_have_url(re.compile(f"run={nori.run_id}$"))
    mine = page.get_by_role("article", name="Anna wrote")
    expect(mine).to_contain_text(WISH)
    expect(mine.locator(".ticks")).to_have_attribute("data-state", "in_context")
    expect(turn).to_contain_text("started by Anna")
    turn.get_by_role("button", name=re.compile("Nori")).click()
    expect(page).to_have_url(re.compile(f"run={old_run}$"))

    # a second start is refused in words, where it was asked for
    page.get_by_role("button", name="Start a role again").click()
    dialog.get_by_role("button", name="Start this role").click()
    expect(dialog.get_by_role("alert")).to_have_text("Nori is at work: stop it first.")
    page.keyboard.press("Escape")

    # a role that has not begun is skipped, and the others finish
    page.get_by_role("button", name="Skip a role").click()
    skip = page.get_by_role("dialog", name="Skip a role: Shopping Cart")
    skip.get_by_label("Toro").check()
    skip.get_by_role("button", name="Skip this role").click()
    stands(page, toro="Skipped")
    nori.ends(summary="Rounded once, half a cent up.")
    koji = place.next_agent()
    koji.reads(1)
    koji.ends(verdict="approved")
    stands(page, nori="Passed", koji="Passed")
    expect(page.locator(".line-state")).to_contain_text("Every role is done.", timeout=PATIENCE_MS)
    expect(spoken).to_have_text("Shopping Cart is done")
    page.locator("details.turns summary").click()
    rows = page.locator("details.turns li")
    expect(rows).to_have_count(6)
    expect(rows.nth(2)).to_contain_text("Round the total, not the lines.")
    expect(rows.nth(4)).to_contain_text(f"Anna says: {NOTE}")
    assert page.evaluate("window.neverReloaded")


def test_a_circle_of_features_is_refused_in_words_and_a_feature_waits_for_another(
    place: Place, page: Page
) -> None:
    project = place.anna.post("/api/projects", {"name": "Corner Shop"}).json["id"]
    features = f"/api/projects/{project}/features"
    cart = place.anna.post(features, {"name": "Cart"}).json["id"]
    page.goto(f"{place.server.origin}/projects/{project}")
    expect(page.get_by_role("heading", name="Cart", exact=True)).to_be_visible()
    # another person's feature appears by itself
    place.anna.post(features, {"name": "Payment", "after": [cart]})
    payment = page.locator(".tray", has=page.get_by_role("heading", name="Payment"))
    expect(payment.locator(".line-after")).to_contain_text("(not done)", timeout=PATIENCE_MS)
    first = page.locator(".tray", has=page.get_by_role("heading", name="Cart", exact=True))
    first.get_by_role("button", name="Comes after").click()
    dialog = page.get_by_role("dialog", name="Comes after: Cart")
    dialog.get_by_label("Payment").check()
    dialog.get_by_role("button", name="Save").click()
    expect(dialog.get_by_role("alert")).to_have_text(
        "They would wait for one another: this feature after 'Payment' after this feature."
    )
    expect(dialog.get_by_label("Payment")).to_be_checked()
    page.keyboard.press("Escape")
    payment.get_by_role("button", name="Start pipeline").click()
    start = page.get_by_role("dialog", name="Start the pipeline: Payment")
    start.get_by_role("button", name="Start pipeline").click()
    expect(payment.locator(".line-state")).to_contain_text(
        "It comes after features that are not done.", timeout=PATIENCE_MS
    )
    payment.get_by_role("button", name="Comes after").click()
    after = page.get_by_role("dialog", name="Comes after: Payment")
    after.get_by_label("Cart").uncheck()
    after.get_by_role("button", name="Save").click()
    expect(payment.locator(".line-state")).to_contain_text("Miso is at work.", timeout=PATIENCE_MS)
    expect(payment.locator(".line-after")).to_have_count(0)
