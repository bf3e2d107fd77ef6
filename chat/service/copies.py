"""A copy of something from an ended run's log in another's, under a key of its own."""

from __future__ import annotations

from typing import Any

import orjson

from chat.access import SYSTEM
from chat.drafts import draft, head_of, iso
from chat.events import (
    KIND_OF,
    EventJson,
    MessageBody,
    OrderBody,
    QuestionBody,
    ReceiptBody,
    ReceiptState,
)
from chat.ids import hashed_id
from chat.ports import Draft
from chat.service.context import Context
from chat.service.posting import append_one

_PREFIX = {MessageBody: "msg", QuestionBody: "qst", OrderBody: "ord"}


def append_copy(
    context: Context,
    run_id: str,
    original: EventJson,
    body: MessageBody | QuestionBody | OrderBody,
    **effects: Any,
) -> str:
    """Append a copy with `body`, once for each original, as the words of who said them; returns its id.
    Raises RunEnded."""
    kind, key = KIND_OF[type(body)], f"moved:{original['id']}"
    copy_id = hashed_id(_PREFIX[type(body)], run_id, key)
    content = body.model_dump(mode="json", exclude_none=True)
    head = orjson.loads(
        head_of(run_id, copy_id, kind, iso(context.now()), SYSTEM.sender(), content)
    )
    head["sender"] = original["sender"]
    copy = Draft(
        id=copy_id,
        head=orjson.dumps(head),
        kind=kind,
        idempotency_key=key,
        **effects,
    )
    copied: str = append_one(context, run_id, copy).event["id"]
    return copied


def copy_in(context: Context, run_id: str, old_run_id: str, item_id: str) -> str | None:
    """The id of the copy that a run got before whoever made it broke off."""
    for event in context.newest_first(run_id):
        if event["body"].get("moved_from") == {"run_id": old_run_id, "id": item_id}:
            found: str = event["id"]
            return found
    return None


def mark_moved(context: Context, run_id: str, item_id: str, target: str, copy: str) -> bool:
    """Write the receipt `moved` of something undelivered; False when it was no longer that."""
    body = ReceiptBody(
        state=ReceiptState.MOVED, ids=[item_id], moved_to={"run_id": target, "id": copy}
    )
    said = draft(run_id, SYSTEM.sender(), body, now=context.now())
    return context.log.mark_moved(run_id, item_id, said)
