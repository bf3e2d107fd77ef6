"""The connection: cuts, silence, gaps; nothing missing and nothing twice."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.browser.ui_fixture.fixtures import OpenPage
from tests.browser.ui_fixture.kitchen import Kitchen
from tests.browser.ui_fixture.server import UiServer
from tests.browser.ui_fixture.story import Story

pytestmark = pytest.mark.browser


@pytest.fixture
def nori(story: Story, open_page: OpenPage) -> Page:
    page = open_page(f"/projects/{story.project['id']}?run={story.nori}")
    expect(page.locator("article.said").last).to_contain_text("Renamed it everywhere")
    return page


def subscribed(kitchen: Kitchen, run: str) -> list[int | None]:
    return [f["after"] for f in kitchen.frames if f["type"] == "subscribe" and f["run_id"] == run]


def test_after_a_cut_in_mid_stream_only_what_is_missing_is_asked_for(
    story: Story, nori: Page, ui: UiServer
) -> None:
    kitchen, run = story.kitchen, story.nori
    kitchen.delta(run, "msg_s", "Before the cut, ")
    expect(nori.locator("streaming-message")).to_contain_text("Before the cut,")
    head = kitchen.runs[run]["head"]
    pages = len([c for c in kitchen.calls if "/messages?" in c[1]])
    listeners = list(kitchen.listeners)
    kitchen.listeners.clear()
    kitchen.delta(run, "msg_s", "during it, ")
    for number in range(5):
        kitchen.step(run, 10 + number, f"Hidden step {number}", ok=True)
    kitchen.listeners.extend(listeners)
    ui.cut()
    expect(nori.locator("streaming-message markdown-text")).to_have_text(
        "Before the cut, during it,"
    )
    kitchen.delta(run, "msg_s", "after it.")
    expect(nori.locator("streaming-message markdown-text")).to_have_text(
        "Before the cut, during it, after it."
    )
    kitchen.say(run, "Before the cut, during it, after it.", event_id="msg_s")
    expect(nori.locator("article.said", has_text="during it")).to_have_count(1)
    expect(nori.locator(".step-name", has_text="Hidden step")).to_have_count(5)
    assert subscribed(kitchen, run)[-1] == head
    assert len([c for c in kitchen.calls if "/messages?" in c[1]]) == pages


def test_many_cuts_lose_nothing_and_double_nothing(story: Story, nori: Page, ui: UiServer) -> None:
    for number in range(40):
        story.kitchen.say(story.nori, f"Numbered {number}.")
        if number % 8 == 3:
            ui.cut()
    expect(nori.locator("article.said", has_text="Numbered 39.")).to_have_count(1)
    words = nori.locator("article.said markdown-text").all_inner_texts()
    assert [w for w in words if w.startswith("Numbered")] == [f"Numbered {n}." for n in range(40)]


def test_a_server_that_is_away_is_told_after_two_seconds_and_what_was_written_is_sent_later(
    story: Story, nori: Page, ui: UiServer
) -> None:
    ui.is_reachable = False
    ui.cut()
    expect(nori.locator("chat-panel .banner")).to_have_text("Reconnecting… nothing is lost")
    nori.get_by_label("Message to Nori").fill("Written in the dark")
    nori.get_by_label("Message to Nori").press("Enter")
    expect(
        nori.locator("article.mine", has_text="Written in the dark").get_by_role("alert")
    ).to_be_visible()
    ui.is_reachable = True
    expect(nori.locator("chat-panel .banner")).to_have_count(0, timeout=30_000)
    expect(
        nori.locator("article.mine", has_text="Written in the dark").locator(".ticks-word")
    ).to_have_text("Queued")
    expect(nori.get_by_label("Message to Nori")).to_have_value("")
    texts = [e["body"].get("text") for e in story.kitchen.logs[story.nori]]
    assert texts.count("Written in the dark") == 1


def test_a_browser_that_goes_offline_notices_although_its_socket_stays_open(
    story: Story, nori: Page
) -> None:
    nori.context.set_offline(True)
    expect(nori.locator("chat-panel .banner")).to_be_visible()
    story.kitchen.say(story.nori, "Said meanwhile.")
    nori.context.set_offline(False)
    expect(nori.locator("article.said", has_text="Said meanwhile.")).to_have_count(1)
    expect(nori.locator("chat-panel .banner")).to_have_count(0)


def test_a_short_cut_says_nothing(story: Story, nori: Page, ui: UiServer) -> None:
    nori.evaluate(
        """() => {
          window.seen = 0;
          const root = document.querySelector("omakase-chat").shadowRoot;
          new MutationObserver(() => { if (root.querySelector(".banner")) window.seen++; }).observe(root, {subtree: true, childList: true});
        }"""
    )
    ui.cut()
    story.kitchen.say(story.nori, "Back already.")
    expect(nori.locator("article.said", has_text="Back already.")).to_have_count(1)
    assert nori.evaluate("window.seen") == 0


def test_a_log_of_another_epoch_is_read_anew(story: Story, nori: Page, ui: UiServer) -> None:
    kitchen, run = story.kitchen, story.nori
    with kitchen.lock:
        kitchen.epoch = "e2"
        kitchen.logs[run] = []
    kitchen.status(run, "working", "testing")
    kitchen.say(run, "A new beginning.")
    ui.cut()
    expect(nori.locator("article.said")).to_have_count(1)
    expect(nori.locator("article.said")).to_contain_text("A new beginning.")
    kitchen.say(run, "And on.")
    expect(nori.locator("article.said")).to_have_count(2)


def test_an_event_that_is_missing_in_between_is_asked_for(story: Story, nori: Page) -> None:
    kitchen, run = story.kitchen, story.nori
    listeners = list(kitchen.listeners)
    kitchen.listeners.clear()
    kitchen.say(run, "The lost one.")
    kitchen.listeners.extend(listeners)
    kitchen.say(run, "The next one.")
    expect(nori.locator("article.said", has_text="The lost one.")).to_have_count(1)
    words = nori.locator("article.said markdown-text").all_inner_texts()
    assert words[-2:] == ["The lost one.", "The next one."]


def test_a_session_that_ends_leads_to_the_sign_in(story: Story, nori: Page, ui: UiServer) -> None:
    for _ in range(100):  # until its socket is there to be cut
        if ui.lines:
            break
        nori.wait_for_timeout(50)
    story.kitchen.signed_in = False
    ui.cut(4401)
    expect(nori.get_by_label("Your name")).to_be_visible()
