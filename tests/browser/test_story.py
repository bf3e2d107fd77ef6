"""The story of the issue, in a real browser, on what `make run` starts: real server processes, real
Redis, a real worker, and the four agents of the demo at work on a real git repository."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, WebSocketRoute, expect
from supervisor import TIED

from chat.adapters.embedded_redis import free_port

ROOT = Path(__file__).parents[2]
PATIENCE_MS = 90_000
"""Until an agent has done something; these machines are slow and shared."""
pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(420)]


class Omakase:
    """What `make run` starts, on a state folder of the test's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.environ = {
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            "STATE_DIR": str(folder / "state"), "PORT": str(self.port), "WEB_WORKERS": "1",
            "WORKER_CONCURRENCY": "1", "DEMO_PACE_S": "0.5", "LOG_LEVEL": "WARNING",
        }  # fmt: skip
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when the page answers and the demo is set up."""
        with (self.folder / "run.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*TIED, sys.executable, str(ROOT / "scripts" / "run.py")],
                env=self.environ, stdout=log, stderr=log, cwd=ROOT, start_new_session=True,
            )  # fmt: skip
        until(self._is_ready)

    def _is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "run.log").read_text()
        try:
            with urllib.request.urlopen(f"{self.address}/readyz", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def kill_everything(self) -> int:
        """SIGKILL to every process there is, agents and Redis too; returns how many there were."""
        assert self.process is not None
        pids = [self.process.pid, *_descendants(self.process.pid)]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):  # went with its parent meanwhile
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        return len(pids)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(60)

    def commits(self) -> str:
        """Everything that was ever committed in the demo's repository."""
        repos = (self.folder / "state" / "repos").glob("*")
        (repo,) = (path for path in repos if (path / ".git").is_dir())  # the others are worktrees
        log = ["git", "-C", str(repo), "log", "--all", "--format=%an: %s"]
        return subprocess.run(log, check=True, capture_output=True, text=True).stdout


def _descendants(root: int) -> list[int]:
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(stat.parent.name)] = int(fields[1])
    found = [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found[1:]


def until(is_so: Callable[[], Any], *, page: Page | None = None) -> Any:
    """The first true answer. With a page, what its routes are told is heard meanwhile."""
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while not (answer := is_so()):
        assert time.monotonic() < deadline, f"{is_so} did not come about"
        if page is not None:
            page.wait_for_timeout(100)
        else:
            threading.Event().wait(0.1)
    return answer


@pytest.fixture
def omakase(tmp_path: Path) -> Iterator[Omakase]:
    running = Omakase(tmp_path)
    try:
        running.start()
        yield running
    finally:
        running.stop()


@pytest.fixture
def context(ui_chromium: Browser) -> Iterator[BrowserContext]:
    context = ui_chromium.new_context(viewport={"width": 1440, "height": 900})
    yield context
    context.close()


def sign_in(page: Page, omakase: Omakase) -> None:
    page.goto(omakase.address)
    page.get_by_label("Your name").fill("Anna")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("link", name="Tea shop").first.click()


def open_chat(page: Page, agent: str) -> None:
    page.get_by_role("button", name=f"Chat with {agent}").click(timeout=PATIENCE_MS)
    expect(page.get_by_role("log")).to_be_visible()


def say(page: Page, text: str) -> None:
    composer = page.get_by_role("textbox", name=re.compile("^Message to"))
    composer.fill(text)
    composer.press("Enter")


def events_of(page: Page) -> list[dict[str, Any]]:
    """The whole log of the run whose chat is open, as the API gives it."""
    run_id = re.search(r"run=(run_\w+)", page.url)
    assert run_id is not None
    events: list[dict[str, Any]] = []
    while True:
        after = events[-1]["seq"] if events else 0
        path = f"/api/agent-runs/{run_id[1]}/messages?after={after}&limit=500"
        answer = json.loads(page.request.get(page.url.partition("/projects")[0] + path).text())
        events += answer["events"]
        if not answer["has_more"]:
            return events


def test_a_person_talks_with_an_agent_that_works_and_finds_it_again_after_every_process_was_killed(
    omakase: Omakase, context: BrowserContext
):
    page = context.new_page()
    sign_in(page, omakase)
    open_chat(page, "Nori")

    # writes, and sees how far it comes
    say(page, "call it total_price")
    mine = page.get_by_role("article", name="Anna wrote").filter(has_text="call it total_price")
    expect(mine.locator(".ticks")).to_have_attribute(
        "data-state", "in_context", timeout=PATIENCE_MS
    )
    receipts = [event["body"] for event in events_of(page) if event["kind"] == "receipt"]
    (message,) = [
        event
        for event in events_of(page)
        if event["kind"] == "message" and event["body"]["text"] == "call it total_price"
    ]
    way = [receipt["state"] for receipt in receipts if message["id"] in receipt["ids"]]
    assert way == ["stored", "leased", "in_context"]

    # sees the exact text that the agent was given
    mine.get_by_text("What the model was given").click()
    expect(mine.locator("proof-view")).to_contain_text("call it total_price")

    # sees it change what it does, and reads about it
    reply = page.get_by_role("article", name="Nori said").filter(has_text="total_price")
    expect(reply.first).to_be_visible(timeout=PATIENCE_MS)
    until(lambda: re.search(r"(?i)nori.*total_price", omakase.commits()))

    # answers the question that the agent asks
    question = page.locator("section.question[data-state=open]")
    expect(question).to_be_visible(timeout=PATIENCE_MS)
    option = question.locator("button.option").first
    label = option.inner_text()
    option.click()
    answered = page.locator("section.question[data-state=answered]")
    expect(answered).to_contain_text("Anna")
    expect(answered).to_contain_text(label)
    until(
        lambda: [
            event
            for event in events_of(page)
            if event["kind"] == "receipt"
            and event["body"]["state"] == "in_context"
            and event["body"]["ids"][0].startswith("ans_")
        ]
    )

    # every process is killed, and started anew
    said = [
        event for event in events_of(page) if event["kind"] in {"message", "question", "answer"}
    ]
    assert omakase.kill_everything() > 8
    omakase.start()
    page.reload()
    expect(mine.locator(".ticks")).to_have_attribute(
        "data-state", "in_context", timeout=PATIENCE_MS
    )
    expect(answered).to_contain_text(label)
    again = [
        event for event in events_of(page) if event["kind"] in {"message", "question", "answer"}
    ]
    assert again[: len(said)] == said
    seqs = [event["seq"] for event in events_of(page)]
    assert seqs == list(range(1, len(seqs) + 1))


def test_a_reconnect_in_mid_stream_misses_nothing_and_doubles_nothing(
    omakase: Omakase, context: BrowserContext
):
    page = context.new_page()
    sockets: list[WebSocketRoute] = []

    def through(socket: WebSocketRoute) -> None:
        socket.connect_to_server()
        sockets.append(socket)

    page.route_web_socket(re.compile("/api/live"), through)
    sign_in(page, omakase)
    open_chat(page, "Koji")
    for number in range(3):
        say(page, f"what are you doing? ({number})")
        writing = page.locator("streaming-message, [aria-busy=true].said")
        expect(writing.first).to_be_visible(timeout=PATIENCE_MS)
        known = len(sockets)
        sockets[-1].close(code=1012, reason="cut by the test")  # while it is being written
        until(lambda known=known: len(sockets) > known, page=page)
        asked = page.get_by_role("article", name="Anna wrote").filter(has_text=f"({number})")
        expect(asked.locator(".ticks")).to_have_attribute(
            "data-state", "in_context", timeout=PATIENCE_MS
        )

    def is_shown_as_it_is_kept() -> bool:
        # the agent goes on talking: compare what both know
        kept = [
            event["id"]
            for event in events_of(page)
            if event["kind"] == "message" and not event["body"].get("edit_of")
        ]
        rows = page.locator(".row[data-kind=message]")
        shown = rows.evaluate_all("rows => rows.map((row) => Number(row.dataset.seq))")
        return len(shown) == len(set(shown)) == len(kept) and shown == sorted(shown)

    until(is_shown_as_it_is_kept)
    expect(page.locator("streaming-message")).to_have_count(0, timeout=PATIENCE_MS)
    for event in events_of(page):
        if event["kind"] == "message" and event["sender"]["kind"] == "agent":
            first_words = re.findall(r"\w{4,}", event["body"]["text"])[:3]
            row = page.locator(f'.row[data-seq="{event["seq"]}"]')
            for word in first_words:
                expect(row).to_contain_text(word)
