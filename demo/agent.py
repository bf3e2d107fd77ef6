"""`python -m demo.agent --role coder --repo PATH`: one demo agent, from joining its run to its end.

The run is found in the environment (agent_hooks.loop). DEMO_PACE_S is how long a step takes at least.
Exit codes: 0 the work is done, 1 it failed, 2 wrong arguments or environment, 143 it was stopped.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import traceback
from pathlib import Path

from agent_hooks.errors import Ended, HooksError, Misused
from agent_hooks.loop import Agent, Stopped
from demo import notes
from demo.goal import Terminated
from demo.roles import BY_NAME
from demo.terminal import Terminal
from demo.worker import Worker
from demo.workshop import GitFailed, Workshop

PACE_S = 3.0
STOPPED_CODE = 143


def main() -> int:
    """Work until nothing is left, or until somebody stops it."""
    parser = argparse.ArgumentParser(prog="demo.agent", description=__doc__)
    parser.add_argument("--role", required=True, choices=sorted(BY_NAME))
    parser.add_argument(
        "--repo", required=True, type=Path, help="the checkout; made when it is missing"
    )
    given = parser.parse_args()
    name, role_class = BY_NAME[given.role]
    terminal = Terminal()
    try:
        pace_s = float(os.environ.get("DEMO_PACE_S") or PACE_S)
        agent = Agent.connect()
        kept = notes.left_by_the_process_before()
        shop = Workshop.open(given.repo.resolve(), name)
    except (Misused, GitFailed, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    with agent, contextlib.closing(shop):
        worker = Worker(agent, shop, name=name, pace_s=pace_s, terminal=terminal)
        worker.obey_signals()
        worker.role = role_class(worker)
        if kept is not None:
            worker.restore(kept)
        terminal.note(f"{name} in {shop.folder.name}, a step takes {pace_s:g} s at least")
        return _live(worker)


def _live(worker: Worker) -> int:
    """The run's life and end; the exit code says the same as what was reported."""
    agent, role = worker.agent, worker.role
    if role is None:
        raise RuntimeError("a worker without a role")
    try:
        worker.report_working()
        worker.come_back()
        worker.farewell(role.work())
    except Stopped as stop:
        return _stopped(worker, f"Stopped by {stop.by}.")
    except Terminated:
        return _stopped(worker, "Ended from outside by a signal.")
    except HooksError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, the people hear of it
        if worker.terminated:
            return _stopped(worker, "Ended from outside by a signal.")
        traceback.print_exc()
        agent.error(f"{type(error).__name__}: {error}", detail=traceback.format_exc())
        agent.finish(f"{type(error).__name__}: {error}", outcome="failed", exit_code=1)
        return 1
    worker.terminal.note("done")
    return 0


def _stopped(worker: Worker, summary: str) -> int:
    worker.terminal.note(summary)
    with contextlib.suppress(Ended):  # it goes on hold: the run is not over, and not ours any more
        worker.agent.finish(summary, outcome="stopped", exit_code=STOPPED_CODE)
    return STOPPED_CODE


if __name__ == "__main__":
    sys.exit(main())
