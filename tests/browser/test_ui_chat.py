"""The conversation: sending, receipts, streaming, questions, orders."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.ui_fixture.fixtures import OpenPage
from tests.browser.ui_fixture.kitchen import ANNA, Kitchen, Refused, digest
from tests.browser.ui_fixture.server import UiServer
from tests.browser.ui_fixture.story import Story

pytestmark = pytest.mark.browser


def chat_of(open_page: OpenPage, story: Story, run: str, **options: object) -> Page:
    page = open_page(f"/projects/{story.project['id']}?run={run}", **options)
    expect(page.locator("chat-panel .chat-who h2")).not_to_have_text("…")
    expect(page.locator(".row").first).to_be_attached()
    return page


@pytest.fixture
def nori(story: Story, open_page: OpenPage) -> Page:
    page = chat_of(open_page, story, story.nori)
    expect(page.get_by_text("Renamed it everywhere and kept").last).to_be_visible()
    return page


def composer(page: Page, name: str = "Nori") -> Locator:
    return page.get_by_role("textbox", name=f"Message to {name}")


def mine(page: Page, text: str) -> Locator:
    return page.locator("article.mine", has_text=text)


def test_a_message_shows_every_state_on_its_way_and_the_proof_at_the_end(
    story: Story, nori: Page
) -> None:
    kitchen = story.kitchen
    composer(nori).fill("Keep a test for it.")
    composer(nori).press("Enter")
    ticks = mine(nori, "Keep a test for it.").locator(".ticks-word")
    expect(ticks).to_have_text("Queued")
    expect(composer(nori)).to_have_value("")
    sent = kitchen.logs[story.nori][-1]
    for state, word in [
        ("stored", "Stored"),
        ("leased", "Taken"),
        ("in_context", "In context · step 6"),
    ]:
        kitchen.receipt(story.nori, sent["id"], state, step=6, text="[Anna] Keep a test for it.")
        expect(ticks).to_have_text(word)
    proof = mine(nori, "Keep a test for it.").locator("proof-view")
    proof.locator("summary").click()
    expect(proof.locator("pre")).to_have_text("[Anna] Keep a test for it.")
    expect(proof).to_contain_text(digest("[Anna] Keep a test for it."))
    expect(proof).to_contain_text("Step 6")


def test_text_leaves_the_composer_only_when_the_server_has_taken_it(
    story: Story, nori: Page
) -> None:
    story.kitchen.refuse_next.append(Refused(422, "invalid", "Not at the moment."))
    composer(nori).fill("Do not lose me")
    composer(nori).press("Enter")
    failed = mine(nori, "Do not lose me")
    expect(failed.get_by_role("alert")).to_contain_text("Not at the moment.")
    expect(composer(nori)).to_have_value("Do not lose me")
    failed.get_by_role("button", name="Retry").click()
    expect(failed.locator(".ticks-word")).to_have_text("Queued")
    expect(composer(nori)).to_have_value("")


def test_what_the_server_could_not_take_is_sent_again_by_itself(story: Story, nori: Page) -> None:
    refused = [Refused(503, "unavailable", "The run log cannot be reached.") for _ in range(3)]
    story.kitchen.refuse_next += refused
    composer(nori).fill("Sooner or later")
    composer(nori).press("Enter")
    failed = mine(nori, "Sooner or later")
    expect(failed.get_by_role("alert")).to_contain_text("kept here and sent again by itself")
    expect(composer(nori)).to_have_value("Sooner or later")
    expect(failed.locator(".ticks-word")).to_have_text("Queued")
    expect(composer(nori)).to_have_value("")


def test_a_reply_that_got_lost_makes_no_second_message(story: Story, nori: Page) -> None:
    kitchen = story.kitchen
    kitchen.lose_next_reply = 1
    composer(nori).fill("Once only")
    composer(nori).press("Enter")
    expect(mine(nori, "Once only")).to_have_count(1)
    expect(mine(nori, "Once only").locator(".ticks-word")).to_have_text("Queued")
    expect(composer(nori)).to_have_value("")
    nori.reload()
    expect(mine(nori, "Once only")).to_have_count(1)
    keys = {
        key
        for method, path, key in kitchen.calls
        if method == "POST" and path.endswith("/messages")
    }
    assert len(keys) == 1
    assert [e["body"].get("text") for e in kitchen.logs[story.nori]].count("Once only") == 1


def test_what_was_not_sent_can_be_edited_or_deleted(story: Story, nori: Page) -> None:
    story.kitchen.refuse_next += [
        Refused(422, "invalid", "Not like this."),
        Refused(422, "invalid", "Not like this."),
    ]
    composer(nori).fill("first try")
    composer(nori).press("Enter")
    expect(mine(nori, "first try").get_by_role("alert")).to_contain_text("Not like this.")
    composer(nori).fill("")
    mine(nori, "first try").get_by_role("button", name="Edit").click()
    expect(mine(nori, "first try")).to_have_count(0)
    expect(composer(nori)).to_have_value("first try")
    composer(nori).press("Enter")
    mine(nori, "first try").get_by_role("button", name="Delete").click()
    expect(mine(nori, "first try")).to_have_count(0)


def test_a_message_can_wait_for_the_task_or_interrupt(story: Story, nori: Page) -> None:
    nori.get_by_label("After this task").check()
    composer(nori).fill("later, please")
    composer(nori).press("Shift+Enter")
    composer(nori).press_sequentially("really")
    composer(nori).press("Enter")
    expect(mine(nori, "later, please").locator(".mode")).to_have_text("After this task")
    composer(nori).fill("stop that step")
    composer(nori).press("Control+Enter")
    expect(mine(nori, "stop that step").locator(".mode")).to_have_text("Now")
    bodies = [e["body"] for e in story.kitchen.logs[story.nori][-2:]]
    assert [(b["mode"], b["text"]) for b in bodies] == [
        ("queue", "later, please\nreally"),
        ("interrupt", "stop that step"),
    ]


def test_what_is_queued_can_be_edited_and_cancelled_until_it_is_taken(
    story: Story, nori: Page
) -> None:
    waiting = mine(nori, "empty cart")
    composer(nori).press("ArrowUp")
    waiting = nori.locator("chat-message:has(form.edit)")
    waiting.get_by_label("Edit message").fill("Add two tests for an empty cart.")
    waiting.get_by_label("Edit message").press("Enter")
    edited = mine(nori, "Add two tests")
    expect(edited).to_contain_text("edited")
    expect(mine(nori, "add a test for an empty")).to_have_count(0)
    edited.get_by_role("button", name="Cancel").click()
    expect(edited.locator(".ticks-word")).to_have_text("Cancelled")
    expect(edited.get_by_role("button", name="Edit")).to_have_count(0)


def test_cancelling_too_late_says_so(story: Story, nori: Page) -> None:
    story.kitchen.refuse_next.append(
        Refused(409, "already_taken", "The agent has taken the message.")
    )
    mine(nori, "empty cart").get_by_role("button", name="Cancel").click()
    expect(mine(nori, "empty cart").locator(".note")).to_have_text(
        "Too late: the agent has taken it."
    )


def test_an_undelivered_message_is_offered_to_the_next_run(
    story: Story, open_page: OpenPage
) -> None:
    kitchen = story.kitchen
    later = next(e for e in kitchen.logs[story.nori] if e["body"].get("mode") == "queue")
    kitchen.status(story.nori, "failed", detail="The task was killed")
    kitchen.receipt(story.nori, later["id"], "undelivered")
    following = kitchen.run(story.cart, "nori")["id"]
    page = chat_of(open_page, story, story.nori)
    expect(mine(page, "empty cart").locator(".ticks-word")).to_have_text("Undelivered")
    mine(page, "empty cart").get_by_role("button", name="Send to the next run").click()
    expect(page).to_have_url(re.compile(f"run={following}"))
    expect(mine(page, "empty cart").locator(".ticks-word")).to_have_text("Queued")


def test_a_streamed_message_grows_is_busy_and_stands_there_once(story: Story, nori: Page) -> None:
    kitchen, run = story.kitchen, story.nori
    kitchen.delta(run, "msg_stream", "The name is now ")
    open_text = nori.locator("streaming-message article")
    expect(open_text).to_have_attribute("aria-busy", "true")
    expect(open_text).to_contain_text("The name is now")
    kitchen.delta(run, "msg_stream", "`total_price` 🍣, ")
    kitchen.delta(run, "msg_stream", "now `total_price` 🍣, ", offset=12)  # again, and overlapping
    kitchen.delta(run, "msg_stream", "everywhere.")
    expect(open_text.locator("markdown-text")).to_have_text(
        "The name is now total_price 🍣, everywhere."
    )
    kitchen.say(run, "The name is now `total_price` 🍣, everywhere.", event_id="msg_stream")
    expect(nori.locator("streaming-message")).to_have_count(0)
    expect(nori.locator("article.said", has_text="The name is now total_price")).to_have_count(1)


def test_streaming_renders_at_most_once_a_frame(story: Story, nori: Page) -> None:
    kitchen, run = story.kitchen, story.nori
    kitchen.delta(run, "msg_fast", "start ")
    expect(nori.locator("streaming-message")).to_contain_text("start")
    nori.evaluate(
        """() => {
          const host = document.querySelector("omakase-chat").shadowRoot.querySelector("streaming-message");
          window.counts = {renders: 0, frames: 0};
          new MutationObserver(() => window.counts.renders++).observe(host, {subtree: true, childList: true, characterData: true});
          const tick = () => { window.counts.frames++; requestAnimationFrame(tick); };
          requestAnimationFrame(tick);
        }"""
    )
    for number in range(600):
        kitchen.delta(run, "msg_fast", f"{number} ")
    expect(nori.locator("streaming-message")).to_contain_text("598 599")
    counts = nori.evaluate("window.counts")
    assert 0 < counts["renders"] <= counts["frames"] + 1


def test_code_is_coloured_when_its_block_closes(story: Story, nori: Page) -> None:
    kitchen, run = story.kitchen, story.nori
    kitchen.delta(run, "msg_code", "Look:\n\n```python\ndef total_price():\n")
    block = nori.locator("streaming-message .md-code")
    expect(block).to_contain_text("def total_price")
    expect(block.locator(".hljs-keyword")).to_have_count(0)
    kitchen.delta(run, "msg_code", "    return 1\n```\n")
    expect(block.locator(".hljs-keyword")).to_have_count(2)


def test_steps_are_one_line_and_a_failed_one_is_open(nori: Page) -> None:
    nori.locator(".chat-scroll").evaluate("e => e.scrollTop = 0")
    group = nori.locator("details.steps").first
    expect(group).to_have_attribute("open", "")
    expect(group.locator("summary").first).to_contain_text("2 steps")
    expect(group).to_contain_text("assert 0.30000000000000004 == 0.3")
    expect(nori.locator("details.steps").nth(1)).not_to_have_attribute("open", "")


def test_a_question_is_answered_by_a_button_and_says_by_whom(
    story: Story, open_page: OpenPage
) -> None:
    page = chat_of(open_page, story, story.koji)
    question = page.locator(".question")
    question.get_by_role("button", name="Round every line").click()
    expect(question.locator(".answered")).to_contain_text(
        re.compile(r"Anna answered “Round every line” \d")
    )
    expect(question.get_by_role("button")).to_have_count(0)
    assert story.kitchen.logs[story.koji][-1]["body"]["value"] == "Round every line"
    expect(page.locator("agent-card .needs")).to_have_count(0)


def test_a_question_takes_free_text(story: Story, open_page: OpenPage) -> None:
    page = chat_of(open_page, story, story.koji)
    page.get_by_label("Answer in your own words").fill("Ask the accountant")
    page.get_by_role("button", name="Answer").click()
    expect(page.locator(".question .answered")).to_contain_text(
        "Anna answered “Ask the accountant”"
    )


def test_an_answer_that_comes_second_shows_the_one_that_stands(
    story: Story, open_page: OpenPage, ui: UiServer
) -> None:
    kitchen = story.kitchen
    page = chat_of(open_page, story, story.koji)
    question = kitchen.questions(story.koji)[0]
    kitchen.listeners.clear()  # this browser does not hear of it in time
    kitchen.answer(
        story.koji,
        question["id"],
        {"value": "Round once at the end"},
        ANNA | {"id": "usr_ben", "name": "Ben"},
    )
    page.get_by_role("button", name="Round every line").click()
    expect(page.locator(".question .answered")).to_contain_text(
        "Ben answered “Round once at the end”"
    )
    expect(page.locator(".question .note")).to_contain_text("Somebody was faster")
    # put back what the server's own clean-up takes away
    kitchen.listeners.extend(line.overhear for line in ui.lines)


def test_a_question_of_a_run_that_ended_cannot_be_clicked(
    story: Story, open_page: OpenPage
) -> None:
    page = chat_of(open_page, story, story.koji)
    story.kitchen.status(story.koji, "stopped")
    expect(page.locator(".question")).to_contain_text("The run ended without an answer.")
    expect(page.locator(".question").get_by_role("button")).to_have_count(0)
    expect(page.get_by_text("This conversation has ended")).to_be_visible()
    expect(composer(page, "Koji")).to_have_count(0)


def test_status_is_a_muted_line_and_an_error_stands_out(story: Story, nori: Page) -> None:
    story.kitchen.status(story.nori, "waiting", detail="for the database")
    story.kitchen.emit(
        story.nori,
        "error",
        {"summary": "The tests cannot run", "detail": "ModuleNotFoundError: shop"},
    )
    expect(nori.locator(".line", has_text="Waiting for you: for the database")).to_be_visible()
    expect(nori.locator(".error-note")).to_contain_text("ModuleNotFoundError: shop")


def test_pause_resume_and_stop_are_orders(story: Story, nori: Page) -> None:
    panel = nori.locator("chat-panel")
    panel.get_by_role("button", name="Pause").click()
    expect(nori.locator(".line", has_text="Anna asked the agent to pause")).to_be_visible()
    panel.get_by_role("button", name="Resume").click()
    expect(nori.locator(".line", has_text="Anna asked the agent to go on")).to_be_visible()
    panel.get_by_role("button", name="Stop Nori").click()
    panel.get_by_role("alertdialog").get_by_role("button", name="Stop Nori").click()
    expect(nori.locator(".line", has_text="Anna asked the agent to stop")).to_be_visible()


def test_an_empty_chat_invites_and_an_unknown_run_says_so(
    story: Story, open_page: OpenPage
) -> None:
    run = story.kitchen.run(story.cart, "toro")["id"]
    page = chat_of(open_page, story, run)
    expect(page.get_by_text("Nobody has said anything yet")).to_be_visible()
    expect(composer(page, "Toro")).to_have_attribute(
        "placeholder", "Send a message to Toro while they work on Shopping Cart"
    )
    lost = open_page(f"/projects/{story.project['id']}?run=run_none")
    expect(lost.get_by_text("There is no run with that id.")).to_be_visible()


def test_reading_above_is_not_disturbed_and_a_pill_counts_what_came(
    story: Story, nori: Page
) -> None:
    kitchen = story.kitchen
    for number in range(30):
        kitchen.say(story.nori, f"Paragraph {number}")
    expect(nori.locator(".chat-rows").get_by_text("Paragraph 29")).to_be_in_viewport()
    scroller = nori.locator(".chat-scroll")
    scroller.hover()
    nori.mouse.wheel(0, -900)
    expect(nori.locator(".chat-rows").get_by_text("Paragraph 29")).not_to_be_in_viewport()
    top = scroller.evaluate("e => e.scrollTop")
    for number in range(3):
        kitchen.say(story.nori, f"Afterwards {number}")
    pill = nori.locator(".pill")
    expect(pill).to_contain_text("3 new messages")
    assert scroller.evaluate("e => e.scrollTop") == top
    pill.click()
    expect(nori.locator(".chat-rows").get_by_text("Afterwards 2")).to_be_in_viewport()
    expect(pill).to_have_count(0)


def test_at_the_bottom_one_stays_there_however_tall_what_comes_is(story: Story, nori: Page) -> None:
    scroller = nori.locator(".chat-scroll")
    # the scroll event of one growth comes after the next: what grew is not somebody scrolling up
    paragraphs = "\n\n".join(f"Line {number}" for number in range(12))
    for number in range(12):
        story.kitchen.say(story.nori, f"Tall {number}\n\n{paragraphs}\n\nEnd of {number}")
        scroller.evaluate("e => e.dispatchEvent(new Event('scroll'))")
    expect(nori.locator(".chat-rows").get_by_text("End of 11", exact=True)).to_be_in_viewport()


def test_the_divider_marks_what_came_since_the_last_look(story: Story, nori: Page) -> None:
    nori.get_by_role("button", name="Close chat").click()
    story.kitchen.say(story.nori, "While you were away.")
    nori.get_by_role("button", name="Chat with Nori").click()
    expect(nori.locator(".divider")).to_have_count(1)
    expect(nori.locator(".divider + .row")).to_contain_text("While you were away.")


def test_older_history_comes_when_one_scrolls_up(story: Story, open_page: OpenPage) -> None:
    for number in range(200):
        story.kitchen.say(story.nori, f"Entry {number}")
    page = chat_of(open_page, story, story.nori)
    expect(page.locator(".chat-rows").get_by_text("Entry 199", exact=True)).to_be_in_viewport()
    expect(page.get_by_text("Entry 0", exact=True)).to_have_count(0)
    scroller = page.locator(".chat-scroll")
    for _ in range(8):
        scroller.evaluate("e => e.scrollTop = 0")
        if page.get_by_text("The beginning of this run").count():
            break
        page.wait_for_function(
            "() => !document.querySelector('omakase-chat').shadowRoot.querySelector('chat-log').feed.isLoadingOlder"
        )
    expect(page.get_by_text("The beginning of this run")).to_be_attached()
    words = page.locator("article.said markdown-text").all_inner_texts()
    entries = [int(word.split()[1]) for word in words if word.startswith("Entry ")]
    assert entries == list(range(200))


def test_agents_words_run_no_script_load_nothing_and_keep_their_signs(
    story: Story, nori: Page
) -> None:
    asked: list[str] = []
    dialogs: list[str] = []
    nori.on("request", lambda request: asked.append(request.url))
    nori.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    story.kitchen.say(
        story.nori,
        "<script>alert(1)</script> <img src=https://evil.example/a onerror=alert(2)>\n\n"
        "![x](https://evil.example/b?q=1) [y](javascript:alert(3)) <svg/onload=alert(4)> "
        "[real](https://good.example/p) [m](mailto:a@good.example)\n\n"
        "<iframe srcdoc='<script>alert(5)</script>'></iframe><a href='//evil.example'>z</a>",
    )
    said = nori.locator("article.said").last
    expect(said).to_contain_text("<script>alert(1)</script>")
    expect(said).to_contain_text("[image: x]")
    expect(said.locator("img:not(.avatar), iframe, svg:not(.icon), script")).to_have_count(0)
    hrefs = [link.get_attribute("href") for link in said.locator("a").all()]
    assert hrefs == ["https://good.example/p", "mailto:a@good.example"]
    expect(said).to_contain_text("(good.example)")
    assert dialogs == []
    assert [url for url in asked if "evil" in url] == []


def test_code_can_be_copied(story: Story, open_page: OpenPage) -> None:
    page = chat_of(open_page, story, story.nori, permissions=["clipboard-read", "clipboard-write"])
    page.locator(".md-code").get_by_role("button", name="Copy").click()
    expect(page.locator(".md-code").get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()").startswith("def total_price(items")


def test_the_panel_stands_in_a_page_of_somebody_elses(
    story: Story, kitchen: Kitchen, open_page: OpenPage
) -> None:
    page = open_page("/embed")
    expect(page.locator("omakase-chat h2")).to_have_text("Miso")
    expect(page.get_by_text("The plan is in")).to_be_visible()
    expect(page.get_by_text("This conversation has ended")).to_be_visible()


def test_what_was_done_for_the_run_stands_as_a_quiet_line(story: Story, nori: Page) -> None:
    story.kitchen.emit(
        story.nori,
        "notice",
        {"about": "moved", "text": "2 unseen messages moved to Nori's next run."},
    )
    expect(nori.locator(".row[data-kind=notice]")).to_contain_text("2 unseen messages moved")


def test_one_on_hold_says_that_writing_starts_it_again(story: Story, nori: Page) -> None:
    kitchen = story.kitchen
    note = nori.locator(".composer-note")
    expect(note).to_have_count(0)
    kitchen.status(story.nori, "suspended", detail="Its process was ended to save money.")
    expect(note).to_have_text("Nori is on hold; your message starts them again.")
    expect(nori.locator(".chat-who .status")).to_have_text("On hold")
    expect(nori.get_by_role("button", name="Resume")).to_be_visible()
    composer(nori).fill("Are you there?")
    composer(nori).press("Enter")
    expect(mine(nori, "Are you there?")).to_be_visible()
    kitchen.status(story.nori, "starting", detail="It comes back from hold.")
    expect(note).to_have_count(0)


def test_who_is_idle_can_be_put_on_hold_by_hand(story: Story, nori: Page) -> None:
    hold = nori.get_by_role("button", name="Put on hold")
    expect(hold).to_have_count(0)
    story.kitchen.status(story.nori, "waiting")
    with nori.expect_response("**/orders"):
        hold.click()
    assert story.kitchen.logs[story.nori][-1]["body"]["action"] == "checkpoint"
    expect(nori.locator(".line", has_text="asked the agent to go on hold")).to_be_visible()


def test_a_nudge_stands_on_its_messages_way_and_leads_to_its_celery_task(
    story: Story, kitchen: Kitchen, nori: Page
) -> None:
    sent = kitchen.emit(story.nori, "message", {"text": "Are you there?", "mode": "steer"}, ANNA)
    kitchen.receipt(story.nori, sent["id"], "stored")
    nudge = {"about": "nudge", "ids": [sent["id"]], "duration_ms": 1_240, "task_id": "5d/?0"}
    why = "The task runs, but AWS has no connection to the exec agent inside it."
    kitchen.emit(story.nori, "notice", nudge | {"text": why, "failure": "not_connected"})
    bubble = mine(nori, "Are you there?")

    failed = bubble.locator(".nudge").first
    expect(failed).to_contain_text("Nudge failed · 1.2 s")
    expect(failed).to_contain_text(why)
    link = failed.get_by_role("link", name="Celery task")
    expect(link).to_have_attribute("href", "http://127.0.0.1:5555/task/5d%2F%3F0")
    expect(link).to_have_attribute("rel", "noopener noreferrer")
    expect(bubble.locator(".ticks-word")).to_have_text("Stored")

    told = {"text": "The agent's side was told to look.", "task_id": "t-2"}
    kitchen.emit(story.nori, "notice", nudge | told)
    kitchen.receipt(story.nori, sent["id"], "leased")
    expect(bubble.locator(".nudge")).to_have_count(2)
    expect(bubble.locator(".nudge").last).to_contain_text("Nudged · 1.2 s")
    expect(bubble.locator(".ticks-word")).to_have_text("Taken")
    expect(mine(nori, "Renamed").locator(".nudge")).to_have_count(0)
    expect(nori.get_by_text(why)).to_have_count(1)
    order = kitchen.emit(story.nori, "order", {"action": "pause"}, ANNA)
    kitchen.emit(
        story.nori, "notice", nudge | {"ids": [order["id"]], "text": "It was for an order."}
    )
    expect(nori.locator(".row[data-kind=notice]:visible")).to_contain_text(["for an order"])
