"""The machine's own clock."""

from __future__ import annotations

from datetime import UTC, datetime


class SystemClock:
    """`ports.Clock` in UTC."""

    def now(self) -> datetime:
        """The time."""
        return datetime.now(UTC)
