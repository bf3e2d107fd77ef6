"""Why the log's function refused, as the domain's errors."""

from __future__ import annotations

from typing import Any

import orjson

from chat.errors import (
    AlreadyAnswered,
    AlreadyTaken,
    ChatError,
    IdempotencyMismatch,
    IllegalMove,
    NotFound,
    RunEnded,
    StaleVersion,
    TooMany,
    Unavailable,
)
from chat.events import ReceiptState

_WORDS = {
    "MISSING": (Unavailable, "The run's log is being rebuilt. Send the same request again."),
    "MISMATCH": (IdempotencyMismatch, "Use a new Idempotency-Key for another request."),
    "NO_QUESTION": (NotFound, "There is no question with that id in this run."),
    "NO_ITEM": (NotFound, "There is no message to the agent with that id in this run."),
}


def refusal(code: str, rest: list[Any]) -> ChatError:
    """The error for the first word of a reply of `redis_log.lua`; `rest` is what followed it."""
    if code in _WORDS:
        kind, words = _WORDS[code]
        return kind(words)
    if code == "BUDGET":
        return TooMany(f"A run takes {int(rest[0])} messages, and this one has had them.")
    if code in {"ENDED", "MOVE"}:
        return _by_status(code, rest[0].decode())
    if code == "ANSWERED":
        answer = orjson.loads(rest[1]) if rest[1] else None
        return AlreadyAnswered(
            "The first answer stands.", current_state={"seq": int(rest[0]), "answer": answer}
        )
    item = orjson.loads(rest[0])
    shown = {name: item[name] for name in ("state", "version", "attempt", "mode", "seq")}
    if code == "TAKEN":
        words = f"The message is already {item['state']}."
        if item["state"] in {ReceiptState.ACCEPTED, ReceiptState.STORED}:
            words = "It was given back, but the agent had it before and may have read it. Write what else to say."
        return AlreadyTaken(words, current_state=shown)
    return StaleVersion(f"The message is at version {item['version']}.", current_state=shown)


def _by_status(code: str, status: str) -> ChatError:
    standing = {"status": status}
    if code == "ENDED":
        words = f"The run is {status}; it takes no more messages."
        return RunEnded(words, current_state=standing)
    return IllegalMove(f"The run is {status} and cannot move there.", current_state=standing)
