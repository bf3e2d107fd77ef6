"""Waiting between attempts: exponential with full jitter, so that a herd does not come back as one."""

from __future__ import annotations

import random
from typing import Optional

FIRST_S = 0.2
MOST_S = 30.0


class Backoff:
    """Seconds to wait after each failure in a row."""

    def __init__(self) -> None:
        self._ceiling_s = FIRST_S

    def reset(self) -> None:
        self._ceiling_s = FIRST_S

    def next_s(self, retry_after_s: Optional[float] = None) -> float:
        """After one more failure; at least what the server asked for."""
        wait_s = random.uniform(0.0, self._ceiling_s)  # noqa: S311 - nothing secret about it
        self._ceiling_s = min(MOST_S, self._ceiling_s * 2)
        return max(wait_s, retry_after_s or 0.0, 0.02)
