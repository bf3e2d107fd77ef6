"""Between the checkpoint and its handing over the agent gets nothing and does nothing unseen."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent_hooks.core import Core
from agent_hooks.hold import HookFailed, run_hook
from agent_hooks.state import StateDir

ANNA = {"kind": "person", "id": "usr_anna", "name": "Anna", "role": None}


@pytest.fixture
def core(tmp_path: Path) -> Iterator[Core]:
    made = Core(
        StateDir.create(tmp_path / "run", server="http://127.0.0.1:9", run_id="run_x", token="t")
    )
    yield made
    made.spool.close()
    made.inbox.close()


def message(number: int) -> dict[str, Any]:
    event = {"id": f"msg_{number}", "seq": number, "kind": "message", "sender": ANNA,
             "body": {"text": "t", "mode": "steer"}}  # fmt: skip
    return {"event": event, "attempt": 1, "state": "leased", "version": 1}


@pytest.mark.parametrize(
    "act",
    [
        lambda core: core.confirm(["msg_1"], "the words"),
        lambda core: core.step_started("edit", None),
    ],
)
def test_what_the_agent_does_while_it_is_handed_over_waits_for_how_that_goes(
    core: Core, act: Callable[[Core], object]
) -> None:
    core.take_in({"items": [message(1)]}, "h")
    before = core.moves
    core.holding = True
    done = threading.Event()

    def agent() -> None:
        act(core)
        done.set()

    thread = threading.Thread(target=agent)
    thread.start()
    assert not done.wait(0.3)
    assert (core.moves, core.spool.pending_bytes()) == (before, 0)
    with core.changed:
        core.holding = False
        core.changed.notify_all()
    thread.join(10)
    assert done.is_set()
    assert core.moves > before
    assert core.spool.pending_bytes() > 0


def test_nothing_is_given_out_while_it_is_handed_over(core: Core) -> None:
    core.take_in({"items": [message(1)]}, "h")
    core.holding = True
    assert core.take(task_end=True) == []
    core.holding = False
    assert [item.id for item in core.take(task_end=True)] == ["msg_1"]


def test_hearing_that_it_is_on_hold_ends_this_process_and_not_the_run(core: Core) -> None:
    core.heard({"status": "suspended", "held": False}, 0.0)
    assert (core.memory.ended, core.over()) == ("suspended", True)


def test_a_hook_that_leaves_something_running_is_not_waited_for(tmp_path: Path) -> None:
    env = {"PATH": "/usr/bin:/bin"}
    text, said = run_hook(
        "sleep 600 & echo $!; echo note >&2", env=env, folder=tmp_path, deadline_s=10
    )
    assert text is not None
    assert (int(text) > 1, said) == (True, ["note"])
    run_hook(f"kill {int(text)}", env=env, folder=tmp_path)
    with pytest.raises(HookFailed, match="exit code 9"):
        run_hook("exit 9", env=env, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []
