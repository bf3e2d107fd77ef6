"""The command line and the library against the real server: that both read docs/wire.md the same way."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent_hooks import local
from agent_hooks.errors import SidecarAway
from agent_hooks.loop import Agent
from tests import serving
from tests.serving import Server, server, web_redis

__all__ = ["server", "web_redis"]


@pytest.fixture
def attached(
    server: Server, pyz: Path, tmp_path: Path
) -> Iterator[tuple[Agent, dict[str, str], str]]:
    env = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "OMAKASE_HOME": str(tmp_path / "h")}
    done = subprocess.run(
        [sys.executable, "-I", str(pyz), "register", "--server", server.origin,
         "--feature", "Prices", "--project", "Shop", "--agent", "nori"],
        env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    exports = [line.removeprefix("export ") for line in done.stdout.splitlines()]
    env |= dict(line.split("=", 1) for line in exports if line.startswith("OMAKASE_"))
    agent = Agent.connect(env)
    yield agent, env, agent.run_id
    try:
        local.call(agent._state, "shutdown", 2.0)
    except SidecarAway:
        return


def test_a_registered_agent_talks_with_a_person_to_the_end(
    server: Server, attached: tuple[Agent, dict[str, str], str]
) -> None:
    agent, _, run_id = attached
    anna = server.person()
    path = f"/api/agent-runs/{run_id}"

    def events(kind: str) -> list[Any]:
        found: list[Any] = anna.get(f"{path}/messages?after=0&kind={kind}").json["events"]
        return found

    agent.status("working", phase="coding")
    with agent.step("read") as step:
        step.summary = "prices.py"
    with agent.stream() as out:
        out.write("I am ")
        out.write("reading.")
    serving.until(lambda: [e["body"]["text"] for e in events("message")] == ["I am reading."])
    assert [e["body"]["state"] for e in events("step")] == ["started", "finished"]
    body = {"text": "call it total_price"}
    posted = anna.post(f"{path}/messages", body, **{"Idempotency-Key": "k1"})
    wanted = posted.json["event"]["id"]
    server.chat.delivery.drain(run_id)  # what a worker does
    assert agent.wait(20)
    (mail,) = agent.drain()
    assert (mail.id, mail.text, mail.author) == (wanted, "call it total_price", "Anna")
    agent.confirm([mail.id], text=mail.envelope)
    found = serving.until(lambda: anna.get(f"{path}/messages/{wanted}").json["proof"])
    assert found["text"] == mail.envelope
    assert agent.finish("Done.", verdict="changes_requested") == []
    serving.until(lambda: anna.get(path).json["run"]["status"] == "completed")
    last = events("status")[-1]["body"]
    assert (last["detail"], last["verdict"]) == ("Done.", "changes_requested")
