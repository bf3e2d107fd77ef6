"""What both stores index of an event, and where a reader of many runs stands."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Final, NamedTuple

import orjson

from chat.errors import Invalid
from chat.ports import Record

HIGHEST_SEQ: Final = 10**12 - 1
"""Twelve digits: the width to which a `seq` is padded where it is part of a text that is sorted."""

CURSOR_MAX: Final = 512
"""Characters; a time, an identifier and a number take fewer than a hundred."""


class Keys(NamedTuple):
    """The fields of an event that are searched by."""

    kind: str
    sender_id: str
    at: str


def keys_of(record: Record) -> Keys:
    """Parse the event once and take out what is indexed."""
    event = orjson.loads(record.data)
    return Keys(event["kind"], event["sender"]["id"], event["at"])


def distinct(records: Sequence[Record]) -> list[Record]:
    """The records by `seq`, each number once; of two with the same number the later stands."""
    by_seq = {record.seq: record for record in records}
    return [by_seq[seq] for seq in sorted(by_seq)]


def window(after: int | None, before: int | None) -> tuple[int, int]:
    """The first and last `seq` strictly between the two, inclusive; empty when first > last."""
    first = 1 if after is None else min(max(after, 0), HIGHEST_SEQ) + 1
    last = HIGHEST_SEQ if before is None else min(max(before, 0), HIGHEST_SEQ + 1) - 1
    return first, last


class Position(NamedTuple):
    """A place in the order of (at, run_id, seq), in which events of several runs are read."""

    at: str
    run_id: str
    seq: int

    def cursor(self) -> str:
        """The same as an opaque word for URLs."""
        return base64.urlsafe_b64encode(orjson.dumps(list(self))).decode().rstrip("=")

    @classmethod
    def parse(cls, cursor: str) -> Position:
        """Read a cursor back. Raises Invalid when it is not one that we gave."""
        if len(cursor) > CURSOR_MAX:
            raise Invalid("The cursor is not one that was given out here.")
        try:
            padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
            parts = orjson.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        except (UnicodeEncodeError, binascii.Error, orjson.JSONDecodeError) as error:
            raise Invalid("The cursor is not one that was given out here.") from error
        match parts:
            case [str(at), str(run_id), int(seq)] if 0 < seq <= HIGHEST_SEQ:
                return cls(at, run_id, seq)
        raise Invalid("The cursor is not one that was given out here.")
