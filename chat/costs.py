"""What an agent's task costs: arithmetic alone. Money per hour, time in seconds."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class Prices:
    """Of one vCPU and of one GiB of memory, for an hour."""

    vcpu_hour: float
    gib_hour: float


def per_hour(prices: Prices, *, cpu: int, memory_mib: int) -> float:
    """What a task of so much costs an hour, whether it works or waits; `cpu` in 1/1024 vCPU."""
    return cpu / 1_024 * prices.vcpu_hour + memory_mib / 1_024 * prices.gib_hour


def ran_s(earlier_s: float, since: datetime | None, until: datetime) -> float:
    """How long a run's processes were there: the earlier ones, and the one that began at `since`."""
    return earlier_s if since is None else earlier_s + max(0.0, (until - since).total_seconds())


def cost(hourly: float, seconds: float) -> float:
    """What so long costs."""
    return hourly * seconds / 3_600


def hold_at(idle_since: datetime, hold_after_s: float, not_before: datetime | None) -> datetime:
    """When a run that has nothing to do since then is put on hold."""
    due = idle_since + timedelta(seconds=hold_after_s)
    return due if not_before is None else max(due, not_before)
