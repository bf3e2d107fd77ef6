"""An owner's terminal in a real browser: the whole way from a key to a real shell and back to the screen."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, expect

from tests.fake_aws import Fault, Refused
from tests.serving import Api, until, web_redis
from tests.ssm_shell import ShellAgent
from tests.terminals import TerminalWorld, own_terminals, terminals, terminals_for_all

__all__ = ["own_terminals", "terminals", "terminals_for_all", "web_redis"]
pytestmark = pytest.mark.browser
Visit = Callable[..., Page]


@pytest.fixture
def visit(ui_chromium: Browser) -> Iterator[Visit]:
    """Opens a run's chat as somebody; the test fails when the page reports an error, the CSP's too."""
    errors: list[str] = []
    missing: list[str] = []
    contexts = []

    def note(message: ConsoleMessage) -> None:
        lost = message.location["url"].endswith(tuple(missing))
        if message.type == "error" and "WebSocket connection to" not in message.text and not lost:
            errors.append(message.text)

    def opened(
        world: TerminalWorld,
        run_id: str,
        person: Api | None = None,
        *,
        without: str | None = None,
        **more: object,
    ) -> Page:
        person = person or world.person()
        context = ui_chromium.new_context(**({"viewport": {"width": 1440, "height": 900}} | more))
        contexts.append(context)
        name, _, value = person.headers["Cookie"].partition("=")
        context.add_cookies([{"name": name, "value": value, "url": world.server.origin}])
        page = context.new_page()
        if without is not None:  # a file that does not come
            missing.append(without)
            page.route(f"**/{without}", lambda route: route.abort())
        page.on("console", note)
        page.on("pageerror", lambda error: errors.append(str(error)))
        run = world.server.chat.store.run(run_id)
        assert run is not None
        page.goto(f"{world.server.origin}/projects/{run.project_id}?run={run_id}")
        expect(page.get_by_label("Message to Nori")).to_be_visible(timeout=30_000)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not errors, errors


def plain_shell(world: TerminalWorld) -> None:
    world.make = lambda _: ShellAgent(argv=("sh",))


def asks(page: Page, reason: str = "to see what hangs") -> None:
    page.get_by_role("button", name="Open a terminal in Nori's container").click()
    expect(page.get_by_role("dialog", name="A terminal in Nori's container")).to_be_visible()
    page.get_by_label("Why do you need it?").fill(reason)
    page.get_by_role("button", name="Open a terminal", exact=True).click()


def shows(page: Page, text: str | re.Pattern[str]) -> None:
    expect(page.locator(".xterm-rows")).to_contain_text(text, timeout=30_000)


@pytest.fixture
def shell(terminals: TerminalWorld, visit: Visit) -> tuple[Page, str]:
    """A page with an open terminal, and its run."""
    plain_shell(terminals)
    run_id = terminals.run()
    page = visit(terminals, run_id)
    asks(page)
    shows(page, "root@agent#")
    return page, run_id


def violations(page: Page) -> list[str]:
    # without preload: axe would copy sheets into inline styles, which the CSP refuses
    response = Axe().run(page, options={"preload": False}).response
    return [
        f"{v['id']}: {n['target']} {n['failureSummary']}"
        for v in response["violations"]
        for n in v["nodes"]
    ]


def test_what_is_typed_in_the_page_is_done_in_the_container(
    terminals: TerminalWorld, shell: tuple[Page, str]
):
    page, run_id = shell
    page.keyboard.type("echo $((6*7))")
    page.keyboard.press("Enter")
    shows(page, re.compile(r"echo \$\(\(6\*7\)\).*42"))
    # said by what is to be interrupted: at a prompt Ctrl-C would interrupt nothing
    page.keyboard.type("(echo begun $((1+1)); exec sleep 1000)")
    page.keyboard.press("Enter")
    shows(page, "begun 2")
    page.keyboard.press("Control+c")
    page.keyboard.type("echo back $((2+3))")
    page.keyboard.press("Enter")
    shows(page, "back 5")
    page.get_by_role("button", name="Close the terminal").click()
    expect(page.locator("dialog.terminal")).not_to_be_visible()
    until(lambda: terminals.states(run_id) == ["opened", "closed"])
    begin, end = terminals.records(run_id)
    assert begin["terminal"]["reason"] == "to see what hangs"
    assert end["terminal"]["end"] == "left"
    assert terminals.agents[-1].terminated
    # everybody who looks at the run sees it
    expect(page.locator("chat-log")).to_contain_text(
        "Anna opened a terminal in the agent's container: to see what hangs"
    )


def test_the_terminal_follows_the_size_of_the_window(
    terminals: TerminalWorld, shell: tuple[Page, str]
):
    page, _ = shell
    first = until(lambda: terminals.agents[-1].sizes and terminals.agents[-1].sizes[-1])
    assert first["cols"] > 80
    page.set_viewport_size({"width": 800, "height": 600})
    until(lambda: terminals.agents[-1].sizes[-1]["cols"] < first["cols"])
    small = terminals.agents[-1].sizes[-1]
    page.keyboard.type("stty size")
    page.keyboard.press("Enter")
    shows(page, f"{small['rows']} {small['cols']}")


def test_the_last_line_is_whole_within_the_screen(shell: tuple[Page, str]):
    page, _ = shell
    page.keyboard.type("seq 1 200; echo last $((8+1))")
    page.keyboard.press("Enter")
    shows(page, "last 9")
    screen = page.locator(".terminal-screen").bounding_box()
    last = page.locator(".xterm-rows > div").last.bounding_box()
    assert last["y"] + last["height"] <= screen["y"] + screen["height"]
    assert page.locator(".terminal-screen").evaluate("e => e.scrollTop") == 0


def test_tab_and_escape_go_to_the_shell_and_f6_leaves_it(
    terminals: TerminalWorld, shell: tuple[Page, str]
):
    page, _ = shell
    page.keyboard.press("Tab")
    page.keyboard.press("Escape")
    until(lambda: b"\t\x1b" in terminals.agents[-1].received)
    expect(page.locator(".xterm-helper-textarea")).to_be_focused()
    page.keyboard.press("F6")
    expect(page.get_by_role("button", name="Close the terminal")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("dialog.terminal")).not_to_be_visible()
    expect(page.get_by_role("button", name="Open a terminal in Nori's container")).to_be_focused()


def test_colours_bold_and_a_picture_of_the_whole_screen_need_no_other_policy(
    shell: tuple[Page, str],
):
    page, _ = shell
    page.keyboard.type(r"printf '\033[1;38;2;255;120;10mWARM\033[0m \033[44mBLUE\033[0m\n'")
    page.keyboard.press("Enter")
    warm = page.locator(".xterm-rows span", has_text=re.compile("^WARM$"))
    expect(warm).to_have_css("color", "rgb(255, 120, 10)")
    expect(warm).to_have_css("font-weight", "700")
    blue = page.locator(".xterm-rows span", has_text=re.compile("^BLUE$"))
    expect(blue).not_to_have_css("background-color", "rgba(0, 0, 0, 0)")
    rows = page.locator(".xterm-rows > div")
    tops = [rows.nth(n).bounding_box()["y"] for n in range(3)]
    assert tops[0] < tops[1] < tops[2]


SCHEMES = [
    pytest.param({"color_scheme": "light"}, id="light"),
    pytest.param({"color_scheme": "dark"}, id="dark"),
    pytest.param({"viewport": {"width": 390, "height": 844}}, id="telephone"),
]


@pytest.mark.parametrize("options", SCHEMES)
def test_axe_finds_nothing_in_the_question_and_in_the_terminal(
    terminals: TerminalWorld, visit: Visit, options: dict
):
    plain_shell(terminals)
    page = visit(terminals, terminals.run(), reduced_motion="reduce", **options)
    page.get_by_role("button", name="Open a terminal in Nori's container").click()
    expect(page.get_by_label("Why do you need it?")).to_be_focused()
    assert violations(page) == []
    page.get_by_label("Why do you need it?").fill("to look")
    page.keyboard.press("Enter")
    shows(page, "root@agent#")
    assert violations(page) == []
    page.keyboard.type("exit")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("The terminal is closed: the shell ended.")
    assert violations(page) == []


def test_a_reader_of_screens_is_told_what_is_printed(shell: tuple[Page, str]):
    page, _ = shell
    page.keyboard.type("echo spoken $((1+1))")
    page.keyboard.press("Enter")
    expect(page.locator(".xterm-accessibility")).to_contain_text("spoken 2")
    expect(page.locator(".live-region")).to_have_attribute("aria-live", "assertive")


def test_an_agent_that_is_not_connected_is_said_in_words(terminals: TerminalWorld, visit: Visit):
    run_id = terminals.run()
    fault = Fault("ExecuteCommand", Refused("TargetNotConnectedException", "arn:x"), times=2)
    terminals.aws.faults[:] = [fault]
    page = visit(terminals, run_id)
    asks(page)
    expect(page.get_by_role("alert")).to_contain_text(
        "The task runs, but AWS has no connection to the exec agent inside it.", timeout=30_000
    )
    terminals.aws.faults.clear()
    assert terminals.states(run_id) == ["failed"]
    expect(page.get_by_role("button", name="Close", exact=True)).to_be_focused()


@pytest.mark.parametrize("file", ["terminal-dialog.js", "terminal.css"])
def test_a_dialog_whose_files_do_not_come_is_said_and_can_be_asked_for_again(
    terminals: TerminalWorld, visit: Visit, file: str
):
    page = visit(terminals, terminals.run(), without=file)
    button = page.get_by_role("button", name="Open a terminal in Nori's container")
    button.click()
    expect(page.get_by_role("alert")).to_have_text(
        "The terminal's files could not be loaded. Try again."
    )
    page.unroute_all()
    button.click()
    expect(page.get_by_label("Why do you need it?")).to_be_focused()
    expect(page.get_by_role("alert")).to_have_count(0)


@pytest.mark.parametrize("file", ["terminal-screen.js", "xterm.js", "xterm.css"])
def test_a_terminal_whose_files_do_not_come_is_said_and_can_be_asked_for_again(
    terminals: TerminalWorld, visit: Visit, file: str
):
    plain_shell(terminals)
    run_id = terminals.run()
    page = visit(terminals, run_id, without=file)
    asks(page)
    expect(page.get_by_role("alert")).to_have_text(
        "The terminal's files could not be loaded. Close and try again."
    )
    expect(page.get_by_role("button", name="Close", exact=True)).to_be_focused()
    page.keyboard.press("Enter")
    assert terminals.records(run_id) == []
    page.unroute_all()
    asks(page)
    shows(page, "root@agent#")


def test_what_the_screen_answers_a_program_is_not_taken_for_typing(
    shell: tuple[Page, str], terminals: TerminalWorld
):
    page, _ = shell
    page.evaluate("""() => {
      window.told = [];
      const send = WebSocket.prototype.send;
      WebSocket.prototype.send = function (data) {
        window.told.push(typeof data === "string" ? JSON.parse(data) : new TextDecoder().decode(data));
        return send.call(this, data);
      };
    }""")
    # it is to say where the cursor is, what it is, and when the focus goes
    page.keyboard.type(r"printf '\033[6n\033[c\033[?1004h'; sleep 1")
    page.keyboard.press("Enter")
    told = "window.told.filter((one) => one.type === 'answer').map((one) => one.data)"
    until(lambda: len(page.evaluate(told)) >= 2)
    page.keyboard.press("F6")
    until(lambda: "\x1b[O" in page.evaluate(told))
    where, what = page.evaluate(told)[:2]
    assert re.fullmatch(r"\x1b\[\d+;\d+R", where)
    assert what.startswith("\x1b[?1;2")
    typed = "".join(page.evaluate("window.told.filter((one) => typeof one === 'string')"))
    assert typed.endswith("sleep 1\r")
    assert "\x1b" not in typed
    page.locator(".xterm-helper-textarea").focus()
    page.evaluate("""() => {
      const data = new DataTransfer();
      data.setData("text/plain", "pasted");
      const paste = new ClipboardEvent("paste", { clipboardData: data, bubbles: true });
      document.querySelector(".xterm-helper-textarea").dispatchEvent(paste);
    }""")
    until(lambda: "pasted" in page.evaluate("window.told"))
    until(lambda: b"pasted" in terminals.agents[-1].received)
    assert b"\x1b[?1;2c" in terminals.agents[-1].received


def test_a_page_that_is_left_ends_the_terminal(terminals: TerminalWorld, shell: tuple[Page, str]):
    page, run_id = shell
    page.goto("about:blank")
    until(lambda: terminals.states(run_id) == ["opened", "closed"])


@pytest.mark.parametrize("level", ["viewer", "commenter", "operator"])
def test_who_is_no_owner_sees_no_button(terminals: TerminalWorld, visit: Visit, level: str):
    page = visit(terminals, terminals.run(), terminals.level(level))
    expect(page.get_by_role("button", name="Stop Nori").first).to_be_visible()
    expect(page.get_by_role("button", name=re.compile("terminal"))).to_have_count(0)


def test_switched_off_there_is_no_button_and_nothing_of_it_is_loaded(
    own_terminals: Callable[..., TerminalWorld], visit: Visit
):
    world = own_terminals(EXEC_TERMINAL="off")
    run_id = world.queued()
    page = visit(world, run_id)
    expect(page.get_by_role("button", name="Stop Nori").first).to_be_visible()
    expect(page.get_by_role("button", name=re.compile("terminal"))).to_have_count(0)


def test_the_library_comes_with_the_first_terminal_and_not_before(
    terminals: TerminalWorld, visit: Visit
):
    plain_shell(terminals)
    page = visit(terminals, terminals.run())
    loaded: list[str] = []
    page.on("request", lambda request: loaded.append(urlsplit(request.url).path))
    page.reload()
    expect(page.get_by_label("Message to Nori")).to_be_visible()
    assert not [path for path in loaded if "xterm" in path or "terminal" in path]
    asks(page)
    shows(page, "root@agent#")
    assert "/static/vendor/xterm/xterm.js" in loaded
