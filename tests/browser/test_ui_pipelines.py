"""A feature's pipeline on the page: what it shows, what one may do, how it is told, and who may see what."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.test_ui_accessibility import SCHEMES, found
from tests.browser.ui_fixture.fixtures import OpenPage
from tests.browser.ui_fixture.kitchen import Json, Kitchen, Refused
from tests.browser.ui_fixture.server import UiServer
from tests.browser.ui_fixture.story import Story

pytestmark = pytest.mark.browser


@dataclass
class Board:
    """Three features: one that was sent back and is at work again, one that is failing, one of which
    nobody has started the pipeline."""

    story: Story
    cart: Json
    pay: Json
    mail: Json
    again: str
    """Nori's second run on the cart."""

    @property
    def kitchen(self) -> Kitchen:
        return self.story.kitchen

    @property
    def path(self) -> str:
        return f"/projects/{self.story.project['id']}"


@pytest.fixture
def board(story: Story) -> Board:
    kitchen, cart, project = story.kitchen, story.cart, story.project["id"]
    kitchen.turn(cart, story.miso, "passed", summary="The plan: three functions.")
    kitchen.turn(cart, story.nori, "passed", summary="Written.")
    kitchen.turn(cart, story.koji, "sent_back", summary="Round the total, not the lines.")
    again = kitchen.run(cart, "nori")["id"]
    kitchen.status(again, "working", "coding")
    kitchen.turn(cart, again, "open", "sent_back")
    kitchen.pipeline(cart, "running", "Nori is at work.")
    pay, mail = kitchen.feature(project, "Payment"), kitchen.feature(project, "Mail")
    for why in ("next", "retry"):
        run = kitchen.run(pay, "miso")["id"]
        kitchen.status(run, "failed")
        kitchen.turn(pay, run, "failed", why, summary="The disk is full.")
    kitchen.pipeline(
        pay, "failing", "Miso (architect) failed, again after being tried anew.",
        skipped=["tester"], after=[{"feature_id": cart["id"], "name": cart["name"], "done": False}],
    )  # fmt: skip
    return Board(story, cart, pay, mail, again)


@pytest.fixture
def page(board: Board, open_page: OpenPage) -> Page:
    page = open_page(board.path)
    expect(page.locator("pipeline-line")).to_have_count(3)
    return page


def line(page: Page, name: str) -> Locator:
    return page.locator("section.tray", has=page.get_by_role("heading", name=name)).locator(
        "pipeline-line"
    )


def stages(page: Page, name: str) -> list[str]:
    rows = page.get_by_role("list", name=f"Pipeline of {name}").locator("li").all_inner_texts()
    return [re.sub(r"\s+", " ", row).strip() for row in rows]


def status(page: Page) -> Locator:
    return page.locator("omakase-app > p[role=status]")


def test_the_roles_stand_in_order_with_a_word_for_each_and_why_it_is_where_it_is(
    page: Page,
) -> None:
    assert stages(page, "Shopping Cart") == [
        "Miso ARCHITECT Passed Open the chat",
        "Nori CODER At work round 2, attempt 2 Open the chat",
        "Koji REVIEWER Sent back Open the chat",
        "Toro TESTER Not begun",
    ]
    assert [row.split()[2:4] for row in stages(page, "Payment")] == [
        ["Failed", "attempt"], ["Not", "begun"], ["Not", "begun"], ["Skipped"],
    ]  # fmt: skip
    current = line(page, "Shopping Cart").locator("[aria-current=step]")
    expect(current).to_have_count(1)
    expect(current).to_contain_text("Nori")
    expect(line(page, "Shopping Cart").locator(".line-state")).to_have_text(
        re.compile(r"Running\s+Nori is at work\.")
    )
    expect(line(page, "Payment").locator(".line-after")).to_have_text(
        re.compile(r"After Shopping Cart\s+\(not done\)")
    )
    expect(line(page, "Mail").locator(".line-state")).to_contain_text("Not started")


def test_a_failing_feature_stands_first_and_is_told_once(board: Board, page: Page) -> None:
    expect(page.locator(".tray h2").first).to_have_text("Payment")
    expect(status(page)).to_have_text(re.compile("^Payment is failing: Miso .architect. failed"))
    expect(status(page)).to_have_text("Koji asks a question")
    board.kitchen.pipeline(board.pay, "failing", "Miso (architect) failed.")
    board.kitchen.turn(board.cart, board.story.koji, "sent_back", summary="Once more.")
    board.kitchen.pipeline(board.cart, "running", "The coder begins.")
    expect(status(page)).to_have_text("Koji sent Shopping Cart back")
    board.kitchen.pipeline(board.pay, "done", "Every role is done.")
    expect(page.locator(".tray h2").first).to_have_text("Shopping Cart")
    expect(status(page)).to_have_text("Payment is done")


def test_one_click_on_a_stage_opens_the_chat_of_its_run(board: Board, page: Page) -> None:
    link = line(page, "Shopping Cart").get_by_role(
        "link", name=re.compile("^Nori coder", re.IGNORECASE)
    )
    expect(link).to_have_attribute("href", f"?run={board.again}")
    link.click()
    expect(page).to_have_url(re.compile(f"run={board.again}$"))
    expect(page.get_by_role("log", name="Conversation with Nori")).to_be_visible()
    expect(link).to_have_attribute("data-open", "true")
    page.keyboard.press("Escape")
    expect(link).to_be_focused()


def test_what_came_before_is_history_with_who_why_and_what_was_said(
    board: Board, page: Page
) -> None:
    board.kitchen.turn(
        board.cart, board.again, "open", "by_hand", by="Ben", note="Mind the empty cart."
    )
    board.kitchen.pipeline(board.cart, "running", "Nori is at work.")
    history = line(page, "Shopping Cart").locator("details.turns")
    history.get_by_text("5 turns").click()
    rows = history.get_by_role("listitem")
    expect(rows.nth(2)).to_contain_text("Round the total, not the lines.")
    expect(rows.nth(3)).to_contain_text("sent back by Koji, round 2, attempt 2")
    expect(rows.nth(4)).to_contain_text("started by Ben")
    expect(rows.nth(4)).to_contain_text("Mind the empty cart.")
    rows.nth(2).get_by_role("link").click()
    expect(page.get_by_role("log", name="Conversation with Koji")).to_be_visible()


def test_a_change_appears_without_a_reload_and_nothing_is_asked_for_in_between(
    board: Board, page: Page
) -> None:
    def asked() -> int:
        return len([call for call in board.kitchen.calls if "pipeline" in call[1]])

    before = asked()
    board.kitchen.pipelines[board.cart["id"]]["turns"][-1]["result"] = "asking"
    with page.expect_response(re.compile("/api/agent-runs\\?")):
        board.kitchen.broadcast({"type": "runs", "project_id": board.story.project["id"]})
    assert asked() == before, "runs changed, and no pipeline did"
    board.kitchen.pipeline(board.cart, "waiting", "Nori waits for a person.")
    expect(line(page, "Shopping Cart").locator("[aria-current=step]")).to_contain_text(
        "Waits for you"
    )
    expect(line(page, "Shopping Cart").locator(".line-state")).to_contain_text("Needs you")
    assert asked() == before + 1


def test_what_changed_while_the_line_was_down_is_there_afterwards(
    board: Board, page: Page, ui: UiServer
) -> None:
    listeners = list(board.kitchen.listeners)
    board.kitchen.listeners.clear()
    board.kitchen.pipeline(board.mail, "running", "Miso is at work.")
    board.kitchen.listeners.extend(listeners)
    ui.cut()
    expect(line(page, "Mail").locator(".line-state")).to_contain_text("Miso is at work.")


def test_starting_says_which_roles_are_left_out_and_a_refusal_is_said_in_the_dialog(
    board: Board, page: Page
) -> None:
    line(page, "Mail").get_by_role("button", name="Start pipeline").click()
    dialog = page.get_by_role("dialog", name="Start the pipeline: Mail")
    dialog.get_by_label("Toro").check()
    refused = "A pipeline of this feature is under way."
    board.kitchen.refuse_next.append(Refused(409, "conflict", refused))
    dialog.get_by_role("button", name="Start pipeline").click()
    expect(dialog.get_by_role("alert")).to_have_text(refused)
    expect(dialog.get_by_label("Toro")).to_be_checked()
    dialog.get_by_role("button", name="Start pipeline").click()
    expect(dialog).to_have_count(0)
    assert board.kitchen.steered == [("pipeline", {"skip": ["tester"]})]
    keys = [call[2] for call in board.kitchen.calls if call[1].endswith("/pipeline")]
    first, second = [key for key in keys if key]
    assert first != second, "what was refused is another request now"


def test_a_lost_reply_is_asked_for_with_the_same_key(board: Board, page: Page) -> None:
    line(page, "Mail").get_by_role("button", name="Start pipeline").click()
    board.kitchen.refuse_next.append(Refused(503, "unavailable", "Not reachable at the moment."))
    button = page.get_by_role("dialog").get_by_role("button", name="Start pipeline")
    button.click()
    expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text("Not reachable")
    button.click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    keys = [call[2] for call in board.kitchen.calls if call[0] == "POST"]
    assert len(keys) == 2
    assert keys[0] == keys[1]


def test_a_role_is_started_again_with_a_note_that_no_refusal_and_no_closing_loses(
    board: Board, page: Page
) -> None:
    start = line(page, "Shopping Cart").get_by_role("button", name="Start a role again")
    start.click()
    dialog = page.get_by_role("dialog", name="Start a role again: Shopping Cart")
    expect(dialog).to_contain_text("Nori is at work now: stop Nori first.")
    expect(dialog.get_by_label("Nori")).to_be_checked()
    note = dialog.get_by_label("What should be done otherwise?")
    note.fill("Round the total.")
    refused = "Nori is at work: stop it first."
    board.kitchen.refuse_next.append(Refused(409, "conflict", refused))
    dialog.get_by_role("button", name="Start this role").click()
    expect(dialog.get_by_role("alert")).to_have_text(refused)
    expect(note).to_have_value("Round the total.")
    board.kitchen.pipeline(board.cart, "running", "Nori is still at work.")
    expect(note).to_have_value("Round the total.")
    page.keyboard.press("Escape")
    expect(start).to_be_focused()
    start.click()
    expect(note).to_have_value("Round the total.")
    dialog.get_by_label("Miso").check()
    dialog.get_by_role("button", name="Start this role").click()
    expect(dialog).to_have_count(0)
    assert board.kitchen.steered == [
        ("pipeline/restart", {"role": "architect", "note": "Round the total."})
    ]
    start.click()
    expect(note).to_have_value("")


def test_skipping_offers_what_is_not_skipped_already(board: Board, page: Page) -> None:
    line(page, "Payment").get_by_role("button", name="Skip a role").click()
    dialog = page.get_by_role("dialog", name="Skip a role: Payment")
    expect(dialog.get_by_role("radio")).to_have_count(3)
    dialog.get_by_label("Koji").check()
    dialog.get_by_role("button", name="Skip this role").click()
    expect(dialog).to_have_count(0)
    assert board.kitchen.steered == [("pipeline/skip", {"role": "reviewer"})]


def test_what_a_feature_comes_after_is_chosen_from_the_others_and_a_circle_is_said_in_words(
    board: Board, page: Page
) -> None:
    line(page, "Payment").get_by_role("button", name="Comes after").click()
    dialog = page.get_by_role("dialog", name="Comes after: Payment")
    expect(dialog.get_by_label("Shopping Cart")).to_be_checked()
    expect(dialog.get_by_role("checkbox")).to_have_count(2)
    dialog.get_by_label("Mail").check()
    circle = "They would wait for one another: this feature after 'Mail' after this feature."
    board.kitchen.refuse_next.append(Refused(422, "invalid", circle))
    dialog.get_by_role("button", name="Save").click()
    expect(dialog.get_by_role("alert")).to_have_text(circle)
    expect(dialog.get_by_label("Mail")).to_be_checked()
    dialog.get_by_label("Shopping Cart").uncheck()
    dialog.get_by_role("button", name="Save").click()
    expect(dialog).to_have_count(0)
    assert board.kitchen.steered == [("after", {"after": [board.mail["id"]]})]


@pytest.mark.parametrize(
    ("level", "steers", "creates"),
    [("viewer", 0, 0), ("commenter", 0, 0), ("operator", 3, 0), ("owner", 3, 1)],
)
def test_only_who_may_steer_sees_the_buttons(
    board: Board, open_page: OpenPage, level: str, steers: int, creates: int
) -> None:
    board.kitchen.level = level
    page = open_page(board.path)
    expect(line(page, "Payment").get_by_text("Miso (architect) failed")).to_be_visible()
    expect(page.locator(".who")).to_be_visible()
    expect(page.get_by_role("group", name=re.compile("Steer the pipeline"))).to_have_count(steers)
    expect(page.locator("feature-form")).to_have_count(creates)
    expect(page.get_by_role("link", name=re.compile("Open the chat")).first).to_be_visible()


def test_a_new_feature_is_made_with_what_it_waits_for_and_its_pipeline_started(
    board: Board, page: Page
) -> None:
    page.get_by_text("New feature", exact=True).click()
    page.get_by_label("Name of a new feature").fill("Vouchers")
    page.get_by_label("What it is about").fill("Ten per cent.\nNot on tea.")
    page.get_by_text("Comes after other features").click()
    page.locator("feature-form").get_by_label("Mail").check()
    refused = "Use a new Idempotency-Key for another feature."
    board.kitchen.refuse_next.append(Refused(422, "idempotency_mismatch", refused))
    page.get_by_role("button", name="Create and start its pipeline").click()
    expect(page.locator("feature-form").get_by_role("alert")).to_have_text(refused)
    expect(page.get_by_label("What it is about")).to_have_value("Ten per cent.\nNot on tea.")
    page.get_by_role("button", name="Create and start its pipeline").click()
    expect(page.locator("feature-form").get_by_role("status")).to_contain_text("Vouchers is there")
    expect(page.get_by_role("heading", name="Vouchers")).to_be_visible()
    made = board.kitchen.features[-1]
    assert (made["description"], made["after"]) == (
        "Ten per cent.\nNot on tea.",
        [board.mail["id"]],
    )
    assert board.kitchen.steered == [("pipeline", {})]
    expect(page.get_by_label("Name of a new feature")).to_have_value("")


def test_the_chat_says_which_turn_it_is_and_leads_to_the_runs_beside_it(
    board: Board, open_page: OpenPage
) -> None:
    page = open_page(f"{board.path}?run={board.story.koji}")
    turn = page.locator("run-turn")
    expect(turn).to_contain_text("Turn 3 of the pipeline: took over from Nori")
    turn.get_by_role("button", name=re.compile("Nori")).last.click()
    expect(page).to_have_url(re.compile(f"run={board.again}$"))
    expect(turn).to_contain_text("Turn 4 of the pipeline, round 2, attempt 2: sent back by Koji")
    expect(turn.get_by_text("After:")).to_have_count(0)
    koji = board.kitchen.run(board.cart, "koji")["id"]
    board.kitchen.pipelines[board.cart["id"]]["turns"][-1]["result"] = "passed"
    board.kitchen.turn(board.cart, koji, "open")
    board.kitchen.pipeline(board.cart, "running", "Koji is at work.")
    expect(turn).to_contain_text("After: Koji")
    turn.get_by_role("button", name=re.compile("Koji")).first.click()
    expect(page).to_have_url(re.compile(f"run={board.story.koji}$"))


def test_a_run_of_its_own_has_no_turn(board: Board, open_page: OpenPage) -> None:
    toro = board.kitchen.run(board.cart, "toro")["id"]
    page = open_page(f"{board.path}?run={toro}")
    expect(page.get_by_role("log")).to_be_visible()
    expect(page.locator("run-turn")).to_have_count(0)


def test_a_notice_of_what_was_moved_leads_to_the_other_run(
    board: Board, open_page: OpenPage
) -> None:
    text = f"Moved to Nori's next run {board.again}: 1 unseen message (Anna)."
    body = {"about": "handover", "text": text, "ids": ["m"], "moved_to": {"run_id": board.again}}
    system = {"kind": "system", "id": "system", "name": "Omakase", "role": None}
    board.kitchen.emit(board.story.koji, "notice", body, system)
    page = open_page(f"{board.path}?run={board.story.koji}")
    row = page.locator(".row[data-kind=notice]")
    expect(row).to_contain_text("Moved to Nori's next run: 1 unseen message (Anna).")
    row.get_by_role("button", name="run").click()
    expect(page).to_have_url(re.compile(f"run={board.again}$"))


def test_all_of_it_is_done_with_the_keyboard(board: Board, page: Page) -> None:
    start = line(page, "Mail").get_by_role("button", name="Start pipeline")
    start.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="Start the pipeline: Mail")
    expect(dialog.get_by_label("Miso")).to_be_focused()
    page.keyboard.press("Space")
    expect(dialog.get_by_label("Miso")).to_be_checked()
    page.keyboard.press("Enter")
    expect(dialog).to_have_count(0)
    assert board.kitchen.steered == [("pipeline", {"skip": ["architect"]})]
    expect(start).to_be_focused()


def test_who_started_a_pipeline_goes_on_where_the_button_was(board: Board, page: Page) -> None:
    line(page, "Mail").get_by_role("button", name="Start pipeline").click()
    miso = board.kitchen.run(board.mail, "miso")["id"]
    board.kitchen.turn(board.mail, miso, "open")
    # the news is faster than the reply
    board.kitchen.pipeline(board.mail, "running", "Miso is at work.")
    expect(line(page, "Mail").locator(".line-state")).to_contain_text("Miso is at work.")
    page.get_by_role("dialog").get_by_role("button", name="Start pipeline").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(line(page, "Mail").get_by_role("button", name="Start a role again")).to_be_focused()


def test_who_stands_on_a_button_stays_there_when_a_failing_feature_moves_up(
    board: Board, page: Page
) -> None:
    button = line(page, "Mail").get_by_role("button", name="Comes after")
    button.focus()
    board.kitchen.pipeline(board.mail, "failing", "Miso failed.")
    expect(page.locator(".tray h2").nth(1)).to_have_text("Mail")
    expect(button).to_be_focused()


@pytest.mark.parametrize("options", SCHEMES)
def test_axe_finds_nothing_on_pipelines(board: Board, open_page: OpenPage, options: dict) -> None:
    page = open_page(f"{board.path}?run={board.again}" if "viewport" not in options else board.path,
                     **options)  # fmt: skip
    expect(page.locator(".stage").last).to_be_visible()
    page.locator("details.turns summary").nth(1).click()
    page.get_by_text("New feature", exact=True).click()
    assert found(page) == []


@pytest.mark.parametrize("options", SCHEMES)
@pytest.mark.parametrize("button", ["Start a role again", "Comes after"])
def test_axe_finds_nothing_in_a_pipelines_dialog(
    board: Board, open_page: OpenPage, options: dict, button: str
) -> None:
    page = open_page(board.path, **options)
    line(page, "Payment").get_by_role("button", name=button).click()
    board.kitchen.refuse_next.append(Refused(409, "conflict", "Miso is at work."))
    page.get_by_role("dialog").locator("button[type=submit]").click()
    expect(page.get_by_role("dialog").get_by_role("alert")).to_be_visible()
    assert found(page) == []


@pytest.mark.parametrize("width", [320, 390, 720, 1024])
def test_no_width_and_no_zoom_makes_the_page_scroll_sideways(
    board: Board, open_page: OpenPage, width: int
) -> None:
    # 720 is a window of 1440 at 200 %, 320 one of 1280 at 400 % (WCAG 1.4.10)
    page = open_page(board.path, viewport={"width": width, "height": 800})
    expect(page.locator(".stage").last).to_be_visible()
    page.locator("details.turns summary").first.click()
    page.get_by_text("New feature", exact=True).click()
    wide = page.evaluate("document.querySelector('#main').scrollWidth - innerWidth")
    assert wide <= 0
    cut = page.locator(".stage-body, .line-foot > *, .turn").evaluate_all(
        "all => all.filter((one) => one.scrollWidth > one.clientWidth + 1).map((one) => one.outerHTML)"
    )
    assert cut == []
    line(page, "Payment").get_by_role("button", name="Start a role again").click()
    box = page.get_by_role("dialog").bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= width
