"""What axe finds on the main views, in light, dark and without motion: nothing."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.browser.ui_fixture.fixtures import OpenPage
from tests.browser.ui_fixture.story import Story

pytestmark = pytest.mark.browser

SCHEMES = [
    pytest.param({"color_scheme": "light", "reduced_motion": "reduce"}, id="light"),
    pytest.param({"color_scheme": "dark", "reduced_motion": "reduce"}, id="dark"),
    pytest.param(
        {"color_scheme": "dark", "reduced_motion": "reduce", "forced_colors": "active"},
        id="forced-colours",
    ),
    pytest.param(
        {"reduced_motion": "reduce", "viewport": {"width": 390, "height": 844}}, id="telephone"
    ),
]


def found(page: Page) -> list[str]:
    # without preload: axe would copy the shadow root's sheets into inline styles, which the CSP refuses
    response = Axe().run(page, options={"preload": False}).response
    return [
        f"{v['id']}: {n['target']} {n['failureSummary']}"
        for v in response["violations"]
        for n in v["nodes"]
    ]


@pytest.mark.parametrize("options", SCHEMES)
def test_axe_finds_nothing_on_the_sign_in_page(open_page: OpenPage, options: dict) -> None:
    page = open_page("/sign-in", **options)
    expect(page.get_by_label("Your name")).to_be_visible()
    assert found(page) == []


@pytest.mark.parametrize("options", SCHEMES)
def test_axe_finds_nothing_on_the_list_of_projects(
    story: Story, open_page: OpenPage, options: dict
) -> None:
    page = open_page("/", **options)
    expect(page.get_by_role("link", name="Corner Shop")).to_be_visible()
    assert found(page) == []


@pytest.mark.parametrize("options", SCHEMES)
def test_axe_finds_nothing_in_mission_control(
    story: Story, open_page: OpenPage, options: dict
) -> None:
    page = open_page(f"/projects/{story.project['id']}", **options)
    expect(page.get_by_text("Koji asks a question").last).to_be_visible()
    expect(page.locator(".badge")).to_have_count(3)
    assert found(page) == []


@pytest.mark.parametrize("options", SCHEMES)
@pytest.mark.parametrize("agent", ["miso", "nori", "koji"])
def test_axe_finds_nothing_in_a_chat(
    story: Story, open_page: OpenPage, options: dict, agent: str
) -> None:
    run = getattr(story, agent)
    story.kitchen.delta(story.nori, "msg_open", "Still **writing**")
    page = open_page(f"/projects/{story.project['id']}?run={run}", **options)
    expect(page.locator("chat-log article.said").first).to_be_visible()
    assert found(page) == []


@pytest.mark.parametrize("options", SCHEMES)
def test_axe_finds_nothing_in_the_log(story: Story, open_page: OpenPage, options: dict) -> None:
    page = open_page(f"/projects/{story.project['id']}/logs", **options)
    expect(page.locator(".log-line")).to_have_count(11)
    assert found(page) == []


def test_the_talk_is_a_polite_live_region_and_motion_can_be_off(
    story: Story, open_page: OpenPage
) -> None:
    page = open_page(f"/projects/{story.project['id']}?run={story.nori}", reduced_motion="reduce")
    log = page.get_by_role("log", name="Conversation with Nori")
    expect(log).to_have_attribute("aria-live", "polite")
    assert (
        page.locator(".status .dot").first.evaluate("e => getComputedStyle(e).animationName")
        == "none"
    )
