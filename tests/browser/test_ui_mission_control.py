"""The cards."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import Page, expect

from tests.browser.ui_fixture.fixtures import OpenPage
from tests.browser.ui_fixture.kitchen import Kitchen
from tests.browser.ui_fixture.story import Story

pytestmark = pytest.mark.browser


def card(page: Page, name: str):
    return page.locator("agent-card", has=page.get_by_role("heading", name=name, exact=True))


@pytest.fixture
def mission(story: Story, open_page: OpenPage) -> Page:
    page = open_page(f"/projects/{story.project['id']}")
    expect(card(page, "Nori")).to_contain_text("Coding")
    return page


def test_a_card_shows_status_step_last_words_and_time(mission: Page) -> None:
    nori = card(mission, "Nori")
    expect(nori.locator(".role")).to_have_text("Coder")
    expect(nori.locator(".status")).to_have_text("Coding")
    expect(nori.locator(".card-step")).to_contain_text("Run pytest -q")
    expect(nori.locator(".card-said")).to_contain_text("Renamed it everywhere")
    expect(nori.locator("elapsed-time")).to_have_text(re.compile(r"\d+ (s|min \d\d s)"))
    expect(nori.locator("img")).to_have_attribute("src", re.compile("nori.svg"))


def test_whoever_asks_a_question_stands_first_and_is_told_once(story: Story, mission: Page) -> None:
    expect(mission.locator("agent-card h3").first).to_have_text("Koji")
    expect(card(mission, "Koji")).to_contain_text("Koji asks a question")
    expect(mission.get_by_role("status").first).to_have_text("Koji asks a question")
    story.kitchen.ask(story.nori, "Shall I go on?", "Yes")
    expect(mission.get_by_role("status").first).to_have_text("Nori asks a question")
    expect(mission.locator("agent-card h3").first).to_have_text("Nori")
    expect(mission.locator("agent-card h3").nth(1)).to_have_text("Koji")


def test_an_idle_agents_card_opens_nothing_but_can_be_started(story: Story, mission: Page) -> None:
    toro = card(mission, "Toro")
    expect(toro.get_by_role("button", name="Chat with Toro")).to_have_count(0)
    toro.locator(".card-said").click()
    expect(mission.locator("omakase-chat")).to_have_count(0)
    toro.get_by_role("button", name="Start Toro").click()
    expect(toro.locator(".status")).to_have_text("Queued")
    run = next(r for r in story.kitchen.runs.values() if r["agent_id"] == "toro")
    assert run["start"] == "launch"
    story.kitchen.status(run["id"], "working", "testing")
    expect(toro.locator(".status")).to_have_text("Testing")


def test_two_runs_of_one_agent_that_go_on_have_a_card_each(story: Story, mission: Page) -> None:
    koji = card(mission, "Koji")
    expect(koji).to_contain_text("Koji asks a question")
    second = story.kitchen.run(story.cart, "koji")["id"]  # a pipeline's, beside the one that waits
    story.kitchen.status(second, "working", "reviewing")
    expect(koji).to_have_count(2)
    expect(koji.filter(has_text="Koji asks a question")).to_have_count(1)
    expect(koji.filter(has_text="Reviewing")).to_have_count(1)
    story.kitchen.status(second, "completed")
    expect(koji).to_have_count(1)
    expect(koji).to_contain_text("Koji asks a question")


def test_attaching_shows_one_line_for_a_terminal(story: Story, mission: Page, ui) -> None:
    card(mission, "Toro").get_by_role("button", name="Attach Toro").click()
    dialog = mission.get_by_role("dialog")
    expect(dialog.locator(".command")).to_contain_text(
        f"curl -sO {ui.url}/agent-hooks.pyz && python3 agent-hooks.pyz register --server {ui.url}"
    )
    expect(dialog.locator(".command")).to_contain_text('--feature "Shopping Cart" --agent toro')
    mission.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    # somebody runs it, and the card comes to life without a reload
    story.kitchen.run(story.cart, "toro", "attach")
    expect(card(mission, "Toro").get_by_role("button", name="Chat with Toro")).to_be_visible()


def test_stop_asks_first(story: Story, mission: Page) -> None:
    nori = card(mission, "Nori")
    nori.get_by_role("button", name="Stop Nori").click()
    expect(nori.get_by_role("alertdialog")).to_be_visible()
    nori.get_by_role("button", name="Keep working").click()
    assert not [call for call in story.kitchen.calls if call[1].endswith("/orders")]
    nori.get_by_role("button", name="Stop Nori").click()
    with mission.expect_response("**/orders"):
        nori.get_by_role("alertdialog").get_by_role("button", name="Stop Nori").click()
    assert story.kitchen.logs[story.nori][-1]["body"]["action"] == "stop"


def test_unread_counts_grow_live_stand_in_the_title_and_go_when_the_chat_is_read(
    story: Story, mission: Page
) -> None:
    nori = card(mission, "Nori")
    expect(nori.locator(".badge")).to_have_text("2")
    story.kitchen.say(story.nori, "One more thing.")
    expect(nori.locator(".badge")).to_have_text("3")
    expect(mission).to_have_title(re.compile(r"^\(6\) Corner Shop"))
    nori.get_by_role("button", name="Chat with Nori").click()
    expect(nori.locator(".badge")).to_have_count(0)
    expect(mission).to_have_title(re.compile(r"^\(3\) Corner Shop"))
    mission.reload()
    expect(card(mission, "Koji").locator(".badge")).to_have_text("2")
    expect(nori.locator(".badge")).to_have_count(0)


def test_one_socket_serves_every_run_of_the_page(
    kitchen: Kitchen, story: Story, mission: Page, ui
) -> None:
    card(mission, "Nori").get_by_role("button", name="Chat with Nori").click()
    expect(mission.locator("chat-message").first).to_be_visible()
    assert len(ui.lines) == 1
    assert {f["run_id"] for f in kitchen.frames if f["type"] == "subscribe"} == {
        story.miso,
        story.nori,
        story.koji,
    }


def test_j_and_k_move_between_cards_and_the_question_mark_shows_the_keys(mission: Page) -> None:
    mission.keyboard.press("j")
    expect(mission.get_by_role("button", name="Chat with Koji")).to_be_focused()
    mission.keyboard.press("j")
    expect(mission.get_by_role("button", name="Chat with Miso")).to_be_focused()
    mission.keyboard.press("k")
    expect(mission.get_by_role("button", name="Chat with Koji")).to_be_focused()
    mission.keyboard.press("?")
    expect(mission.get_by_role("dialog", name="Keys")).to_be_visible()


def _ago(minutes: float) -> str:
    return (datetime.now(UTC) - timedelta(minutes=minutes)).isoformat(timespec="milliseconds")


def test_a_card_says_what_a_paused_agent_costs_and_when_it_goes_on_hold(
    story: Story, mission: Page
) -> None:
    run = story.kitchen.runs[story.nori]
    run["cost"] = {"currency": "$", "per_hour": 0.04, "so_far": 0.31}
    run["since"], run["hold_at"] = _ago(12), _ago(-48)
    story.kitchen.status(story.nori, "paused")
    story.kitchen.broadcast({"type": "runs", "project_id": story.project["id"]})
    line = card(mission, "Nori").locator("cost-line")
    expect(line).to_have_text(
        "paused for 12 min, 0.04 $ an hour, 0.31 $ so far; goes on hold in 48 min"
    )
    run["since"], run["hold_at"] = _ago(90), None
    story.kitchen.status(story.nori, "suspended")
    story.kitchen.broadcast({"type": "runs", "project_id": story.project["id"]})
    expect(card(mission, "Nori").locator(".status")).to_have_text("On hold")
    expect(line).to_have_text("on hold for 1 h 30 min, costs nothing, 0.31 $ so far")
    expect(card(mission, "Miso").locator("cost-line p")).to_have_count(0)
