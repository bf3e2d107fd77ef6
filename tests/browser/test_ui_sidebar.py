"""Where the chat opens, and what survives."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.ui_fixture.fixtures import OpenPage
from tests.browser.ui_fixture.story import Story

pytestmark = pytest.mark.browser


@pytest.fixture
def mission(story: Story, open_page: OpenPage) -> Page:
    page = open_page(f"/projects/{story.project['id']}")
    expect(page.get_by_role("button", name="Chat with Nori")).to_be_visible()
    return page


def test_it_opens_from_a_card_writes_the_address_and_survives_a_reload(
    story: Story, mission: Page
) -> None:
    mission.get_by_role("button", name="Chat with Nori").click()
    expect(mission).to_have_url(re.compile(f"run={story.nori}"))
    expect(mission.get_by_label("Message to Nori")).to_be_focused()
    mission.get_by_label("Message to Nori").fill("a draft")
    mission.reload()
    expect(mission.get_by_label("Message to Nori")).to_have_value("a draft")


def test_it_stays_open_across_the_tabs_and_on_the_same_socket(mission: Page, ui) -> None:
    mission.get_by_role("button", name="Chat with Nori").click()
    mission.get_by_label("Message to Nori").fill("half a")
    mission.get_by_role("link", name="Log", exact=True).click()
    expect(mission.locator(".log-line").first).to_be_visible()
    expect(mission.get_by_label("Message to Nori")).to_have_value("half a")
    assert len(ui.lines) == 1


def test_escape_closes_one_layer_gives_the_focus_back_and_keeps_the_draft(mission: Page) -> None:
    opener = mission.get_by_role("button", name="Chat with Nori")
    opener.click()
    mission.get_by_label("Message to Nori").fill("not yet")
    mission.locator("chat-panel").get_by_role("button", name="Stop Nori").click()
    mission.keyboard.press("Escape")
    expect(mission.locator("omakase-chat")).to_have_count(1)
    mission.keyboard.press("Escape")
    expect(mission.locator("omakase-chat")).to_have_count(0)
    expect(opener).to_be_focused()
    expect(mission).not_to_have_url(re.compile("run="))
    opener.click()
    expect(mission.get_by_label("Message to Nori")).to_have_value("not yet")


def test_slash_goes_to_the_composer_and_types_nothing(mission: Page) -> None:
    mission.get_by_role("button", name="Chat with Nori").click()
    expect(mission.get_by_label("Message to Nori")).to_be_focused()
    mission.get_by_role("button", name="Chat with Koji").focus()
    mission.keyboard.press("/")
    expect(mission.get_by_label("Message to Nori")).to_be_focused()
    expect(mission.get_by_label("Message to Nori")).to_have_value("")
    mission.keyboard.press("/")
    expect(mission.get_by_label("Message to Nori")).to_have_value("/")


def test_another_card_changes_the_chat_and_each_keeps_its_draft(mission: Page) -> None:
    mission.get_by_role("button", name="Chat with Nori").click()
    mission.get_by_label("Message to Nori").fill("for Nori")
    mission.get_by_role("button", name="Chat with Koji").click()
    expect(mission.get_by_label("Message to Koji")).to_have_value("")
    mission.get_by_role("button", name="Chat with Nori").click()
    expect(mission.get_by_label("Message to Nori")).to_have_value("for Nori")


def test_it_can_be_made_wider_by_keyboard_and_pointer(mission: Page) -> None:
    mission.get_by_role("button", name="Chat with Nori").click()
    aside = mission.get_by_role("complementary", name="Chat")
    edge = mission.get_by_role("separator", name="Width of the chat")
    expect(aside).to_be_visible()
    before = aside.bounding_box()["width"]
    edge.press("ArrowLeft")
    expect(edge).to_have_attribute("aria-valuenow", str(round(before + 24)))
    box = edge.bounding_box()
    mission.mouse.move(box["x"] + 5, 400)
    mission.mouse.down()
    mission.mouse.move(box["x"] - 95, 400)
    mission.mouse.up()
    assert aside.bounding_box()["width"] > before + 100
    mission.reload()
    expect(edge).to_have_attribute("aria-valuenow", re.compile(r"5[5-9]\d|6\d\d"))


def test_on_a_telephone_it_is_a_dialog_over_the_whole_screen(
    story: Story, open_page: OpenPage
) -> None:
    page = open_page(f"/projects/{story.project['id']}", viewport={"width": 390, "height": 844})
    page.get_by_role("button", name="Chat with Nori").click()
    dialog = page.get_by_role("dialog", name="Chat")
    expect(dialog).to_be_visible()
    assert dialog.bounding_box() == {"x": 0, "y": 0, "width": 390, "height": 844}
    page.keyboard.press("Escape")
    expect(page.locator("omakase-chat")).to_have_count(0)
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_at_twice_the_size_nothing_is_cut_off_sideways(story: Story, open_page: OpenPage) -> None:
    for path in ("", "/logs", f"?run={story.nori}"):
        page = open_page(
            f"/projects/{story.project['id']}{path}", viewport={"width": 640, "height": 400}
        )
        expect(page.locator("agent-card, .log-line").first).to_be_attached()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
