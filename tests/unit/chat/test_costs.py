"""What a task costs: arithmetic."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from chat.costs import Prices, cost, hold_at, per_hour, ran_s

PRICES = Prices(vcpu_hour=0.04048, gib_hour=0.004445)
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def test_an_hour_is_vcpus_and_gibibytes_times_their_prices() -> None:
    assert per_hour(PRICES, cpu=1_024, memory_mib=4_096) == pytest.approx(0.04048 + 4 * 0.004445)
    assert per_hour(PRICES, cpu=256, memory_mib=512) == pytest.approx(0.01012 + 0.0022225)


def test_what_it_has_cost_is_the_hourly_rate_times_the_time() -> None:
    assert cost(0.06, 1_800) == pytest.approx(0.03)
    assert cost(0.06, 0) == 0


def test_the_processes_before_count_and_one_that_has_not_begun_does_not() -> None:
    began = NOON - timedelta(minutes=10)
    assert ran_s(0, began, NOON) == 600
    assert ran_s(90, began, NOON) == 690
    assert ran_s(90, None, NOON) == 90
    assert ran_s(90, NOON, began) == 90, "clocks of two machines"


def test_a_hold_is_due_after_the_limit_and_not_before_it_may_be_asked_again() -> None:
    assert hold_at(NOON, 3_600, None) == NOON + timedelta(hours=1)
    later = NOON + timedelta(hours=2)
    assert hold_at(NOON, 3_600, later) == later
    assert hold_at(NOON, 3_600, NOON) == NOON + timedelta(hours=1)
