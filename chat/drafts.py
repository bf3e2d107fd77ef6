"""How an event that is not yet in the log is written down."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

import orjson

from chat.events import KIND_OF, Body, ReceiptBody, ReceiptState, Sender
from chat.ids import hashed_id, new_id
from chat.ports import Draft
from chat.runs import Frozen

IDS = "@ids"
ATTEMPT = "@attempt"


def iso(moment: datetime) -> str:
    """ISO 8601 in UTC with milliseconds, as every time on the wire."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def utc(said: str) -> datetime:
    """An ISO 8601 time with its offset. Raises ValueError, whose words go on from the field's name."""
    try:
        moment = datetime.fromisoformat(said)
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError("is not an ISO 8601 time, such as 2026-11-26T09:30:00.000Z") from error
    raise ValueError("needs its offset from UTC")


def millis(moment: datetime) -> int:
    """Milliseconds since 1970."""
    return int(moment.timestamp() * 1000)


def digest(*parts: object) -> str:
    """A hash of what a request says, to tell a repeat from another request with the same key."""
    plain = [part.model_dump(mode="json") if isinstance(part, Frozen) else part for part in parts]
    return hashlib.sha256(orjson.dumps(plain, option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]


_PREFIX = {
    "message": "msg", "question": "qst", "answer": "ans", "order": "ord", "status": "sta",
    "step": "stp", "log": "log", "error": "err", "receipt": "rcp", "notice": "ntc",
}  # fmt: skip


def head_of(
    run_id: str, event_id: str, kind: str, at: str, sender: Sender, body: dict[str, Any]
) -> bytes:
    """The event's JSON without `seq` and `epoch`, which the log puts in front."""
    return orjson.dumps(
        {
            "run_id": run_id,
            "id": event_id,
            "kind": kind,
            "at": at,
            "sender": {
                "kind": sender.kind, "id": sender.id, "name": sender.name, "role": sender.role,
            },
            "body": body,
        }
    )  # fmt: skip


def draft(
    run_id: str,
    sender: Sender,
    body: Body,
    *,
    now: datetime,
    event_id: str | None = None,
    at: str | None = None,
    **effects: Any,
) -> Draft:
    """A draft of any kind; `effects` are the fields of `ports.Draft`.

    With an idempotency key the event's id follows from it, so that a repeat is known even after the log
    had to be rebuilt from the store, which keeps events and no keys.
    """
    kind = KIND_OF[type(body)]
    key = effects.get("idempotency_key")
    if event_id is None:
        prefix = _PREFIX[kind]
        event_id = new_id(prefix) if key is None else hashed_id(prefix, run_id, key)
    content = body.model_dump(mode="json", exclude_none=True)
    head = head_of(run_id, event_id, kind, at or iso(now), sender, content)
    return Draft(id=event_id, head=head, kind=kind, **effects)


def receipt(
    run_id: str, sender: Sender, state: ReceiptState, *, now: datetime, **said: Any
) -> Draft:
    """A receipt whose `ids` (and, where it is asked for, `attempt`) the log fills in."""
    wants_attempt = said.pop("wants_attempt", False)
    body = ReceiptBody(state=state, ids=[IDS], **said).model_dump(mode="json", exclude_none=True)
    body["ids"] = IDS
    if wants_attempt:
        body["attempt"] = ATTEMPT
    # `ids` and `attempt` come before any free text, so the log finds its marks first
    ordered: dict[str, Any] = {
        name: body[name] for name in ("state", "ids", "attempt", "deadline", "step") if name in body
    }
    ordered |= body
    event_id = new_id("rcp")
    head = head_of(run_id, event_id, "receipt", iso(now), sender, ordered)
    return Draft(id=event_id, head=head, kind=KIND_OF[ReceiptBody])
