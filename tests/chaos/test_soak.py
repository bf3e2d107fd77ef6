"""The short form of the soak on ECS; the one of 200 tasks is part of `make bench`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tools import npm_packages

SOAK = Path(__file__).with_name("soak.py")
NODE = Path(__file__).parent.parent / "node"


@pytest.mark.chaos
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_ledger_balances_and_no_status_is_wrong_whatever_aws_and_the_machine_do():
    """Sixty tasks, every stop code, every fault on the wire, workers killed all the while."""
    npm_packages(NODE)
    command = [sys.executable, str(SOAK), "--tasks", "60", "--kills", "6", "--seed", "7"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("{"), done.stdout + done.stderr

    told = json.loads(done.stdout)

    assert told["wrong"] == {}, f"{told['examples']} {done.stderr}"
    assert told["never occurred"] == []
    counts = told["counts"]
    assert counts["tasks"] >= 40
    ends = ("in_context", "queued", "leased", "cancelled", "undelivered", "moved")
    assert counts["accepted"] == sum(counts.get(end, 0) for end in ends)
    assert counts["longest way"] >= 1, "something was moved"
    assert told["killed"]["worker"] >= 3
