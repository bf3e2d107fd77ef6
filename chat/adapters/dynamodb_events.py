"""An event as DynamoDB items: compressed when it is large, in parts when it is larger still.

    run_id (S), seq (N), kind (S), sender_id (S), feature_id (S), project_id (S), at_key (S), and one of
        data (B)     the event's JSON as it is
        packed (B)   the same, zlib
        parts (N)    it is packed and cut into that many items of their own:
    run_id = "{run_id}/parts" (S), seq = 1000 * seq + part, from 0 (N), packed (B)

An item holds 400 KB with its names; bytes are kept as bytes, so what is read is what was written.
Parts have a partition of their own, so no page of a log ever meets one, and are written before the
item that names them, so whoever sees the event can read all of it.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final

from chat.adapters.event_keys import Position, keys_of
from chat.ports import Record
from chat.runs import Run

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef

    Item = dict[str, AttributeValueTypeDef]

PACK_FROM_BYTES: Final = 2_048
"""A write unit is 1 KB: below two of them there is little to save."""
PART_BYTES: Final = 350_000
MAX_PARTS: Final = 1_000


def items_of(run: Run, record: Record) -> tuple[list[Item], Item]:
    """The parts of an event, which must be written first, and its item."""
    kind, sender_id, at = keys_of(record)
    item: Item = {
        "run_id": {"S": run.id},
        "seq": {"N": str(record.seq)},
        "kind": {"S": kind},
        "sender_id": {"S": sender_id},
        "feature_id": {"S": run.feature_id},
        "project_id": {"S": run.project_id},
        "at_key": {"S": at_key(Position(at, run.id, record.seq))},
    }
    packed = zlib.compress(record.data) if len(record.data) >= PACK_FROM_BYTES else record.data
    if len(packed) >= len(record.data):
        if len(record.data) <= PART_BYTES:
            return [], item | {"data": {"B": record.data}}
    elif len(packed) <= PART_BYTES:
        return [], item | {"packed": {"B": packed}}
    pieces = [packed[start : start + PART_BYTES] for start in range(0, len(packed), PART_BYTES)]
    if len(pieces) > MAX_PARTS:
        raise ValueError(f"An event of {len(record.data)} bytes is larger than any event can be")
    parts: list[Item] = [
        {
            "run_id": {"S": parts_partition(run.id)},
            "seq": {"N": str(record.seq * MAX_PARTS + number)},
            "packed": {"B": piece},
        }
        for number, piece in enumerate(pieces)
    ]
    return parts, item | {"parts": {"N": str(len(parts))}}


def seq_of(item: Mapping[str, AttributeValueTypeDef]) -> int:
    """The event's number."""
    return int(item["seq"]["N"])


def part_count(item: Mapping[str, AttributeValueTypeDef]) -> int:
    """Of how many parts the event is made, 0 when the item holds it."""
    return int(item["parts"]["N"]) if "parts" in item else 0


def record_of(item: Mapping[str, AttributeValueTypeDef], pieces: list[bytes]) -> Record:
    """The event of an item; `pieces` are its parts in order, where it has any."""
    if "data" in item:
        return Record(seq_of(item), bytes(item["data"]["B"]))
    packed = b"".join(pieces) if pieces else bytes(item["packed"]["B"])
    return Record(seq_of(item), zlib.decompress(packed))


def parts_partition(run_id: str) -> str:
    """The partition of a run's parts; no run's id has a slash."""
    return f"{run_id}/parts"


def at_key(position: Position) -> str:
    """A place in the order of (at, run_id, seq) as one text that sorts the same way."""
    return f"{position.at}#{position.run_id}#{position.seq:012d}"


def position_of(key: str) -> Position:
    """The place again."""
    at, run_id, seq = key.rsplit("#", 2)
    return Position(at, run_id, int(seq))
