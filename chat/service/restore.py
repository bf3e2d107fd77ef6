"""A log that Redis has lost, folded again from the events in the store."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import orjson

from chat.access import SYSTEM
from chat.drafts import digest, draft, millis
from chat.events import (
    Action,
    AnswerBody,
    EventJson,
    Kind,
    Outcome,
    ReceiptBody,
    ReceiptState,
    SenderKind,
)
from chat.ports import MailItem, Record, Restored, Store
from chat.runs import ENDED, Run, RunStatus

_PAGE = 1_000
_IDS = 500
_UNREAD = frozenset({ReceiptState.ACCEPTED, ReceiptState.STORED, ReceiptState.LEASED})
_HOLDS = {Action.PAUSE: True, Action.STOP: True, Action.RESUME: False}


class _Fold:
    """The state that events leave behind, one after another."""

    def __init__(self) -> None:
        self.status = RunStatus.QUEUED
        self.phase: str | None = None
        self.before: RunStatus | None = None
        self.stop_at_ms: int | None = None
        self.held = False
        self.items: dict[str, MailItem] = {}
        self.open: dict[str, tuple[int, str]] = {}
        self.closed: dict[str, tuple[int, str, int, str]] = {}
        self.step_seq: int | None = None
        self.last_line: str | None = None
        self.since_seq = 0

    def take(self, event: EventJson) -> None:
        kind, body, seq = Kind(event["kind"]), event["body"], event["seq"]
        to_agent = event["sender"]["kind"] != SenderKind.AGENT
        if kind is Kind.STATUS:
            self._status(seq, body)
        elif kind is Kind.STEP:
            self.step_seq = seq
        elif kind is Kind.RECEIPT:
            self._receipt(seq, body)
        elif kind is Kind.QUESTION:
            self.open[event["id"]] = (seq, body["handle"])
            self.last_line = body["text"][:200]
        elif kind is Kind.ANSWER:
            self._answer(event)
        elif kind is Kind.ORDER:
            self._order(event)
        elif kind is Kind.MESSAGE and to_agent:
            self._message(event)
        elif kind is Kind.MESSAGE:
            self.last_line = body["text"][:200]

    def _status(self, seq: int, body: EventJson) -> None:
        if body["status"] == RunStatus.UNRESPONSIVE:
            self.before = self.status
        if body["status"] == RunStatus.SUSPENDED:
            self.held = False
        if body["status"] != self.status:
            self.since_seq = seq
        self.status, self.phase = RunStatus(body["status"]), body.get("phase")

    def _order(self, event: EventJson) -> None:
        action = Action(event["body"]["action"])
        self.held = _HOLDS.get(action, self.held)
        if action is Action.STOP:
            self.stop_at_ms = millis(datetime.fromisoformat(event["at"]))
        self._item(event, "steer" if action is Action.CHECK_IN else "interrupt")

    def _message(self, event: EventJson) -> None:
        body = event["body"]
        edited = self.items.get(body.get("edit_of") or "")
        if edited is None:
            self._item(event, body["mode"])
            return
        self.items[edited.id] = replace(
            edited,
            event_seq=event["seq"],
            version=body["version"],
            mode=body["mode"],
            state="accepted",
        )

    def _item(self, event: EventJson, mode: str) -> None:
        self.items[event["id"]] = MailItem(
            id=event["id"], seq=event["seq"], kind=Kind(event["kind"]), mode=mode,
            state=ReceiptState.ACCEPTED, attempt=0, version=1, event_seq=event["seq"],
        )  # fmt: skip

    def _answer(self, event: EventJson) -> None:
        body = AnswerBody(**event["body"])
        seq, handle = self.open.pop(body.question_id, (0, ""))
        if not seq:
            return
        said = digest(body) if body.outcome is Outcome.ANSWERED else ""
        self.closed[body.question_id] = (seq, handle, event["seq"], said)
        if body.outcome is Outcome.ANSWERED:
            self._item(event, "steer")

    def _receipt(self, seq: int, body: EventJson) -> None:
        state = ReceiptState(body["state"])
        for item_id in body["ids"]:
            item = self.items.get(item_id)
            if item is None:
                continue
            changes: dict[str, object] = {"state": state.value}
            if state is ReceiptState.LEASED:
                changes["attempt"] = body.get("attempt", item.attempt + 1)
            if state is ReceiptState.IN_CONTEXT:
                changes["confirmed_seq"] = seq
            if state is ReceiptState.CANCELLED:
                changes["cancel_seq"] = seq
            self.items[item_id] = replace(item, **changes)  # type: ignore[arg-type]  # typed above


@dataclass(slots=True)
class Stored:
    """What the store's events leave behind, up to the number `last`. `tail` are the last of them, `ids` those
    of the events from a given number on."""

    fold: _Fold
    tail: list[Record]
    last: int
    ids: set[str]


def stored_state(store: Store, run: Run, *, keep: int, since: int | None = None) -> Stored:
    """Fold a run's whole history; `tail` keeps `keep` events, `ids` those numbered `since` and above."""
    made = Stored(_Fold(), [], 0, set())
    more = True
    while more:
        page = store.events(run.id, after=made.last, limit=_PAGE)
        for record in page.records:
            event = orjson.loads(record.data)
            made.fold.take(event)
            if since is not None and record.seq >= since:
                made.ids.add(event["id"])
        made.tail = (made.tail + page.records)[-keep:]
        made.last = page.records[-1].seq if page.records else made.last
        more = page.has_more
    return made


def restored(store: Store, run: Run, *, keep: int, now_ms: int) -> Restored:
    """The run's state at the store's last event; `records` are the last `keep` of them."""
    return going_on(stored_state(store, run, keep=keep), run, now_ms=now_ms)


def going_on(base: Stored, run: Run, *, now_ms: int, then: Sequence[Record] = ()) -> Restored:
    """The state in which the events in `then` follow the store's last, under new numbers."""
    fold, tail = deepcopy(base.fold), list(base.tail)
    ended = fold.status in ENDED
    for number, record in enumerate(then, base.last + 1):
        event = orjson.loads(record.data) | {"seq": number}
        if not (ended and event["kind"] == Kind.STATUS):  # what has ended does not begin again
            fold.take(event)
        tail.append(Record(number, orjson.dumps(event)))
    late = [item.id for item in fold.items.values() if ended and item.state in _UNREAD]
    for first in range(0, len(late), _IDS):
        event = _too_late(run, tail[-1].seq + 1, late[first : first + _IDS], now_ms)
        fold.take(event)
        tail.append(Record(event["seq"], orjson.dumps(event)))
    return Restored(
        records=tail,
        status=fold.status,
        phase=fold.phase,
        held=fold.held,
        items=list(fold.items.values()),
        open_questions=fold.open,
        closed_questions=fold.closed,
        token_sha256=None if fold.status in ENDED else run.token_sha256,
        step_seq=fold.step_seq,
        last_line=fold.last_line,
        before=fold.before,
        stop_at_ms=fold.stop_at_ms,
        heartbeat_ms=now_ms,
        stored=base.last,
        since_seq=fold.since_seq,
    )


def _too_late(run: Run, seq: int, ids: list[str], now_ms: int) -> EventJson:
    body = ReceiptBody(
        state=ReceiptState.UNDELIVERED, ids=ids, reason="the run had ended before it was said"
    )
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    event: EventJson = orjson.loads(draft(run.id, SYSTEM.sender(), body, now=now).head)
    return {"seq": seq, "epoch": ""} | event
