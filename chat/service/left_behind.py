"""What an ended run left: read from the end of its log, back to where the end begins."""

from __future__ import annotations

from dataclasses import dataclass, field

from chat.events import About, EventJson, Kind, Outcome, ReceiptState
from chat.runs import RunStatus
from chat.service.context import Context

_AT_THE_END = frozenset({ReceiptState.UNDELIVERED, ReceiptState.MOVED})
UNFINISHED = frozenset({RunStatus.FAILED, RunStatus.STOPPED})


@dataclass
class Left:
    """The ids of what was unread; the questions that the end cancelled, oldest first; and what was
    said about moving, by item."""

    status: RunStatus | None = None
    unread: list[str] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)
    moved_to: dict[str, str] = field(default_factory=dict)
    """Item id to the run it went to: receipts of what was unread, notices (the last) of the rest."""
    told: set[tuple[str, frozenset[str]]] = field(default_factory=set)
    """(run, ids) of the handovers that were told."""


def left_by(context: Context, run_id: str) -> Left:
    """Read it: costs the last few events."""
    left = Left()
    for event in context.newest_first(run_id):
        kind, body = event["kind"], event["body"]
        if kind == Kind.STATUS and left.status is None:
            left.status = RunStatus(body["status"])
        elif kind == Kind.RECEIPT and body["state"] == ReceiptState.UNDELIVERED:
            left.unread = body["ids"] + left.unread
        elif kind == Kind.RECEIPT and body["state"] == ReceiptState.MOVED:
            _note(left, body, body["ids"])
        elif kind == Kind.ANSWER and body["outcome"] == Outcome.CANCELLED:
            left.questions.insert(0, body["question_id"])
        elif kind == Kind.NOTICE and body["about"] == About.MOVED:
            _note(left, body, body["ids"])
        elif kind == Kind.NOTICE and body["about"] == About.HANDOVER and "moved_to" in body:
            left.told.add((body["moved_to"]["run_id"], frozenset(body["ids"])))
        if not _is_of_the_end(event):
            break
    return left


def _note(left: Left, body: EventJson, ids: list[str]) -> None:
    for item_id in ids:
        left.moved_to.setdefault(item_id, body["moved_to"]["run_id"])


def _is_of_the_end(event: EventJson) -> bool:
    kind, body = event["kind"], event["body"]
    return (
        kind in {Kind.STATUS, Kind.ERROR, Kind.NOTICE}
        or (kind == Kind.RECEIPT and body["state"] in _AT_THE_END)
        or (kind == Kind.ANSWER and body["outcome"] == Outcome.CANCELLED)
    )
