"""How much one principal may ask of one web process.

The counts are kept in the process's memory, not in Redis: a look costs microseconds where a round trip
would cost as much as the append it guards. With N web processes a principal so has up to N times the
rate; the limits are against floods, and the budget that must be exact (a run's) is the run log's.
"""

from __future__ import annotations

import math
import time
from typing import Final, Literal

from limits import RateLimitItem, RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from chat.access import Principal
from chat.settings import Settings
from web.problems import RateSpent

Sort = Literal["message", "write", "read", "agent", "sign_in", "terminal"]
_TIMES: Final[dict[Sort, int]] = {"message": 1, "write": 5, "read": 50, "agent": 100}
"""Of MESSAGES_PER_MINUTE: with its 120 a principal reads 100 times and an agent reports
200 times a second, and an address signs in once a second."""


class Limits:
    """Safe to use from several threads."""

    def __init__(self, settings: Settings) -> None:
        self._limiter = FixedWindowRateLimiter(MemoryStorage())
        self._items: dict[Sort, RateLimitItem] = {
            sort: RateLimitItemPerMinute(times * settings.messages_per_minute)
            for sort, times in _TIMES.items()
        }
        # each leaves a record in the run's log, refused ones too: 10 a minute with the default of 120
        self._items["terminal"] = RateLimitItemPerMinute(max(1, settings.messages_per_minute // 12))
        self._items["sign_in"] = RateLimitItemPerMinute(max(1, settings.messages_per_minute // 2))

    def hit(self, sort: Sort, who: Principal | str) -> None:
        """Count one. Raises RateSpent (429) when the minute's share is used up."""
        name = who if isinstance(who, str) else (who.run_id or who.id)
        item = self._items[sort]
        if not self._limiter.hit(item, sort, name):
            window = self._limiter.get_window_stats(item, sort, name)
            wait_s = max(1, math.ceil(window.reset_time - time.time()))
            raise RateSpent(
                f"At most {item.amount} of these a minute. Try again in {wait_s} s.",
                retry_after_s=wait_s,
            )
