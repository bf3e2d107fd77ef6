"""What MemoryDB is and other Redis are not: one node that speaks cluster mode, with the template's user.

The template gives the run logs such a node and Celery another, and here is why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from kombu import Connection

from chat.settings import Settings
from tests.deploying import Node
from tests.world import World, close, open_world


@pytest.fixture
def world(node: Node, make_settings: Callable[..., Settings], tmp_path: Path) -> Iterator[World]:
    settings = make_settings(REDIS_URL=node.url)
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


def test_a_log_that_was_lost_is_rebuilt_on_a_node_in_cluster_mode(world: World, node: Node):
    talk = world.talk()
    talk.post("Call it total_price.")
    world.work_off()
    with redis.Redis.from_url(node.admin) as client:
        client.flushall()

    assert "Call it total_price." in [event["body"].get("text") for event in talk.events()]


def test_celerys_broker_does_not_so_it_has_a_node_of_its_own(node: Node):
    def send_and_fetch() -> None:
        with Connection(node.admin) as connection:
            queue = connection.SimpleQueue("live")
            queue.put({})
            queue.get(timeout=5).ack()

    with pytest.raises(redis.exceptions.ClusterCrossSlotError):
        send_and_fetch()


def test_the_templates_user_may_do_no_harm(node: Node):
    with redis.Redis.from_url(node.url) as client:
        for command in (("FLUSHALL",), ("CONFIG", "GET", "*"), ("KEYS", "*"), ("ACL", "LIST")):
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.execute_command(*command)
