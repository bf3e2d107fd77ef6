"""The tables of the DynamoDB store, and the command that creates them.

    {prefix}agent-messages   run_id (S), seq (N)    -> kind, sender_id, feature_id, project_id, at_key, and the
                                                       event's JSON (see dynamodb_events)
        by-feature           feature_id, at_key     -> kind       at_key: "{at}#{run_id}#{seq, 12 digits}"
        by-project           project_id, at_key     -> kind
    {prefix}agent-runs       run_id (S)             -> the fields of Run, created_key
        by-feature           feature_id, created_key              created_key: "{created_at}#{id}"
        by-project           project_id, created_key
        by-status            status, created_key
    {prefix}projects         project_id (S)         -> the fields of Project
    {prefix}features         feature_id (S)         -> the fields of Feature, created_key
        by-project           project_id, created_key

The indexes over messages hold keys and `kind` only: a write costs one unit in each, whatever the
event's size, and the few readers across runs fetch the events by their keys. Paid per request.
The store needs dynamodb:GetItem, PutItem, UpdateItem, Query, Scan, BatchGetItem and BatchWriteItem on
the tables and their indexes; creating them needs CreateTable, DescribeTable and UpdateTable.
Create them with `python -m chat.adapters.dynamodb_tables --region eu-central-1`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from chat.adapters.dynamodb_client import dynamodb_client, reaching
from chat.errors import Unavailable

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import (
        AttributeDefinitionTypeDef,
        GlobalSecondaryIndexTypeDef,
        KeySchemaElementTypeDef,
        ProjectionTypeDef,
        TableDescriptionTypeDef,
    )

MESSAGES: Final = "agent-messages"
RUNS: Final = "agent-runs"
PROJECTS: Final = "projects"
FEATURES: Final = "features"
BY_FEATURE: Final = "by-feature"
BY_PROJECT: Final = "by-project"
BY_STATUS: Final = "by-status"

READY_S: Final = 600.0
"""How long a table or an index may take to become ACTIVE; AWS fills a new index from what is there."""
_POLL_S: Final = 0.02
_POLL_MAX_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class _Table:
    name: str
    partition: str
    sort: str | None
    indexes: dict[str, tuple[str, str]]
    """The partition and sort key of each index."""
    projected: tuple[str, ...] | None
    """What the indexes hold beside the keys; None is everything."""


_TABLES: Final = (
    _Table(
        MESSAGES,
        "run_id",
        "seq",
        {BY_FEATURE: ("feature_id", "at_key"), BY_PROJECT: ("project_id", "at_key")},
        ("kind",),
    ),
    _Table(
        RUNS,
        "run_id",
        None,
        {
            BY_FEATURE: ("feature_id", "created_key"),
            BY_PROJECT: ("project_id", "created_key"),
            BY_STATUS: ("status", "created_key"),
        },
        None,
    ),
    _Table(PROJECTS, "project_id", None, {}, None),
    _Table(FEATURES, "feature_id", None, {BY_PROJECT: ("project_id", "created_key")}, None),
)


def create_tables(client: DynamoDBClient, prefix: str) -> None:
    """Create the tables and indexes that are missing and wait until all are ACTIVE.

    Several processes may call it at once. Raises Unavailable when AWS cannot be reached or a
    table is not ready within `READY_S`.
    """
    deadline = time.monotonic() + READY_S
    with reaching():
        for table in _TABLES:
            _create(client, prefix, table)
        for table in _TABLES:
            _complete(client, prefix, table, deadline)


def _create(client: DynamoDBClient, prefix: str, table: _Table) -> None:
    request: Any = {
        "TableName": prefix + table.name,
        "BillingMode": "PAY_PER_REQUEST",
        "KeySchema": _keys(table.partition, table.sort),
        "AttributeDefinitions": _attributes(table, table.indexes),
    }
    if table.indexes:  # AWS refuses an empty list
        request["GlobalSecondaryIndexes"] = [_index(table, name) for name in table.indexes]
    with _unless_another_does_it():
        client.create_table(**request)


def _complete(client: DynamoDBClient, prefix: str, table: _Table, deadline: float) -> None:
    """Wait for the table, then add the indexes it lacks: AWS takes one at a time."""
    name = prefix + table.name
    pause_s = _POLL_S
    while True:
        description = client.describe_table(TableName=name)["Table"]
        present = table.indexes.keys() & {
            index["IndexName"] for index in description.get("GlobalSecondaryIndexes", [])
        }
        missing = sorted(table.indexes.keys() - present)
        if _active(description):
            if not missing:
                return
            with _unless_another_does_it():
                client.update_table(
                    TableName=name,
                    AttributeDefinitions=_attributes(table, {*present, missing[0]}),
                    GlobalSecondaryIndexUpdates=[{"Create": _index(table, missing[0])}],
                )
        if time.monotonic() > deadline:
            raise Unavailable(f"The table {name} and its indexes did not become active.")
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, _POLL_MAX_S)


@contextmanager
def _unless_another_does_it() -> Iterator[None]:
    """The table is there, or another process is at work on it: waiting is all there is to do."""
    try:
        yield
    except ClientError as error:
        if error.response["Error"]["Code"] != "ResourceInUseException":
            raise


def _active(description: TableDescriptionTypeDef) -> bool:
    indexes = description.get("GlobalSecondaryIndexes", [])
    return description["TableStatus"] == "ACTIVE" and all(
        index["IndexStatus"] == "ACTIVE" for index in indexes
    )


def _keys(partition: str, sort: str | None) -> list[KeySchemaElementTypeDef]:
    keys: list[KeySchemaElementTypeDef] = [{"AttributeName": partition, "KeyType": "HASH"}]
    if sort is not None:
        keys.append({"AttributeName": sort, "KeyType": "RANGE"})
    return keys


def _attributes(table: _Table, indexes: Iterable[str]) -> list[AttributeDefinitionTypeDef]:
    """The types of the keys in use; AWS refuses one that is of no key."""
    keys = {table.partition, *(key for index in indexes for key in table.indexes[index])}
    if table.sort is not None:
        keys.add(table.sort)
    return [
        {"AttributeName": key, "AttributeType": "N" if key == "seq" else "S"}
        for key in sorted(keys)
    ]


def _index(table: _Table, name: str) -> GlobalSecondaryIndexTypeDef:
    projection: ProjectionTypeDef = (
        {"ProjectionType": "ALL"}
        if table.projected is None
        else {"ProjectionType": "INCLUDE", "NonKeyAttributes": list(table.projected)}
    )
    return {"IndexName": name, "KeySchema": _keys(*table.indexes[name]), "Projection": projection}


def main() -> None:
    """Create the tables, as a command."""
    parser = argparse.ArgumentParser(
        prog="python -m chat.adapters.dynamodb_tables",
        description="Create the DynamoDB tables that are missing and wait until they are active.",
    )
    parser.add_argument("--region", required=True)
    parser.add_argument("--prefix", default="", help="goes before each table's name")
    parser.add_argument("--endpoint-url", help="of a stand-in for AWS, such as dynamodb-local")
    arguments = parser.parse_args()
    client = dynamodb_client(region=arguments.region, endpoint_url=arguments.endpoint_url)
    create_tables(client, arguments.prefix)


if __name__ == "__main__":
    main()
