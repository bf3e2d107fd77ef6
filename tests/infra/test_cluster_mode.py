"""What MemoryDB is and other Redis are not: one node that speaks cluster mode, on a real server.

The template gives the run logs such a node and Celery another, and here is why.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from kombu import Connection

from chat.adapters import embedded_redis
from chat.settings import Settings
from tests.world import World, close, open_world


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder, port = tmp_path_factory.mktemp("node"), embedded_redis.free_port()
    command = embedded_redis.command(folder, port, "everysec")
    process = subprocess.Popen([*command, "--cluster-enabled", "yes"])
    try:
        with redis.Redis(port=port) as client:
            until(lambda: bool(_answers(client)))
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            until(lambda: b"cluster_state:ok" in client.execute_command("CLUSTER", "INFO"))
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait(10)


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


def until(true: Callable[[], bool], within_s: float = 20) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def world(node: str, make_settings: Callable[..., Settings], tmp_path: Path) -> Iterator[World]:
    settings = make_settings(REDIS_URL=node)
    settings.state_dir.mkdir()
    opened = open_world(settings)
    yield opened
    close(opened)


def test_a_conversation_works_on_a_node_in_cluster_mode(world: World):
    talk = world.talk()
    first, second = talk.post("Call it total_price."), talk.post("And test it.", mode="queue")
    question = talk.ask()
    world.work_off()

    assert talk.lease() == [first["id"]]
    assert talk.confirm(first["id"]) == {first["id"]: "in_context"}
    assert talk.lease(task_end=True) == [second["id"]]
    talk.confirm(second["id"])
    talk.finish()

    world.work_off()
    assert [event["seq"] for event in talk.stored()] == list(range(1, len(talk.stored()) + 1))
    assert question["id"] in {event["id"] for event in talk.stored()}


@pytest.mark.xfail(
    raises=redis.exceptions.ClusterCrossSlotError,
    strict=True,
    reason="RedisLog writes `runs:active` in the same transaction as the run's own keys",
)
def test_a_log_that_was_lost_is_rebuilt_on_a_node_in_cluster_mode(world: World):
    talk = world.talk()
    talk.post("Call it total_price.")
    world.work_off()
    world.lose_redis()

    assert [event["body"].get("text") for event in talk.events()][-1] == "Call it total_price."


def test_celerys_broker_does_not_so_it_has_a_node_of_its_own(node: str):
    def send_and_fetch() -> None:
        with Connection(node) as connection:
            queue = connection.SimpleQueue("live")
            queue.put({})
            queue.get(timeout=5).ack()

    with pytest.raises(redis.exceptions.ClusterCrossSlotError):
        send_and_fetch()
