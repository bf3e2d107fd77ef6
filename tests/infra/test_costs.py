"""infra/costs.py: its table is the document's, and its lines follow from its assumptions."""

from __future__ import annotations

import copy
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from chat.roles import ROLES

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def costs() -> ModuleType:
    spec = importlib.util.spec_from_file_location("costs", ROOT / "infra" / "costs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_documents_table_is_what_the_script_prints(costs: ModuleType):
    assert costs.table(costs.read()) in (ROOT / "docs" / "deploy.md").read_text()


def test_the_document_names_the_day_and_region_of_the_prices(costs: ModuleType):
    assumed = costs.read()
    text = (ROOT / "docs" / "deploy.md").read_text()

    assert f"{assumed['region']}, {assumed['as_of']}" in text


def test_one_agents_hour_is_what_fargates_price_list_says(costs: ModuleType):
    assumed = costs.read()
    bill = costs.month(assumed, {"agents": 1, "web": 1, "worker": 1, "memorydb": "t4g_small"})

    # each role a quarter of 8 hours on 22 days
    hours = 8 * 22 / len(ROLES.line)
    assert bill["agents on Fargate"] == pytest.approx(
        sum(
            hours * (one.cpu / 1024 * 0.04048 + one.memory_mib / 1024 * 0.004445)
            for one in ROLES.role.values()
        )
    )


def test_the_document_names_the_size_that_agents_toml_gives(costs: ModuleType):
    agent = costs.read()["agent"]
    text = (ROOT / "docs" / "deploy.md").read_text()

    assert (
        f"{agent['vcpu']:g} vCPU and {agent['memory_gb']:g} GB (the mean of the four roles" in text
    )


def test_what_agents_cost_grows_with_them_and_what_serves_them_does_not(costs: ModuleType):
    assumed = costs.read()
    size: dict[str, Any] = {"agents": 10, "web": 2, "worker": 2, "memorydb": "t4g_small"}
    few, many = costs.month(assumed, size), costs.month(assumed, size | {"agents": 100})

    for line in ("agents on Fargate", "their public addresses", "DynamoDB", "CloudWatch Logs"):
        assert many[line] == pytest.approx(10 * few[line])
    for line in ("web, workers, beat", "ElastiCache (broker)"):
        assert many[line] == few[line]


@pytest.mark.parametrize(
    ("group", "name"), [("talk", "messages"), ("talk", "log_lines"), ("agent", "hours_a_day"), ("agent", "tasks_a_day")]
)  # fmt: skip
def test_every_assumption_moves_the_sum(costs: ModuleType, group: str, name: str):
    assumed = costs.read()
    more = copy.deepcopy(assumed)
    more[group][name] *= 3
    size = assumed["size"][1]

    assert sum(costs.month(more, size).values()) > sum(costs.month(assumed, size).values())


def test_every_price_is_used(costs: ModuleType):
    source = (ROOT / "infra" / "costs.py").read_text()
    nodes = {f"memorydb_{size['memorydb']}_hour" for size in costs.read()["size"]}

    unused = {name for name in costs.read()["prices"] if name not in source} - nodes
    assert unused == set()
