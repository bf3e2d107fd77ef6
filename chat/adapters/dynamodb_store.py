"""The store in DynamoDB. Its tables are drawn in `dynamodb_tables`, an event's items in `dynamodb_events`.

Events are only ever put, under (run_id, seq), so a batch may be written again and by two writers at
once. A batch goes in requests of 25, in the order of `seq`; one that fails half-way leaves some of its
events, and the caller's repeat fills the rest.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from chat.adapters.dynamodb_client import reaching
from chat.adapters.dynamodb_events import (
    MAX_PARTS,
    at_key,
    items_of,
    part_count,
    parts_partition,
    position_of,
    record_of,
    seq_of,
)
from chat.adapters.dynamodb_requests import Requests
from chat.adapters.dynamodb_rows import created_key, item_of, oldest_first, row_of, values_of
from chat.adapters.dynamodb_tables import (
    BY_FEATURE,
    BY_PROJECT,
    BY_STATUS,
    FEATURES,
    MESSAGES,
    PROJECTS,
    RUNS,
    create_tables,
)
from chat.adapters.event_keys import Position, distinct, window
from chat.adapters.run_changes import json_changes
from chat.errors import NotFound
from chat.events import Kind
from chat.ports import Page, Record, Slice
from chat.runs import Feature, Project, Run, RunStatus

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

    from chat.adapters.dynamodb_requests import Item


class DynamoStore:
    """`Store` in the tables whose names start with `prefix`. Safe for threads, as the client is."""

    def __init__(
        self, client: DynamoDBClient, prefix: str, *, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._client = client
        self._prefix = prefix
        self._requests = Requests(client, sleep)
        self._messages = prefix + MESSAGES

    def create_schema(self) -> None:
        """Create tables and indexes where they are missing, and wait until they are active."""
        create_tables(self._client, self._prefix)

    # --- events ---

    def put_events(self, run: Run, records: Sequence[Record]) -> None:
        """Write events of one run; AWS has them in several zones when it returns."""
        parts: list[Item] = []
        items: list[Item] = []
        for record in distinct(records):
            of_record, item = items_of(run, record)
            parts += of_record
            items.append(item)
        # Within a request AWS keeps no order, so an event's parts go in requests before its item's.
        self._requests.put_all(self._messages, parts)
        self._requests.put_all(self._messages, items)

    def last_seq(self, run_id: str) -> int:
        """The highest stored `seq`, 0 when there is none (consistent read)."""
        with reaching():
            found = self._client.query(
                TableName=self._messages,
                KeyConditionExpression="run_id = :run",
                ExpressionAttributeValues={":run": {"S": run_id}},
                ProjectionExpression="seq",
                ScanIndexForward=False,
                ConsistentRead=True,
                Limit=1,
            )["Items"]
        return seq_of(found[0]) if found else 0

    def event(self, run_id: str, seq: int) -> Record | None:
        """One event (consistent read)."""
        first, last = window(seq - 1, seq + 1)
        if first > last:
            return None
        with reaching():
            item = self._client.get_item(
                TableName=self._messages, Key=_event_key(run_id, first), ConsistentRead=True
            ).get("Item")
        return self._record(item) if item is not None else None

    def events(
        self,
        run_id: str,
        *,
        after: int | None = None,
        before: int | None = None,
        limit: int = 100,
        kinds: frozenset[Kind] | None = None,
        sender_id: str | None = None,
    ) -> Page:
        """A page of a run's log, ascending; see the port."""
        first, last = window(after, before)
        if first > last or kinds == frozenset():
            return Page([], has_more=False)
        filters: dict[str, Sequence[str]] = {}
        if kinds is not None:
            filters["kind"] = sorted(kinds)
        if sender_id is not None:
            filters["sender_id"] = [sender_id]
        items = self._requests.query(
            self._messages,
            None,
            "run_id = :run AND seq BETWEEN :first AND :last",
            {":run": {"S": run_id}, ":first": {"N": str(first)}, ":last": {"N": str(last)}},
            wanted=limit + 1,
            ascending=after is not None,
            filters=filters,
        )
        records = [self._record(item) for item in items[:limit]]
        return Page(records if after is not None else records[::-1], has_more=len(items) > limit)

    def feature_events(
        self,
        feature_id: str,
        *,
        cursor: str | None,
        limit: int,
        kinds: frozenset[Kind] | None = None,
    ) -> Slice:
        """Events of all runs of a feature in order of (at, run_id, seq); see the port."""
        return self._slice(BY_FEATURE, "feature_id", feature_id, None, cursor, limit, kinds)

    def project_events(
        self,
        project_id: str,
        *,
        since: str | None,
        cursor: str | None,
        limit: int,
        kinds: frozenset[Kind] | None = None,
    ) -> Slice:
        """Events of all runs of a project with `at` >= since; see the port."""
        return self._slice(BY_PROJECT, "project_id", project_id, since, cursor, limit, kinds)

    def _slice(
        self,
        index: str,
        attribute: str,
        owner_id: str,
        since: str | None,
        cursor: str | None,
        limit: int,
        kinds: frozenset[Kind] | None,
    ) -> Slice:
        # "{at}#…" is greater than `since` exactly when `at` is not less than it.
        start = max(since or "", at_key(Position.parse(cursor)) if cursor is not None else "")
        if kinds == frozenset():
            return Slice([], None)
        condition = f"{attribute} = :owner"
        values: dict[str, Any] = {":owner": {"S": owner_id}}
        if start:
            condition += " AND at_key > :start"
            values[":start"] = {"S": start}
        found = self._requests.query(
            self._messages,
            index,
            condition,
            values,
            wanted=limit + 1,
            ascending=True,
            filters={"kind": sorted(kinds)} if kinds is not None else {},
        )
        positions = [position_of(item["at_key"]["S"]) for item in found[:limit]]
        return Slice(
            self._records_at(positions),
            cursor=positions[-1].cursor() if len(found) > limit else None,
        )

    def _records_at(self, positions: Sequence[Position]) -> list[Record]:
        """Fetch what an index has named; consistent, since the index may be ahead of a stale copy."""
        keys = [_event_key(place.run_id, place.seq) for place in positions]
        items = {
            (item["run_id"]["S"], seq_of(item)): item
            for item in self._requests.get_all(self._messages, keys)
        }
        return [self._record(items[place.run_id, place.seq]) for place in positions]

    def _record(self, item: Item) -> Record:
        count = part_count(item)
        if not count:
            return record_of(item, [])
        seq = seq_of(item)
        parts = self._requests.query(
            self._messages,
            None,
            "run_id = :run AND seq BETWEEN :first AND :last",
            {
                ":run": {"S": parts_partition(item["run_id"]["S"])},
                ":first": {"N": str(seq * MAX_PARTS)},
                ":last": {"N": str(seq * MAX_PARTS + count - 1)},
            },
            wanted=count,
        )
        return record_of(item, [bytes(part["packed"]["B"]) for part in parts])

    # --- projects, features, runs ---

    def _put(self, table: str, item: Item) -> None:
        with reaching():
            self._client.put_item(TableName=self._prefix + table, Item=item)

    def _get(self, table: str, key: str, row_id: str) -> Item | None:
        with reaching():
            answer = self._client.get_item(
                TableName=self._prefix + table, Key={key: {"S": row_id}}, ConsistentRead=True
            )
        return answer.get("Item")

    def put_project(self, project: Project) -> None:
        """Create the project's row, or replace it."""
        self._put(PROJECTS, item_of(project, "project_id"))

    def swap_project(self, project: Project) -> bool:
        """Replace the row if its version is the one before; see the port."""
        return self._swap(PROJECTS, "project_id", project)

    def _swap(self, table: str, key: str, row: Project | Feature) -> bool:
        before = row.version - 1
        condition = "version = :before"
        if before == 0:  # a row of before there were versions has none
            condition = (
                f"attribute_exists({key}) AND (attribute_not_exists(version) OR {condition})"
            )
        return self._put_if(table, item_of(row, key), condition, {":before": {"N": str(before)}})

    def _put_if(self, table: str, item: Item, condition: str, values: Item | None = None) -> bool:
        given = {} if values is None else {"ExpressionAttributeValues": values}
        try:
            with reaching():
                self._client.put_item(
                    TableName=self._prefix + table, Item=item, ConditionExpression=condition,
                    **given,  # type: ignore[arg-type]  # values may not be given empty
                )  # fmt: skip
        except ClientError as error:
            if error.response["Error"]["Code"] == "ConditionalCheckFailedException":
                return False
            raise
        return True

    def project(self, project_id: str) -> Project | None:
        """One project (consistent read)."""
        item = self._get(PROJECTS, "project_id", project_id)
        return row_of(Project, "project_id", item) if item is not None else None

    def projects(self) -> list[Project]:
        """All projects, oldest first (consistent read)."""
        with reaching():
            pages = self._client.get_paginator("scan").paginate(
                TableName=self._prefix + PROJECTS, ConsistentRead=True
            )
            items = [item for page in pages for item in page["Items"]]
        return oldest_first(row_of(Project, "project_id", item) for item in items)

    def put_feature(self, feature: Feature) -> None:
        """Create the feature's row, or replace it."""
        self._put(FEATURES, item_of(feature, "feature_id"))

    def swap_feature(self, feature: Feature) -> bool:
        """Replace the row if its version is the one before; see the port."""
        return self._swap(FEATURES, "feature_id", feature)

    def feature(self, feature_id: str) -> Feature | None:
        """One feature (consistent read)."""
        item = self._get(FEATURES, "feature_id", feature_id)
        return row_of(Feature, "feature_id", item) if item is not None else None

    def features(self, project_id: str) -> list[Feature]:
        """The features of a project, oldest first. Eventually consistent."""
        items = self._requests.query(
            self._prefix + FEATURES,
            BY_PROJECT,
            "project_id = :project",
            {":project": {"S": project_id}},
            wanted=10_000,
        )
        return [row_of(Feature, "feature_id", item) for item in items]

    def put_run(self, run: Run) -> None:
        """Create the run's row, or replace it whole."""
        self._put(RUNS, item_of(run, "run_id"))

    def add_run(self, run: Run) -> Run:
        """Create the run's row unless there is one; returns the row that stands (consistent read)."""
        if self._put_if(RUNS, item_of(run, "run_id"), "attribute_not_exists(run_id)"):
            return run
        found = self.run(run.id)
        if found is None:
            raise NotFound("There is no run with that id.")
        return found

    def update_run(self, run_id: str, **changes: Any) -> None:
        """Set named fields of the run's row. Raises NotFound when there is no such run."""
        fields = json_changes(changes)
        if "created_at" in fields:
            fields["created_key"] = created_key(fields["created_at"], run_id)
        there = self._set(run_id, fields, {}) if fields else self.run(run_id) is not None
        if not there:
            raise NotFound("There is no run with that id.")

    def update_run_if(self, run_id: str, expected: Mapping[str, Any], **changes: Any) -> bool:
        """The same while the named fields have these values; see the port."""
        return self._set(run_id, json_changes(changes), json_changes(expected))

    def _set(self, run_id: str, fields: Mapping[str, Any], expected: Mapping[str, Any]) -> bool:
        """Set fields of a run's row; False when there is none, or when it does not have what is expected."""
        names = {f"#{number}": name for number, name in enumerate(fields)}
        values = {f":{number}": value for number, value in enumerate(fields.values())}
        conditions = ["attribute_exists(run_id)"]
        for number, (name, value) in enumerate(expected.items()):
            names[f"#e{number}"], values[f":e{number}"] = name, value
            test = f"#e{number} = :e{number}"
            if value == Run.model_fields[name].get_default():  # a row of before there was the field
                test = f"(attribute_not_exists(#e{number}) OR {test})"
            conditions.append(test)
        marks = [f"#{number} = :{number}" for number in range(len(fields))]
        try:
            with reaching():
                self._client.update_item(
                    TableName=self._prefix + RUNS,
                    Key={"run_id": {"S": run_id}},
                    ConditionExpression=" AND ".join(conditions),
                    UpdateExpression="SET " + ", ".join(marks),
                    ExpressionAttributeNames=names,
                    ExpressionAttributeValues=values_of(values),
                )
        except ClientError as error:
            if error.response["Error"]["Code"] == "ConditionalCheckFailedException":
                return False
            raise
        return True

    def run(self, run_id: str) -> Run | None:
        """One run (consistent read)."""
        item = self._get(RUNS, "run_id", run_id)
        return row_of(Run, "run_id", item) if item is not None else None

    def runs(
        self,
        *,
        project_id: str | None = None,
        feature_id: str | None = None,
        status: RunStatus | None = None,
        limit: int = 200,
    ) -> list[Run]:
        """Runs, newest first; exactly one of the filters is given. Eventually consistent."""
        given = [
            (index, attribute, value)
            for index, attribute, value in (
                (BY_PROJECT, "project_id", project_id),
                (BY_FEATURE, "feature_id", feature_id),
                (BY_STATUS, "status", status),
            )
            if value is not None
        ]
        [(index, attribute, value)] = given
        items = self._requests.query(
            self._prefix + RUNS,
            index,
            "#owner = :owner",
            {":owner": {"S": value}},
            wanted=limit,
            ascending=False,
            names={"#owner": attribute},
        )
        return [row_of(Run, "run_id", item) for item in items]


def _event_key(run_id: str, seq: int) -> Item:
    return {"run_id": {"S": run_id}, "seq": {"N": str(seq)}}
