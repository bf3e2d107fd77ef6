"""Rows of projects, features and runs as DynamoDB items: one attribute for each field of the model.

`id` is stored under the name of the table's key, and beside the fields stands `created_key`
("{created_at}#{id}"), by which the indexes sort.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

from boto3.dynamodb.types import TypeDeserializer, TypeSerializer

from chat.runs import Feature, Project, Run

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef

_TO: Final = TypeSerializer()
_FROM: Final = TypeDeserializer()
Row = TypeVar("Row", Project, Feature, Run)


def item_of(row: Project | Feature | Run, key: str) -> dict[str, AttributeValueTypeDef]:
    """The item of a row, whose `id` goes under the name `key`."""
    fields = row.model_dump(mode="json")
    fields[key] = fields.pop("id")
    fields["created_key"] = created_key(row.created_at, row.id)
    return values_of(fields)


def row_of(model: type[Row], key: str, item: Mapping[str, AttributeValueTypeDef]) -> Row:
    """The row again."""
    fields = {name: _FROM.deserialize(value) for name, value in item.items()}
    fields["id"] = fields.pop(key)
    return model.model_validate(
        {name: fields[name] for name in model.model_fields if name in fields}
    )


def oldest_first(rows: Iterable[Row]) -> list[Row]:
    """In the order in which they were created."""
    return sorted(rows, key=lambda row: (row.created_at, row.id))


def values_of(fields: Mapping[str, Any]) -> dict[str, AttributeValueTypeDef]:
    """JSON values as DynamoDB's typed ones."""
    return {name: _TO.serialize(value) for name, value in fields.items()}


def created_key(created_at: str, row_id: str) -> str:
    """What the indexes sort rows by."""
    return f"{created_at}#{row_id}"
