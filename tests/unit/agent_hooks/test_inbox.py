from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent_hooks.inbox import Inbox

NOW = 1_000.0
OPEN: list[Inbox] = []


def opened(folder: Path, *, now: float) -> Inbox:
    OPEN.append(Inbox(folder, now=now))
    return OPEN[-1]


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while OPEN:
        OPEN.pop().close()


def leased(number: int, attempt: int = 1, **body: Any) -> dict[str, Any]:
    event = {"id": f"msg_{number}", "seq": number, "kind": "message", "body": {"text": "x", **body}}
    return {"event": event, "attempt": attempt}


def put(inbox: Inbox, *items: dict[str, Any], holder: str = "h1", expires: float = NOW + 30) -> Any:
    return inbox.put(items, holder=holder, expires=expires)


def ids(items: Any) -> list[str]:
    return [item.id for item in items]


def test_an_item_is_claimed_by_one_only_until_the_claim_runs_out(tmp_path: Path) -> None:
    inbox = opened(tmp_path, now=NOW)
    put(inbox, leased(2), leased(1), expires=NOW + 500)
    assert ids(inbox.waiting(now=NOW)) == ["msg_1", "msg_2"]
    assert ids(inbox.claim(["msg_1"], now=NOW)) == ["msg_1"]
    assert inbox.claim(["msg_1"], now=NOW + 59) == []
    assert ids(inbox.claim(["msg_1"], now=NOW + 60)) == ["msg_1"]


def test_nothing_is_given_once_its_lease_may_have_run_out(tmp_path: Path) -> None:
    inbox = opened(tmp_path, now=NOW)
    put(inbox, leased(1), expires=NOW + 30)
    assert inbox.claim(["msg_1"], now=NOW + 30) == []


def test_redelivery_of_what_the_agent_has_is_recognised_after_a_restart_too(tmp_path: Path) -> None:
    inbox = opened(tmp_path, now=NOW)
    put(inbox, leased(1))
    assert inbox.finish(["msg_1"], step=3, text="what it read") == ["msg_1"]
    assert inbox.finish(["msg_1"], step=4, text="again") == []
    inbox.close()
    again = opened(tmp_path, now=NOW + 1)
    assert put(again, leased(1, attempt=2), holder="h2") == ([], ["msg_1"])
    done = again.done("msg_1")
    assert done is not None
    assert (done.step, done.text) == (3, "what it read")
    assert again.waiting(now=NOW) == []


def test_a_restart_keeps_what_is_leased_and_forgets_what_ran_out(tmp_path: Path) -> None:
    inbox = opened(tmp_path, now=NOW)
    put(inbox, leased(1), expires=NOW + 10)
    put(inbox, leased(2), expires=NOW + 100)
    inbox.close()
    assert ids(opened(tmp_path, now=NOW + 20).waiting(now=NOW + 20)) == ["msg_2"]


def test_a_torn_last_line_does_no_harm(tmp_path: Path) -> None:
    inbox = opened(tmp_path, now=NOW)
    put(inbox, leased(1), leased(2))
    inbox.close()
    path = tmp_path / "inbox.jsonl"
    path.write_bytes(path.read_bytes()[:-9])
    assert ids(opened(tmp_path, now=NOW).waiting(now=NOW)) == ["msg_1"]


def test_a_heartbeat_renews_what_surely_stands_and_gives_back_what_may_not(tmp_path: Path) -> None:
    inbox = opened(tmp_path, now=NOW)
    put(inbox, leased(1), expires=NOW + 10)
    put(inbox, leased(2), expires=NOW + 50)
    put(inbox, leased(3), expires=NOW + 10, holder="older")
    assert inbox.renew(holder="h1", now=NOW + 20, expires=NOW + 90) == ["msg_1"]
    assert ids(inbox.waiting(now=NOW + 80)) == ["msg_2"]


def test_what_is_for_after_the_task_waits_for_its_end(tmp_path: Path) -> None:
    inbox = opened(tmp_path, now=NOW)
    put(inbox, leased(1, mode="queue"), leased(2))
    assert ids(inbox.waiting(now=NOW, task_end=False)) == ["msg_2"]
    assert ids(inbox.waiting(now=NOW, task_end=True)) == ["msg_1", "msg_2"]


def test_a_claim_from_before_a_restart_holds_when_the_item_comes_again(tmp_path: Path) -> None:
    inbox = opened(tmp_path, now=NOW)
    inbox.reserve(["msg_1"], until=NOW + 60)
    put(inbox, leased(1, attempt=2))
    assert inbox.waiting(now=NOW) == []
    inbox.unclaim(["msg_1"])
    assert ids(inbox.waiting(now=NOW)) == ["msg_1"]
