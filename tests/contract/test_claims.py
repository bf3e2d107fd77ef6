"""Who holds something of which there is one: the port's promises on a real Redis."""

from __future__ import annotations

import pytest
import redis

from chat.adapters.redis_claims import RedisClaims
from chat.adapters.redis_log import connect
from chat.errors import Unavailable
from chat.ports import Claims
from tests.serving import until


@pytest.fixture
def claims(redis_url: str) -> Claims:
    return RedisClaims(connect(redis_url))


def test_one_holds_it_and_may_take_it_again(claims: Claims):
    assert claims.take("terminal:run_1", "a", ttl_s=60)
    assert not claims.take("terminal:run_1", "b", ttl_s=60)
    assert claims.take("terminal:run_1", "a", ttl_s=60)
    assert claims.take("terminal:run_2", "b", ttl_s=60)


def test_the_holder_alone_lets_go_of_it(claims: Claims):
    assert claims.take("x", "a", ttl_s=60)
    claims.release("x", "b")
    assert not claims.take("x", "b", ttl_s=60)
    claims.release("x", "a")
    assert claims.take("x", "b", ttl_s=60)
    claims.release("never", "a")


def test_a_claim_that_is_not_renewed_runs_out(claims: Claims, redis_client: redis.Redis):
    assert claims.take("x", "a", ttl_s=1)
    assert 0 < redis_client.pttl("claim:x") <= 1_000
    until(lambda: claims.take("x", "b", ttl_s=60))


def test_renewing_moves_the_end(claims: Claims, redis_client: redis.Redis):
    claims.take("x", "a", ttl_s=1)
    claims.take("x", "a", ttl_s=60)
    assert redis_client.pttl("claim:x") > 50_000


def test_a_redis_that_is_away_is_unavailable():
    claims = RedisClaims(connect("redis://127.0.0.1:1/0"))
    with pytest.raises(Unavailable):
        claims.take("x", "a", ttl_s=1)
    with pytest.raises(Unavailable):
        claims.release("x", "a")
