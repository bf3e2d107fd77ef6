"""Claims on Redis (ports.Claims): who holds something of which there is one.

claim:{name}   string: the holder; as long as the claim lasts, renewed by who holds it
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import redis

from chat.errors import Unavailable

_TAKE: Final = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return 1
"""
_RELEASE: Final = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""


class RedisClaims:
    """Each call is one atomic step on one key."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client

    def take(self, name: str, holder: str, *, ttl_s: int) -> bool:
        """Take or renew it; False while somebody else holds it."""
        with _reachable():
            return bool(self._redis.eval(_TAKE, 1, f"claim:{name}", holder, str(ttl_s)))

    def release(self, name: str, holder: str) -> None:
        """Let go of it, if the holder has it."""
        with _reachable():
            self._redis.eval(_RELEASE, 1, f"claim:{name}", holder)


@contextmanager
def _reachable() -> Iterator[None]:
    try:
        yield
    except redis.RedisError as error:
        raise Unavailable("Redis cannot be reached at the moment.") from error
