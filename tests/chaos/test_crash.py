"""The short form of the crash test; the long one is part of `make bench`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

CRASH = Path(__file__).with_name("crash.py")


@pytest.mark.chaos
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_every_2xx_is_stored_once_and_in_order_though_everything_is_killed():
    """Two webs, two workers, Redis, four agents and their sidecars, SIGKILLed in turn under load."""
    command = [sys.executable, str(CRASH), "--messages", "400", "--kills", "12", "--seed", "7"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("{"), done.stdout + done.stderr

    counts = json.loads(done.stdout)

    assert counts["wrong"] == {}, done.stderr
    assert set(counts["killed"]) == {"web", "worker", "redis", "agent", "sidecar", "beat"}
    assert counts["people_2xx"] == 203  # 50 to each agent, and END to three of them
    assert counts["in_context"] + counts["undelivered"] == counts["people_2xx"]
    assert counts["agent_stored"] >= counts["agent_said"] > 100
