"""Words to an agent: post, edit, take back, read again."""

from __future__ import annotations

from itertools import islice
from typing import Any

import orjson

from chat.access import Permission, Principal, demand, may
from chat.drafts import digest, draft, iso, utc
from chat.errors import Forbidden, Invalid, NotFound, TooLarge
from chat.events import EventJson, Kind, MessageBody, ReceiptBody, ReceiptState
from chat.ports import MailItem, Page, Record, Slice
from chat.requests import EditMessage, PostMessage
from chat.runs import IDLE
from chat.service.context import Context
from chat.service.posting import Posted, append_one, posted, scoped_key


class Messages:
    """What people say, and how far it has come."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def post(
        self, principal: Principal, run_id: str, request: PostMessage, *, key: str | None = None
    ) -> Posted:
        """Say something to the run's agent. Raises RunEnded, IdempotencyMismatch, TooLarge."""
        self._context.authorize(principal, Permission.WRITE, run_id)
        self._check(request.text)
        body = MessageBody(**request.model_dump())
        one = draft(
            run_id,
            principal.sender(),
            body,
            now=self._context.now(),
            mode=request.mode,
            idempotency_key=scoped_key(principal, "message", key),
            digest=digest(request),
            budget=self._context.settings.run_message_budget,
        )
        return append_one(self._context, run_id, one)

    def edit(
        self, principal: Principal, run_id: str, message_id: str, version: int, request: EditMessage
    ) -> Posted:
        """Replace one's own words that the agent has not taken yet. Raises AlreadyTaken, StaleVersion,
        NotFound, Forbidden."""
        self._context.authorize(principal, Permission.WRITE, run_id)
        if request.text is None and request.mode is None:
            raise Invalid("Say what to change: 'text', 'mode' or both.")
        item = self._own_message(run_id, message_id)
        present = self.present(run_id, item)
        if present["sender"]["id"] != principal.id:
            raise Forbidden("Only who wrote a message may change its words.")
        body = MessageBody(**present["body"])
        self._check(request.text or body.text)
        changed = body.model_copy(
            update={
                "text": request.text or body.text,
                "mode": request.mode or body.mode,
                "edit_of": message_id,
                "version": version + 1,
            }
        )
        one = draft(run_id, principal.sender(), changed, now=self._context.now())
        done = self._context.log.edit(
            run_id, message_id, version=version, mode=changed.mode, draft=one
        )
        return posted(self._context, run_id, done)

    def cancel(
        self, principal: Principal, run_id: str, message_id: str, version: int | None = None
    ) -> dict[str, Any]:
        """Take back what the agent has not taken yet: one's own, or as somebody who may give orders.
        Raises AlreadyTaken with the state it has."""
        run = self._context.authorize(principal, Permission.WRITE, run_id)
        item = self._own_message(run_id, message_id)
        if not may(principal, Permission.ORDER, run):
            said = self._context.event(run_id, Record(item.seq, b""))
            if said["sender"]["id"] != principal.id:
                raise Forbidden("Only who wrote a message, or may give orders, can take it back.")
        body = ReceiptBody(state=ReceiptState.CANCELLED, ids=[message_id])
        one = draft(run_id, principal.sender(), body, now=self._context.now())
        self._context.log.cancel(run_id, message_id, version=version, receipt=one)
        if self._context.log.snapshot(run_id).status in IDLE:
            self._context.runs_changed(run.project_id)  # it may go on hold again
        return {"result": "cancelled"}

    def get(self, principal: Principal, run_id: str, message_id: str) -> dict[str, Any]:
        """A message, how far it has come, and the exact text that the model was given.

        `{"event", "receipt": {"state", "attempt", "version"} | None, "proof": {...} | None}`.
        """
        self._context.authorize(principal, Permission.READ, run_id)
        item = self._context.log.item(run_id, message_id)
        if item is None:
            return {"event": self._said(run_id, message_id), "receipt": None, "proof": None}
        proof = None
        if item.confirmed_seq is not None:
            confirmed = self._context.event(run_id, Record(item.confirmed_seq, b""))
            said = confirmed["body"]
            proof = {name: said.get(name) for name in ("step", "sha256", "text")}
            proof["at"] = confirmed["at"]
        return {"event": self.present(run_id, item), "receipt": shown(item), "proof": proof}

    def page(
        self,
        principal: Principal,
        run_id: str,
        *,
        after: int | None = None,
        before: int | None = None,
        limit: int = 100,
        kinds: frozenset[Kind] | None = None,
        sender_id: str | None = None,
    ) -> Page:
        """A page of the log, ascending: what is stored, and what is not yet stored behind it."""
        self._context.authorize(principal, Permission.READ, run_id)
        stored = self._context.log.snapshot(run_id).stored
        store = self._context.store
        if after is not None:
            page = Page([], has_more=False)
            if after < stored:
                # what the store has beyond its cursor may still have holes: it is read from the stream
                page = store.events(
                    run_id,
                    after=after,
                    before=stored + 1 if before is None else min(before, stored + 1),
                    limit=limit,
                    kinds=kinds,
                    sender_id=sender_id,
                )
                if page.has_more:
                    return page
            found = list(page.records)
            for record in self._context.after(run_id, max(after, stored)):
                if (before is not None and record.seq >= before) or len(found) > limit:
                    break
                if _wanted(record, kinds, sender_id):
                    found.append(record)
            return Page(found[:limit], has_more=len(found) > limit)
        behind = self._context.backwards(run_id, before=before, down_to=stored)
        chosen = (record for record in behind if _wanted(record, kinds, sender_id))
        fresh = list(islice(chosen, limit + 1))[::-1]
        if len(fresh) > limit:
            return Page(fresh[-limit:], has_more=True)
        upto = min(before, stored + 1) if before is not None else stored + 1
        wanted = limit - len(fresh)
        older = store.events(
            run_id, before=upto, limit=max(wanted, 1), kinds=kinds, sender_id=sender_id
        )
        if wanted == 0:
            return Page(fresh, has_more=bool(older.records))
        return Page(older.records + fresh, has_more=older.has_more)

    def feature_page(
        self,
        principal: Principal,
        feature_id: str,
        *,
        cursor: str | None,
        limit: int,
        kinds: frozenset[Kind] | None = None,
    ) -> Slice:
        """What all runs of a feature have stored, by time."""
        demand(principal, Permission.READ, None)
        if self._context.store.feature(feature_id) is None:
            raise NotFound("There is no feature with that id.")
        return self._context.store.feature_events(
            feature_id, cursor=cursor, limit=limit, kinds=kinds
        )

    def project_page(
        self,
        principal: Principal,
        project_id: str,
        *,
        since: str | None,
        cursor: str | None,
        limit: int,
        kinds: frozenset[Kind] | None = None,
    ) -> Slice:
        """What all runs of a project have stored, by time; `since`: ISO 8601. Raises Invalid."""
        demand(principal, Permission.READ, None)
        try:
            since = iso(utc(since)) if since is not None else None
        except ValueError as error:
            raise Invalid(f"'since' {error}.") from error
        if self._context.store.project(project_id) is None:
            raise NotFound("There is no project with that id.")
        return self._context.store.project_events(
            project_id, since=since, cursor=cursor, limit=limit, kinds=kinds
        )

    def _check(self, text: str) -> None:
        if not text.strip():
            raise Invalid("'text' holds nothing but white space.")
        limit = self._context.settings.text_max
        if len(text) > limit:
            raise TooLarge(f"A message has at most {limit} characters; this one has {len(text)}.")

    def _own_message(self, run_id: str, message_id: str) -> MailItem:
        item = self._context.log.item(run_id, message_id)
        if item is None or item.kind is not Kind.MESSAGE:
            raise NotFound("There is no message to the agent with that id in this run.")
        return item

    def present(self, run_id: str, item: MailItem) -> EventJson:
        """The event with the text as it stands now (the last edit's, under the first one's id and seq)."""
        event = self._context.event(run_id, Record(item.seq, b""))
        if item.event_seq != item.seq:
            edit = self._context.event(run_id, Record(item.event_seq, b""))
            event["body"] = {**edit["body"]}
        return event

    def _said(self, run_id: str, message_id: str) -> EventJson:
        """An agent's own message, looked for from the newest back."""
        stored = self._context.log.snapshot(run_id).stored
        for event in self._context.newest_first(run_id, down_to=stored):
            if event["id"] == message_id and event["kind"] == Kind.MESSAGE:
                return event
        before = None
        while True:
            page = self._context.store.events(
                run_id, before=before, limit=500, kinds=frozenset({Kind.MESSAGE})
            )
            for record in page.records:
                older: EventJson = orjson.loads(record.data)
                if older["id"] == message_id:
                    return older
            if not page.has_more:
                raise NotFound("There is no message with that id in this run.")
            before = page.records[0].seq


def _wanted(record: Record, kinds: frozenset[Kind] | None, sender_id: str | None) -> bool:
    if kinds is None and sender_id is None:
        return True
    event = orjson.loads(record.data)
    return (kinds is None or event["kind"] in kinds) and (
        sender_id is None or event["sender"]["id"] == sender_id
    )


def shown(item: MailItem) -> dict[str, Any]:
    """How far something has come, as the wire says it."""
    return {"state": item.state, "attempt": item.attempt, "version": item.version}
