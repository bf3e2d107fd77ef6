"""Requests to DynamoDB that take more than one round: pages followed, leftovers asked for again."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from chat.adapters.dynamodb_client import reaching
from chat.errors import Unavailable

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef

    Item = Mapping[str, AttributeValueTypeDef]

WRITE_BATCH: Final = 25
READ_BATCH: Final = 100
"""Both are AWS's limits for one batch request."""
FILTERED_PAGE: Final = 500
"""Items looked at by one request when a filter drops some of them; a page ends at 1 MB in any case."""
ATTEMPTS: Final = 8
"""Repeats of what a batch left undone, without any of it getting done, before Unavailable."""
BACKOFF_S: Final = 0.05
BACKOFF_MAX_S: Final = 3.0


class Requests:
    """Whole answers, over one client."""

    def __init__(self, client: DynamoDBClient, sleep: Callable[[float], None]) -> None:
        self._client = client
        self._sleep = sleep

    def put_all(self, table: str, items: Sequence[Item]) -> None:
        """Put items with distinct keys, in requests of 25, each done before the next is sent."""
        for start in range(0, len(items), WRITE_BATCH):
            left: Any = [
                {"PutRequest": {"Item": item}} for item in items[start : start + WRITE_BATCH]
            ]
            fruitless = 0
            while left:
                with reaching():
                    answer = self._client.batch_write_item(RequestItems={table: left})
                undone = answer.get("UnprocessedItems", {}).get(table, [])
                fruitless = self._back_off(fruitless, len(left), len(undone))
                left = undone

    def get_all(self, table: str, keys: Sequence[Item]) -> list[Item]:
        """The items with these distinct keys, in no order (consistent read)."""
        found: list[Item] = []
        for start in range(0, len(keys), READ_BATCH):
            left: Any = keys[start : start + READ_BATCH]
            fruitless = 0
            while left:
                with reaching():
                    answer = self._client.batch_get_item(
                        RequestItems={table: {"Keys": left, "ConsistentRead": True}}
                    )
                found += answer["Responses"].get(table, [])
                unprocessed: Any = answer.get("UnprocessedKeys", {})
                undone = unprocessed.get(table, {}).get("Keys", [])
                fruitless = self._back_off(fruitless, len(left), len(undone))
                left = undone
        return found

    def query(
        self,
        table: str,
        index: str | None,
        condition: str,
        values: Mapping[str, Any],
        *,
        wanted: int,
        ascending: bool = True,
        filters: Mapping[str, Sequence[str]] | None = None,
        names: Mapping[str, str] | None = None,
    ) -> list[Item]:
        """Follow the pages of a query until `wanted` items are found or there are no more.

        A table is read consistently; an index cannot be. `filters`: the values an attribute may have.
        """
        request: dict[str, Any] = {
            "TableName": table,
            "KeyConditionExpression": condition,
            "ExpressionAttributeValues": dict(values),
            "ScanIndexForward": ascending,
        }
        if index is None:
            request["ConsistentRead"] = True
        else:
            request["IndexName"] = index
        if names is not None:
            # `status` is one of DynamoDB's reserved words.
            request["ExpressionAttributeNames"] = names
        if filters:
            tests = []
            for name, allowed in filters.items():
                marks = [f":{name}{number}" for number in range(len(allowed))]
                tests.append(f"{name} IN ({', '.join(marks)})")
                for mark, value in zip(marks, allowed, strict=True):
                    request["ExpressionAttributeValues"][mark] = {"S": value}
            request["FilterExpression"] = " AND ".join(tests)
        found: list[Item] = []
        while True:
            request["Limit"] = FILTERED_PAGE if filters else wanted - len(found)
            with reaching():
                answer = self._client.query(**request)
            found += answer["Items"]
            if len(found) >= wanted or "LastEvaluatedKey" not in answer:
                return found[:wanted]
            request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    def _back_off(self, fruitless: int, asked: int, undone: int) -> int:
        """Wait before what was left undone is asked for again; returns the attempts without any gain.

        Full jitter: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
        """
        if not undone:
            return 0
        fruitless = 0 if undone < asked else fruitless + 1
        if fruitless >= ATTEMPTS:
            raise Unavailable("The store takes no more at the moment: it is throttled.")
        ceiling = min(BACKOFF_MAX_S, BACKOFF_S * 2**fruitless)
        self._sleep(secrets.SystemRandom().uniform(0, ceiling))
        return fruitless
