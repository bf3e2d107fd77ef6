"""The log viewer."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.ui_fixture.fixtures import OpenPage
from tests.browser.ui_fixture.story import Story

pytestmark = pytest.mark.browser


@pytest.fixture
def logs(story: Story, open_page: OpenPage) -> Page:
    page = open_page(f"/projects/{story.project['id']}/logs")
    expect(page.locator(".log-line")).to_have_count(11)
    return page


def texts(page: Page) -> list[str]:
    # innerText is empty where the block is out of view: that is what content-visibility is for
    return page.locator(".log-text").all_text_contents()


def test_real_lines_come_with_their_agent_and_live_ones_follow(story: Story, logs: Page) -> None:
    expect(
        logs.locator(".log-line", has_text="7 passed in 0.21s").locator(".log-agent")
    ).to_have_text("Nori")
    story.kitchen.log(story.nori, "a new line", "and another")
    expect(logs.locator(".log-line")).to_have_count(13)
    assert texts(logs)[-2:] == ["a new line", "and another"]


def test_colours_are_kept_and_every_other_terminal_sequence_is_gone(
    story: Story, logs: Page
) -> None:
    story.kitchen.log(
        story.nori,
        "\x1b]0;title\x07\x1b[2Jclean \x1b[31mred\x1b[0m <b>text</b> \x1b]8;;https://evil.example\x1b\\link\x1b]8;;\x1b\\",
    )
    line = logs.locator(".log-line").last
    expect(line.locator(".log-text")).to_have_text("clean red <b>text</b> link")
    expect(line.locator(".ansi-red")).to_have_text("red")
    expect(line.locator("b")).to_have_count(0)


def test_lines_are_filtered_by_agent_level_stream_and_text(logs: Page) -> None:
    logs.get_by_role("button", name="Nori", exact=True).click()
    expect(logs.locator(".log-line")).to_have_count(5)
    logs.get_by_label("Level or stream").select_option("warning")
    expect(logs.locator(".log-line")).to_have_count(1)
    logs.get_by_label("Level or stream").select_option("stderr")
    expect(logs.locator(".log-text")).to_have_text(["cannot decide alone"])
    logs.get_by_label("Level or stream").select_option("")
    logs.get_by_label("Find in the log").fill("three modules")
    expect(logs.locator(".log-text")).to_have_text(["INFO three modules, one cycle"])
    logs.get_by_label("Find in the log").fill("nowhere")
    expect(logs.get_by_text("No line matches.")).to_be_visible()


def test_it_follows_until_somebody_reads_above_and_again_on_demand(
    story: Story, logs: Page
) -> None:
    story.kitchen.log(story.nori, *[f"line {n}" for n in range(300)])
    expect(logs.get_by_text("line 299", exact=True)).to_be_in_viewport()
    logs.locator(".log-scroll").hover()
    logs.mouse.wheel(0, -2000)
    follow = logs.get_by_role("button", name="Follow")
    expect(follow).to_be_visible()
    story.kitchen.log(story.nori, "far below")
    expect(logs.get_by_text("far below")).to_be_attached()
    expect(logs.get_by_text("far below")).not_to_be_in_viewport()
    follow.click()
    expect(logs.get_by_text("far below")).to_be_in_viewport()


def test_long_lines_wrap_on_demand(story: Story, logs: Page) -> None:
    story.kitchen.log(story.nori, "word " * 400)
    scroller = logs.locator(".log-scroll")
    expect(logs.locator(".log-line")).to_have_count(12)
    assert scroller.evaluate("e => e.scrollWidth > e.clientWidth")
    logs.get_by_role("button", name="Wrap").click()
    expect(scroller).to_have_class(re.compile("wraps"))
    assert scroller.evaluate("e => e.scrollWidth <= e.clientWidth")
    assert logs.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_line_older_than_what_was_fetched_is_found_linked_and_downloaded(
    story: Story, open_page: OpenPage
) -> None:
    for number in range(250):  # a chunk each, and a page is 100
        story.kitchen.log(story.nori, f"old line {number}")
    logs = open_page(f"/projects/{story.project['id']}/logs#L-{story.nori}-12")
    target = logs.locator(".log-line.is-target .log-text")
    expect(target).to_have_text("old line 5")
    expect(target).to_be_in_viewport()

    logs = open_page(f"/projects/{story.project['id']}/logs")
    expect(logs.get_by_text("old line 249", exact=True)).to_be_attached()
    expect(logs.get_by_text("old line 7", exact=True)).to_have_count(0)
    logs.get_by_role("searchbox").fill("old line 7 ")
    expect(logs.get_by_text("No line matches.")).to_be_visible()
    logs.get_by_role("searchbox").fill("old line 33")
    expect(logs.locator(".log-line")).to_have_count(1)

    logs = open_page(f"/projects/{story.project['id']}/logs")
    expect(logs.get_by_text("old line 249", exact=True)).to_be_attached()
    with logs.expect_download() as download:
        logs.get_by_role("button", name="Download").click()
    saved = download.value.path().read_text()
    assert all(f"old line {number}\n" in saved for number in range(250))


def test_lines_that_do_not_come_are_said_and_can_be_asked_for_again(
    story: Story, open_page: OpenPage
) -> None:
    page = open_page(f"/projects/{story.project['id']}")
    expect(page.locator("agent-card")).to_have_count(4)
    page.route("**/messages?*kind=log*", lambda route: route.fulfill(status=503, body="{}"))
    page.get_by_role("link", name="Log").click()
    expect(page.get_by_role("alert")).to_contain_text("Some lines could not be fetched")
    expect(page.get_by_text("Nothing has been logged yet.")).to_have_count(0)
    page.unroute("**/messages?*kind=log*")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".log-line")).to_have_count(11)
    expect(page.get_by_role("alert")).to_have_count(0)


def test_a_line_can_be_linked_to(story: Story, logs: Page) -> None:
    story.kitchen.log(story.nori, *[f"line {n}" for n in range(300)])
    expect(logs.get_by_text("line 299", exact=True)).to_be_attached()
    line = logs.locator(f"#L-{story.nori}-20")
    line.scroll_into_view_if_needed()
    line.locator(".log-number").click()
    expect(logs).to_have_url(re.compile(f"#L-{story.nori}-20$"))
    logs.reload()
    expect(logs.locator(".log-line.is-target .log-text")).to_have_text("line 13")
    expect(logs.locator(".log-line.is-target")).to_be_in_viewport()


def test_a_click_on_a_line_quotes_it_in_the_composer_and_it_is_sent_as_anchor(
    story: Story, logs: Page
) -> None:
    logs.get_by_text("FAILED tests/test_cart.py").click()
    expect(logs.locator(".anchor-chip")).to_contain_text("FAILED tests/test_cart.py::test_total")
    composer = logs.get_by_label("Message to Nori")
    composer.fill("why this?")
    composer.press("Enter")
    expect(logs.locator("article.mine", has_text="why this?").locator(".anchor")).to_contain_text(
        "FAILED tests"
    )
    expect(logs.locator(".anchor-chip")).to_have_count(0)  # which is when the server has it
    sent = story.kitchen.logs[story.nori][-1]["body"]["anchor"]
    chunk = next(e for e in story.kitchen.logs[story.nori] if e["kind"] == "log")
    assert sent == {
        "seq": chunk["seq"],
        "line": 2,
        "quote": "FAILED tests/test_cart.py::test_total - AssertionError",
    }


def test_the_agents_name_opens_its_chat_and_focus_comes_back(logs: Page, story: Story) -> None:
    name = logs.get_by_role("button", name="Chat with Koji").first
    name.click()
    expect(logs).to_have_url(re.compile(f"run={story.koji}"))
    expect(logs.get_by_label("Message to Koji")).to_be_focused()
    logs.keyboard.press("Escape")
    expect(name).to_be_focused()


def test_what_is_shown_can_be_downloaded_as_plain_text(logs: Page) -> None:
    logs.get_by_label("Find in the log").fill("passed")
    expect(logs.locator(".log-line")).to_have_count(1)
    with logs.expect_download() as waiting:
        logs.get_by_role("button", name="Download").click()
    assert waiting.value.suggested_filename == "corner-shop.log"
    body = waiting.value.path().read_text()
    assert re.fullmatch(r"\S+Z Nori 6 7 passed in 0\.21s\n", body)


def test_what_is_copied_is_the_text_alone(logs: Page) -> None:
    copied = logs.evaluate(
        """() => {
          const [first, second] = document.querySelectorAll(".log-line");
          const selection = getSelection();
          selection.removeAllRanges();
          const range = document.createRange();
          range.setStartBefore(first);
          range.setEndAfter(second);
          selection.addRange(range);
          return selection.toString();
        }"""
    )
    assert [line.strip() for line in copied.splitlines() if line.strip()] == [
        "INFO reading cart/models.py",
        "INFO three modules, one cycle",
    ]


def test_older_lines_come_when_one_scrolls_up_and_stand_in_order(
    story: Story, open_page: OpenPage
) -> None:
    for chunk in range(250):
        story.kitchen.log(story.nori, f"chunk {chunk} a", f"chunk {chunk} b")
    page = open_page(f"/projects/{story.project['id']}/logs")
    expect(page.get_by_text("chunk 249 b")).to_be_in_viewport()
    expect(page.get_by_text("chunk 0 a", exact=True)).to_have_count(0)
    page.get_by_role("button", name="Pause").click()
    for _ in range(6):
        page.locator(".log-scroll").evaluate("e => { e.scrollTop = 500; e.scrollTop = 0; }")
        page.wait_for_function("() => !document.querySelector('log-viewer').isLoading")
    expect(page.get_by_text("chunk 0 a", exact=True)).to_be_attached()
    chunks = [t for t in texts(page) if t.startswith("chunk")]
    assert chunks == [f"chunk {n} {x}" for n in range(250) for x in "ab"]


def test_fifty_thousand_lines_stay_smooth(story: Story, logs: Page) -> None:
    for _ in range(100):
        story.kitchen.log(
            story.nori, *[f"line of output {n} with some words to read" for n in range(500)]
        )
    expect(logs.locator(".log-count")).to_have_text("50011 lines", timeout=60_000)
    logs.evaluate(
        "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
    )
    spent = logs.evaluate(
        """async () => {
          const viewer = document.querySelector("log-viewer");
          const lines = Array.from({length: 50}, (_, n) => ({stream: "stdout", text: `one more ${n}`}));
          let best = Infinity;
          for (let round = 0; round < 5; round++) {
            const known = viewer.log.lines.at(-1);
            const event = {kind: "log", run_id: known.runId, seq: 1e6 + round, at: "2999-01-01T00:00:00.000Z", body: {first_line: known.number + 1, lines}};
            const start = performance.now();
            viewer.took(viewer.log.apply(event, "nori"));
            viewer.draw();
            viewer.scroller.getBoundingClientRect();
            best = Math.min(best, performance.now() - start);
            await new Promise(done => requestAnimationFrame(done));
          }
          return best;
        }"""
    )
    assert spent < 250, f"50 more lines on top of 50,000 took {spent:.0f} ms"
