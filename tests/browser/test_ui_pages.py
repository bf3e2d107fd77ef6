"""Sign-in, projects and features."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.browser.ui_fixture.fixtures import OpenPage
from tests.browser.ui_fixture.kitchen import Kitchen, Refused
from tests.browser.ui_fixture.story import Story

pytestmark = pytest.mark.browser


def test_signing_in_says_that_it_is_local_and_leads_back_to_the_page_that_was_asked_for(
    kitchen: Kitchen, story: Story, open_page: OpenPage
) -> None:
    kitchen.signed_in = False
    page = open_page(f"/projects/{story.project['id']}/logs?run={story.nori}")
    expect(page).to_have_url(re.compile("/sign-in"))
    expect(page.get_by_text("it is only possible on this machine")).to_be_visible()
    page.get_by_label("Your name").fill("Anna")
    page.get_by_role("button", name="Sign in").click()
    expect(page).to_have_url(
        re.compile(rf"/projects/{story.project['id']}/logs\?run={story.nori}$")
    )
    expect(page.locator(".log-line").first).to_be_visible()


def test_a_refused_sign_in_says_why(kitchen: Kitchen, open_page: OpenPage) -> None:
    kitchen.signed_in = kitchen.local_sign_in = False
    page = open_page("/sign-in")
    page.get_by_label("Your name").fill("Mallory")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("only possible on this machine")


def test_signing_in_never_leads_to_another_site(kitchen: Kitchen, open_page: OpenPage) -> None:
    kitchen.signed_in = False
    page = open_page("/sign-in?next=//evil.example/x")
    page.get_by_label("Your name").fill("Anna")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="What is being made")).to_be_visible()
    assert "evil" not in page.url


def test_a_project_and_its_feature_are_made_and_the_four_agents_wait(
    kitchen: Kitchen, open_page: OpenPage
) -> None:
    page = open_page("/")
    expect(page.get_by_text("No project yet")).to_be_visible()
    page.get_by_label("Name of a new project").fill("Corner Shop")
    page.get_by_role("button", name="Create project").click()
    expect(page).to_have_url(re.compile("/projects/prj_1$"))
    expect(page.get_by_text("No feature yet")).to_be_visible()
    page.get_by_label("Name of a new feature").fill("Shopping Cart")
    page.get_by_label("What it is about").fill("Totals")
    page.get_by_role("button", name="Create feature").click()
    expect(page.get_by_role("heading", name="Shopping Cart")).to_be_visible()
    expect(page.locator("agent-card")).to_have_count(4)
    expect(page.locator(".status", has_text="Idle")).to_have_count(4)


def test_the_list_shows_every_project_and_leads_to_it(story: Story, open_page: OpenPage) -> None:
    page = open_page("/")
    page.get_by_role("link", name="Corner Shop").click()
    expect(page).to_have_url(re.compile(f"/projects/{story.project['id']}$"))
    expect(page.locator("agent-card")).to_have_count(4)


def test_signing_out_leaves_nothing_of_the_person_behind(story: Story, open_page: OpenPage) -> None:
    page = open_page(f"/projects/{story.project['id']}?run={story.nori}")
    page.get_by_label("Message to Nori").fill("half a thought")
    page.get_by_role("button", name="Sign out").click()
    expect(page).to_have_url(re.compile("/sign-in"))
    assert page.evaluate("Object.keys(localStorage).filter(k => /draft|outbox|read/.test(k))") == []


def test_a_sign_out_that_did_not_work_is_not_taken_for_one_and_can_be_tried_again(
    kitchen: Kitchen, story: Story, open_page: OpenPage
) -> None:
    page = open_page(f"/projects/{story.project['id']}")
    expect(page.locator("agent-card")).to_have_count(4)
    kitchen.refuse_next.append(Refused(503, "unavailable", "It could not be noted."))
    page.get_by_role("button", name="Sign out").click()
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("You are not signed out for certain. It could not be noted.")
    expect(page).to_have_url(re.compile(f"/projects/{story.project['id']}$"))
    alert.get_by_role("button", name="Try again").click()
    expect(page).to_have_url(re.compile("/sign-in"))
