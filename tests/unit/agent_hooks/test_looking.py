"""The door that is open to everybody: who knocks shares a look, and can do nothing else."""

from __future__ import annotations

import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest

from agent_hooks import looking
from agent_hooks.errors import SidecarAway, SidecarRefused
from agent_hooks.looking import LookDoor

SERVER = "http://127.0.0.1:8000"
pytestmark = pytest.mark.skipif(not looking.EXISTS, reason="abstract sockets are Linux's")
Make = Callable[..., LookDoor]


@pytest.fixture
def run_id() -> str:
    return f"run_{uuid.uuid4().hex}"


@pytest.fixture
def complaints() -> list[str]:
    return []


@pytest.fixture
def door(run_id: str, complaints: list[str]) -> Iterator[Make]:
    opened: list[tuple[LookDoor, threading.Thread]] = []

    def make(look: Callable[[Any], Any]) -> LookDoor:
        made = LookDoor(
            looking.address(SERVER, run_id), look, lambda event, _: complaints.append(event)
        )
        thread = threading.Thread(target=made.serve, daemon=True)
        thread.start()
        opened.append((made, thread))
        return made

    yield make
    for made, thread in opened:
        made.close()
        thread.join(10)
        assert not thread.is_alive()


def test_many_who_knock_share_few_looks_and_each_of_those_begins_after_they_came(
    door: Make, run_id: str
) -> None:
    looks: list[float] = []

    def look(_: Any) -> dict[str, Any]:
        looks.append(time.monotonic())
        return {}

    door(look)

    def knock(_: int) -> tuple[float, float]:
        began = time.monotonic()
        looking.ask(SERVER, run_id)
        return began, time.monotonic()

    with ThreadPoolExecutor(40) as pool:
        visits = list(pool.map(knock, range(40)))
    took = max(ended for _, ended in visits) - looks[0]
    assert len(looks) <= 1 + took / looking.EVERY_S + 1
    assert len(looks) < 20
    for began, ended in visits:
        assert any(began <= at <= ended for at in looks)
    gaps = [later - earlier for earlier, later in pairwise(looks)]
    assert all(gap >= looking.EVERY_S for gap in gaps)


def test_what_is_said_at_the_door_is_not_heard(door: Make, run_id: str) -> None:
    heard: list[Any] = []

    def look(given: Any) -> dict[str, Any]:
        heard.append(given)
        return {"found": 3, "token": "secret"}

    door(look)
    looking.ask(SERVER, run_id)  # the next one waits, so that there is time to talk
    with socket.socket(socket.AF_UNIX) as visitor:
        visitor.settimeout(10)
        visitor.connect(looking.address(SERVER, run_id))
        visitor.sendall(b'json\n{"op": "mailbox"}')
        with suppress(ConnectionResetError):  # closed with our words unread
            assert visitor.recv(1_000) == b'{"ok": true}'
    assert heard == [{}, {}]


def test_a_look_that_fails_is_said_by_its_code_alone(
    door: Make, run_id: str, complaints: list[str]
) -> None:
    fails: list[Exception] = [
        SidecarRefused("unreachable", "no answer: http://secret"),
        OSError("x"),
    ]

    def look(_: Any) -> dict[str, Any]:
        if fails:
            raise fails.pop(0)
        return {}

    door(look)
    with pytest.raises(SidecarRefused, match="could not look: unreachable") as refused:
        looking.ask(SERVER, run_id)
    assert refused.value.code == "unreachable"
    with pytest.raises(SidecarRefused, match="failed"):
        looking.ask(SERVER, run_id)
    assert complaints == ["failed_look"]
    looking.ask(SERVER, run_id)


def test_where_somebody_sits_already_the_sidecar_goes_on_without(
    door: Make, complaints: list[str]
) -> None:
    first = door(lambda _: {})
    door(lambda _: {})
    assert complaints == ["no_look_door"]
    first.close()


def test_a_door_that_was_closed_can_be_opened_again_at_once(door: Make, run_id: str) -> None:
    first = door(lambda _: {})
    looking.ask(SERVER, run_id)
    first.close()
    with pytest.raises(SidecarAway):
        looking.ask(SERVER, run_id)
    door(lambda _: {})
    looking.ask(SERVER, run_id)


def test_who_answers_nonsense_is_no_sidecar(run_id: str) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(looking.address(SERVER, run_id))
        listener.listen()

        def serve() -> None:
            for words in (b"", b"[]", b"{}", b"\xff"):
                connection, _ = listener.accept()
                with connection:
                    connection.sendall(words)

        thread = threading.Thread(target=serve)
        thread.start()
        for _ in range(4):
            with pytest.raises(SidecarAway):
                looking.ask(SERVER, run_id)
        thread.join()


def test_each_run_of_each_server_has_an_address_of_its_own() -> None:
    assert looking.address(SERVER, "run_a") == looking.address(SERVER + "/", "run_a")
    found = {
        looking.address(server, run)
        for server in (SERVER, "http://other")
        for run in ("run_a", "run_b")
    }
    assert len(found) == 4
    assert all(len(one.encode()) < 100 for one in found)
