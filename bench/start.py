"""From `make run` to a page that answers: cold and warm.

Cold: a fresh clone of what is committed, no .venv, an empty home, and empty caches of uv and pip, so all
of it comes over the network. Warm: the same again after it was stopped. No target: networks differ.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from bench.figure import options, say, skip
from bench.stage import ROOT, TIED, free_port

WITHIN_S = 600.0


def answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=2) as page:
            return page.status == 200 and b"<html" in page.read()
    except (urllib.error.URLError, OSError):
        return False


def seconds(folder: Path, env: dict[str, str]) -> float:
    """Start, wait for the page, stop."""
    port = free_port()
    began = time.perf_counter()
    process = subprocess.Popen(
        [*TIED, "make", "run"],
        cwd=folder / "clone",
        env={**env, "PORT": str(port), "FLOWER_PORT": str(free_port())},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        while not answers(port):
            if process.poll() is not None:
                raise RuntimeError(f"make run ended with code {process.returncode}")
            if time.perf_counter() - began > WITHIN_S:
                raise TimeoutError(f"no page within {WITHIN_S:g} s")
            time.sleep(0.05)
        return time.perf_counter() - began
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def main() -> None:
    options(__doc__)
    if shutil.which("git") is None or shutil.which("make") is None:
        skip("make run to a page", "no git or no make")
        return
    with tempfile.TemporaryDirectory(prefix="omakase-start-") as name:
        folder = Path(name)
        done = subprocess.run(
            ["git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(folder / "clone")],
            check=False,
        )
        if done.returncode:
            skip("make run to a page", "this is no git checkout")
            return
        (folder / "home").mkdir()
        kept = ("PATH", "LANG", "TERM", "PIP_INDEX_URL", "UV_INDEX_URL", "UV_DEFAULT_INDEX",
                "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT", "HTTPS_PROXY", "HTTP_PROXY",
                "https_proxy", "http_proxy", "NO_PROXY", "no_proxy", "PIP_CONFIG_FILE",
                "UV_CONFIG_FILE")  # fmt: skip
        env = {key: os.environ[key] for key in kept if key in os.environ}
        env |= {"HOME": str(folder / "home"), "UV_CACHE_DIR": str(folder / "uv"),
                "PIP_CACHE_DIR": str(folder / "pip")}  # fmt: skip
        cold = seconds(folder, env)
        warm = seconds(folder, env)
    say("make run to a page that answers, cold", cold, "s", note="fresh clone, empty caches")
    say("make run to a page that answers, warm", warm, "s", note="the second start")


if __name__ == "__main__":
    main()
