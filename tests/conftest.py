"""What every test may ask for: a real Redis, a clock that stands still, settings of its own.

redis_server   one real server per pytest-xdist worker, for the whole session
redis_url      its address; everything in it is gone before each test that asks
redis_client   a redis-py client on it, answers as bytes
clock          time that moves only when the test says so
make_settings  make_settings(LEASE_MS="500", …) -> Settings, with a state folder of the test's own
settings       make_settings()
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import hypothesis
import pytest
import redis
from supervisor import TIED

from chat.adapters import embedded_redis
from chat.adapters.embedded_redis import EmbeddedRedis
from chat.settings import Settings, load_settings

# the machine is shared: how long one example takes says nothing about our code (bench/ does)
hypothesis.settings.register_profile("no-clock", deadline=None)
hypothesis.settings.load_profile("no-clock")


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    # what survives a kill is for the chaos tests, which start a server of their own with "always"
    server = embedded_redis.start(
        tmp_path_factory.mktemp("redis"), appendfsync="everysec", before=TIED
    )
    yield server
    server.stop()


@pytest.fixture
def redis_url(redis_server: EmbeddedRedis) -> str:
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()
        client.function_flush("SYNC")
    return redis_server.url


@pytest.fixture
def redis_client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


class FrozenClock:
    """A Clock (chat.ports) that stands still until it is told to move."""

    def __init__(self, start: datetime) -> None:
        self._now = start

    def now(self) -> datetime:
        return self._now

    def advance(self, *, ms: int) -> None:
        self._now += timedelta(milliseconds=ms)


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock(datetime(2026, 11, 22, 9, 33, tzinfo=UTC))


@pytest.fixture
def make_settings(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[..., Settings]:
    """Settings of the test's own; on the session's Redis when the test asked for `redis_url` too."""

    def make(**environ: str) -> Settings:
        values = {"STATE_DIR": str(tmp_path / "state"), "SECRET_KEY": "only-for-tests-" * 3}
        if {"redis_url", "redis_client"} & set(request.fixturenames):
            values["REDIS_URL"] = request.getfixturevalue("redis_url")
        return load_settings(values | environ)

    return make


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    return make_settings()
