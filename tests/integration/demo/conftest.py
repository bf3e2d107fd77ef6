"""The whole stack in real processes, small: Redis, one web process, a Celery worker with its beat."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving import ROOT, Server, start, until, web_redis

__all__ = ["stack", "web_redis"]


@pytest.fixture(scope="module")
def stack(web_redis, request: pytest.FixtureRequest) -> Iterator[Server]:
    """With the settings that the test's module names in ENVIRON."""
    pyz = ROOT / "build" / "agent-hooks.pyz"
    if not pyz.exists():
        subprocess.run([sys.executable, "scripts/build_pyz.py"], cwd=ROOT, check=True)
    with tempfile.TemporaryDirectory(prefix="omakase-demo-") as name:
        folder = Path(name)
        environ = {"AGENT": "demo", "DEMO_PACE_S": "0.05"} | getattr(request.module, "ENVIRON", {})
        server = start(web_redis.url, folder, **environ)
        log = folder / "worker.log"
        with log.open("wb") as output:
            worker = subprocess.Popen(
                [
                    sys.executable, "-m", "celery", "--quiet", "-A", "workers.app", "worker", "--beat",
                    "--concurrency=1", "--without-gossip", "--without-mingle", "--without-heartbeat",
                    f"--schedule={folder / 'schedule'}",
                ],
                cwd=ROOT, env={**os.environ, **server.environ}, stdout=output, stderr=output,
            )  # fmt: skip
        try:
            yield server
        finally:
            _end_agents(server)
            worker.terminate()
            worker.wait(60)
            server.stop()


def _end_agents(server: Server) -> None:
    """Stop what still runs, as a person would, and wait until it has ended."""
    anna = server.person()
    runs = [run for one in _projects(server) for run in _runs(server, one)]
    for run in runs:
        if run["status"] not in {"completed", "failed", "stopped"}:
            anna.post(
                f"/api/agent-runs/{run['id']}/orders", {"action": "stop"},
                Idempotency_Key=f"end-{run['id']}",
            )  # fmt: skip
    until(
        lambda: all(
            run["status"] in {"completed", "failed", "stopped"}
            for one in _projects(server)
            for run in _runs(server, one)
        ),
        90,
    )


def _projects(server: Server) -> list[str]:
    return [one["id"] for one in server.person().get("/api/projects").json["projects"]]


def _runs(server: Server, project_id: str) -> list[dict[str, str]]:
    runs: list[dict[str, str]] = (
        server.person().get(f"/api/agent-runs?project_id={project_id}").json["runs"]
    )
    return runs
