"""scripts/run.py, what `make run` starts: real Redis, gunicorn, Celery and Flower."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from supervisor import TIED

from chat.adapters.embedded_redis import free_port

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, str(ROOT / "scripts" / "run.py")]


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    ours = {"STATE_DIR": str(tmp_path / "state"), "PORT": str(free_port()), "AGENT": "none"}
    inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return inherited | ours | {"WEB_WORKERS": "1", "WORKER_CONCURRENCY": "1"}


def refused(environ: dict[str, str]) -> str:
    result = subprocess.run(
        COMMAND, env=environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    return result.stderr


def test_a_wrong_setting_ends_the_start_with_one_line(environ: dict[str, str]):
    assert refused(environ | {"LEASE_MS": "soon"}) == "LEASE_MS takes a whole number, not 'soon'.\n"


def test_a_taken_port_is_named_with_what_to_do(environ: dict[str, str]):
    with socket.create_server(("127.0.0.1", int(environ["PORT"]))):
        line = refused(environ)

    assert line.startswith(f"Port {environ['PORT']} is taken by another program")
    assert f"'make run PORT={int(environ['PORT']) + 1}'" in line


def test_a_flower_port_that_was_asked_for_and_is_taken_is_named(environ: dict[str, str]):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert refused(environ | {"FLOWER_PORT": port}) == (
            f"FLOWER_PORT={port} is taken: choose another.\n"
        )


class Omakase:
    """A running scripts/run.py."""

    def __init__(self, environ: dict[str, str]) -> None:
        # TIED: it ends with us, whatever happens to this test
        self.process = subprocess.Popen(
            [*TIED, *COMMAND],
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.seen: list[str] = []

    def line(self, pattern: str) -> re.Match[str]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.seen.append(line)
            if match := re.search(pattern, line):
                return match
        raise AssertionError(f"no line like {pattern!r} in\n{''.join(self.seen)}")

    def children(self) -> dict[str, int]:
        """Process id by what it runs."""
        found: dict[str, int] = {}
        for pid in map(
            int,
            Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split(),
        ):
            arguments = Path(f"/proc/{pid}/cmdline").read_text()
            for name in ("gunicorn", "worker", "beat", "flower", "-server"):
                if name in arguments.replace("workers.app", ""):
                    found[name.strip("-")] = pid
                    break
        return found

    def all_children(self) -> dict[str, int]:
        """The same, once all five run."""
        deadline = time.monotonic() + 30
        while set(found := self.children()) != {"server", "gunicorn", "worker", "beat", "flower"}:
            assert time.monotonic() < deadline, found
            threading.Event().wait(0.05)
        return found

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.line("^Stopped")
        assert self.process.wait(30) == 0


@pytest.fixture
def omakase(environ: dict[str, str]) -> Iterator[Omakase]:
    running = Omakase(environ)
    yield running
    if running.process.poll() is None:
        running.process.send_signal(signal.SIGTERM)
        running.process.wait(60)
    running.process.stdout.close()


def page_of(address: str) -> bytes:
    """The page at an address of which nobody has said that it answers already."""
    deadline = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(address, timeout=10) as answer:
                return answer.read()
        except urllib.error.URLError:
            assert time.monotonic() < deadline
            threading.Event().wait(0.05)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_it_starts_everything_survives_kills_and_stops_without_a_rest(
    omakase: Omakase, environ: dict[str, str]
):
    flower = omakase.line(r"Omakase is at http://\S+ · Celery's work at (http://\S+) · ready in")[1]
    web = f"http://127.0.0.1:{environ['PORT']}"
    page_of(f"{web}/")
    before = omakase.all_children()
    assert refused(environ).startswith("Omakase is already running on")

    for name in ("server", "gunicorn"):
        os.kill(before[name], signal.SIGKILL)
        omakase.line(r"ended with signal 9; again in 0.5 s")
    omakase.line(r"Listening at: http://127.0.0.1")
    page_of(f"{web}/readyz")
    after = omakase.all_children()
    assert after["server"] != before["server"]
    assert after["worker"] == before["worker"]
    assert b"Flower" in page_of(flower)

    omakase.stop()
    for pid in {*before.values(), *after.values()}:
        assert not Path(f"/proc/{pid}").exists()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_second_start_finds_what_the_first_one_kept(environ: dict[str, str]):
    for expected in (None, b"kept"):
        running = Omakase(environ)
        running.line("Omakase is at")
        server = running.children()["server"]
        port = re.search(r"127\.0\.0\.1:(\d+)", Path(f"/proc/{server}/cmdline").read_text())
        assert port is not None
        with redis.Redis(port=int(port[1])) as client:
            assert client.get("note") == expected
            client.set("note", "kept")
        running.stop()
        running.process.stdout.close()
