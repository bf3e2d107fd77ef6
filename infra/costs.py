# ruff: noqa: INP001 - started by path
"""What a month costs, from the assumptions in prices.toml: the table of docs/deploy.md.

    python infra/costs.py

Dollars a month. Left out: the model's API (the largest part of most bills), traffic to the internet,
NAT gateways, images in ECR, KMS, tax.
"""

from __future__ import annotations

import math
import tomllib
from pathlib import Path
from typing import Any

AGENTS = Path(__file__).parents[1] / "chat" / "agents.toml"
WEB_VCPU, WEB_GB = 0.5, 1.0
BEAT_VCPU, BEAT_GB = 0.25, 0.5
SECRETS = 5
"""SECRET_KEY, the password, two addresses (cloudformation.yaml), the model's key."""
GB = 1024**3
WRITE_UNIT_BYTES, READ_UNIT_BYTES = 1024, 8192
"""One write unit; half a read unit reads 4 KB, eventually consistent."""
INDEXES = 2
"""Of agent-messages: each event costs one more unit in each."""


def month(assumed: dict[str, Any], size: dict[str, Any]) -> dict[str, float]:
    """The lines of the bill, in dollars, for one size."""
    price, agent, talk = assumed["prices"], assumed["agent"], assumed["talk"]
    hours: float = assumed["hours_a_month"]
    agents = size["agents"]
    worked = agents * agent["hours_a_day"] * agent["days_a_month"]

    def fargate(vcpu: float, memory_gb: float) -> float:
        return float(vcpu * price["fargate_vcpu_hour"] + memory_gb * price["fargate_gb_hour"])

    events = _events(talk)
    written_bytes = worked * sum(count * size_bytes for count, size_bytes in events)
    units = worked * sum(
        count * (math.ceil(size_bytes / WRITE_UNIT_BYTES) + INDEXES) for count, size_bytes in events
    )
    # each event is read back about twice: somebody opens the history, somebody scrolls
    reads = 2 * written_bytes / READ_UNIT_BYTES
    kept_gb = written_bytes * talk["months_kept"] / GB
    logged_gb = worked * talk["log_lines"] * talk["bytes_a_log_line"] / GB
    app = size["web"] + size["worker"]
    sockets = agents * assumed["people"]["sockets"]
    # open connections, or what goes through: every event to every socket of its agent
    lcu = max(sockets / 3000, written_bytes / GB / hours)
    tasks = agents * agent["tasks_a_day"] * agent["days_a_month"]
    over_gb = max(0.0, written_bytes / GB - price["memorydb_written_free_gb"])
    return {
        "agents on Fargate": worked * fargate(agent["vcpu"], agent["memory_gb"]),
        "their public addresses": worked * price["public_ipv4_hour"],
        "web, workers, beat": hours
        * (
            app * fargate(WEB_VCPU, WEB_GB)
            + fargate(BEAT_VCPU, BEAT_GB)
            + (app + 1) * price["public_ipv4_hour"]
        ),
        "load balancer": hours
        * (price["load_balancer_hour"] + lcu * price["load_balancer_lcu_hour"])
        + 2 * hours * price["public_ipv4_hour"],
        "MemoryDB (run logs)": hours * price[f"memorydb_{size['memorydb']}_hour"]
        + over_gb * price["memorydb_written_gb"],
        "ElastiCache (broker)": hours * price["cache_t4g_micro_hour"],
        "DynamoDB": units / 1e6 * price["dynamodb_write_million"]
        + reads / 1e6 * price["dynamodb_read_million"]
        + kept_gb * (price["dynamodb_storage_gb"] + price["dynamodb_backup_gb"]),
        "CloudWatch Logs": logged_gb
        * (price["logs_ingested_gb"] + price["logs_kept_gb"] * talk["log_days_kept"] / 30),
        # a task's token lives for the task: some hours of the month it is paid for
        "secrets, queue": SECRETS * price["secret_month"]
        + worked / hours * price["secret_month"]
        + 20 * tasks / 1e6 * price["sqs_million"],
    }


def _events(talk: dict[str, Any]) -> list[tuple[float, int]]:
    """How many events an hour, and how many bytes each has."""
    small = talk["messages"] * (1 + talk["receipts_a_message"]) + 2 * talk["steps"]
    return [(small, talk["bytes_an_event"]), (talk["log_chunks"], talk["bytes_a_log_chunk"])]


def table(assumed: dict[str, Any]) -> str:
    """The bill as Markdown, one column for each size."""
    sizes = assumed["size"]
    bills = [month(assumed, size) for size in sizes]
    heads = [f"{one['agents']:,} agent{'s' if one['agents'] > 1 else ''}" for one in sizes]
    rows = [["$ a month", *heads], ["---", *("---:" for _ in sizes)]]
    rows += [[line, *(_dollars(bill[line]) for bill in bills)] for line in bills[0]]
    totals = [sum(bill.values()) for bill in bills]
    rows.append(["**together**", *(f"**{_dollars(total)}**" for total in totals)])
    each = [total / one["agents"] for total, one in zip(totals, sizes, strict=True)]
    rows.append(["for each agent", *map(_dollars, each)])
    spot = [
        total - bill["agents on Fargate"] * (1 - assumed["prices"]["fargate_spot_share"])
        for total, bill in zip(totals, bills, strict=True)
    ]
    rows.append(["together, agents on Spot", *map(_dollars, spot)])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _dollars(amount: float) -> str:
    return f"{amount:,.0f}" if amount >= 100 else f"{amount:.2f}"


def read() -> dict[str, Any]:
    """The assumptions; an agent's size is the mean of the roles in agents.toml, each at work equally long."""
    assumed = tomllib.loads(Path(__file__).with_name("prices.toml").read_text())
    roles = tomllib.loads(AGENTS.read_text())["role"].values()
    assumed["agent"]["vcpu"] = sum(one["cpu"] for one in roles) / len(roles) / 1024
    assumed["agent"]["memory_gb"] = sum(one["memory_mib"] for one in roles) / len(roles) / 1024
    return assumed


if __name__ == "__main__":
    print(table(read()))  # noqa: T201 - it talks to a terminal
