"""Pages, entity tags and waiting, as the headers and the query say them."""

from __future__ import annotations

import re
from typing import Final

import orjson
from flask import Request, Response

from chat.errors import Invalid
from chat.events import Kind
from chat.ports import Record, Slice
from web.endpoint import answer
from web.problems import PreconditionRequired

_TAG: Final = re.compile(r'^(?:W/)?"v([1-9]\d{0,8})"$')
_WAIT: Final = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,6})\"?(?=$|[,;\s])", re.IGNORECASE)


def kinds_of(names: list[str]) -> frozenset[Kind] | None:
    """The kinds that were asked for, None for all. Raises Invalid."""
    try:
        return frozenset(Kind(name) for name in names) or None
    except ValueError as error:
        raise Invalid(f"'kind' is one of {', '.join(Kind)}.") from error


def raw(records: list[Record]) -> list[orjson.Fragment]:
    """Events as the bytes they already are."""
    return [orjson.Fragment(record.data) for record in records]


def slice_answer(found: Slice) -> Response:
    """A page across runs."""
    return answer({"events": raw(found.records), "cursor": found.cursor})


def tag(version: int) -> str:
    """The entity tag of a message's version."""
    return f'"v{version}"'


def expected_version(request: Request) -> int | None:
    """The version that If-Match names, None for `*`. Raises PreconditionRequired, or Invalid."""
    given = request.headers.get("If-Match")
    if given is None:
        raise PreconditionRequired('Send If-Match with the message\'s ETag, such as "v1".')
    if given.strip() == "*":
        return None
    if (match := _TAG.match(given.strip())) is None:
        raise Invalid('If-Match takes one entity tag of the message, such as "v1".')
    return int(match[1])


def preferred_wait_s(request: Request, longest_s: int) -> int:
    """Seconds that `Prefer: wait=N` allows the answer to take (RFC 7240 section 4.3), at most `longest_s`."""
    match = _WAIT.search(request.headers.get("Prefer", ""))
    return min(int(match[1]), longest_s) if match else 0
