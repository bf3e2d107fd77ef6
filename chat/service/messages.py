"""Words to an agent: post, edit, take back, read again."""

from __future__ import annotations

from typing import Any

import orjson

from chat.access import SYSTEM, Permission, Principal, demand
from chat.drafts import digest, draft, head_of, iso
from chat.errors import Invalid, NotFound, TooLarge
from chat.events import EventJson, Kind, MessageBody, ReceiptBody, ReceiptState
from chat.ids import new_id
from chat.ports import Draft, MailItem, Page, Record, Slice
from chat.requests import EditMessage, PostMessage
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
        )
        return append_one(self._context, run_id, one)

    def edit(
        self, principal: Principal, run_id: str, message_id: str, version: int, request: EditMessage
    ) -> Posted:
        """Replace what the agent has not taken yet. Raises AlreadyTaken, StaleVersion, NotFound."""
        self._context.authorize(principal, Permission.WRITE, run_id)
        if request.text is None and request.mode is None:
            raise Invalid("Say what to change: 'text', 'mode' or both.")
        item = self._own_message(run_id, message_id)
        body = MessageBody(**self._present(run_id, item)["body"])
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
        """Take back what the agent has not taken yet. Raises AlreadyTaken with the state it has."""
        self._context.authorize(principal, Permission.WRITE, run_id)
        self._own_message(run_id, message_id)
        body = ReceiptBody(state=ReceiptState.CANCELLED, ids=[message_id])
        one = draft(run_id, principal.sender(), body, now=self._context.now())
        self._context.log.cancel(run_id, message_id, version=version, receipt=one)
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
        return {"event": self._present(run_id, item), "receipt": shown(item), "proof": proof}

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
                page = store.events(
                    run_id,
                    after=after,
                    before=before,
                    limit=limit,
                    kinds=kinds,
                    sender_id=sender_id,
                )
                if page.has_more:
                    return page
            found = list(page.records)
            cursor = max(after, stored, found[-1].seq if found else 0)
            fresh = self._unstored(run_id, cursor, before, kinds, sender_id)
            return Page((found + fresh)[:limit], has_more=len(found) + len(fresh) > limit)
        fresh = self._unstored(run_id, stored, before, kinds, sender_id)
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
        """What all runs of a project have stored, by time."""
        demand(principal, Permission.READ, None)
        if self._context.store.project(project_id) is None:
            raise NotFound("There is no project with that id.")
        return self._context.store.project_events(
            project_id, since=since, cursor=cursor, limit=limit, kinds=kinds
        )

    def move_undelivered(self, old_run_id: str, new_run_id: str) -> int:
        """Carry over what the last run's agent never read; both logs say so. Safe to do again."""
        context, moved = self._context, 0
        events = self._undelivered(old_run_id)
        for original in events:
            now = context.now()
            body = MessageBody(**original["body"]).model_copy(
                update={
                    "moved_from": {"run_id": old_run_id, "id": original["id"]},
                    "reply_to": None, "edit_of": None, "version": 1, "anchor": None,
                }
            )  # fmt: skip
            message_id = new_id("msg")
            content = body.model_dump(mode="json", exclude_none=True)
            head = orjson.loads(
                head_of(new_run_id, message_id, Kind.MESSAGE, iso(now), SYSTEM.sender(), content)
            )
            head["sender"] = original["sender"]  # the words stay the words of who said them
            copy = Draft(
                id=message_id,
                head=orjson.dumps(head),
                kind=Kind.MESSAGE,
                mode=body.mode,
                idempotency_key=f"moved:{original['id']}",
            )
            posted_copy = append_one(context, new_run_id, copy)
            said = ReceiptBody(
                state=ReceiptState.MOVED,
                ids=[original["id"]],
                moved_to={"run_id": new_run_id, "id": posted_copy.event["id"]},
            )
            receipt = draft(old_run_id, SYSTEM.sender(), said, now=now)
            moved += context.log.mark_moved(old_run_id, original["id"], receipt)
        return moved

    def _undelivered(self, run_id: str) -> list[EventJson]:
        """The present text of each person's message that ended `undelivered`, in order."""
        found: list[str] = []
        after = 0
        while True:
            page = self._context.store.events(
                run_id, after=after, limit=500, kinds=frozenset({Kind.RECEIPT})
            )
            for record in page.records:
                body = orjson.loads(record.data)["body"]
                if body["state"] == ReceiptState.UNDELIVERED:
                    found += body["ids"]
            if not page.has_more:
                break
            after = page.records[-1].seq
        snapshot = self._context.log.snapshot(run_id)
        for record in self._unstored(
            run_id, snapshot.stored, None, frozenset({Kind.RECEIPT}), None
        ):
            body = orjson.loads(record.data)["body"]
            if body["state"] == ReceiptState.UNDELIVERED:
                found += body["ids"]
        events = []
        for item_id in dict.fromkeys(found):
            item = self._context.log.item(run_id, item_id)
            if item and item.kind is Kind.MESSAGE and item.state == ReceiptState.UNDELIVERED:
                event = self._present(run_id, item)
                event["id"] = item_id
                events.append(event)
        return events

    def _check(self, text: str) -> None:
        limit = self._context.settings.text_max
        if len(text) > limit:
            raise TooLarge(f"A message has at most {limit} characters; this one has {len(text)}.")

    def _own_message(self, run_id: str, message_id: str) -> MailItem:
        item = self._context.log.item(run_id, message_id)
        if item is None or item.kind is not Kind.MESSAGE:
            raise NotFound("There is no message to the agent with that id in this run.")
        return item

    def _present(self, run_id: str, item: MailItem) -> EventJson:
        """The event with the text as it stands now (the last edit's, under the first one's id and seq)."""
        event = self._context.event(run_id, Record(item.seq, b""))
        if item.event_seq != item.seq:
            edit = self._context.event(run_id, Record(item.event_seq, b""))
            event["body"] = {**edit["body"]}
        return event

    def _said(self, run_id: str, message_id: str) -> EventJson:
        """An agent's own message, looked for from the newest back."""
        stored = self._context.log.snapshot(run_id).stored
        kinds = frozenset({Kind.MESSAGE})
        records = self._unstored(run_id, stored, None, kinds, None)
        before: int | None = None
        while True:
            for record in records:
                event: EventJson = orjson.loads(record.data)
                if event["id"] == message_id:
                    return event
            page = self._context.store.events(run_id, before=before, limit=500, kinds=kinds)
            records = page.records
            if not records:
                raise NotFound("There is no message with that id in this run.")
            before = records[0].seq

    def _unstored(
        self,
        run_id: str,
        after: int,
        before: int | None,
        kinds: frozenset[Kind] | None,
        sender_id: str | None,
    ) -> list[Record]:
        found: list[Record] = []
        while records := self._context.log.read(run_id, after=after, limit=1_000):
            after = records[-1].seq
            for record in records:
                if before is not None and record.seq >= before:
                    return found
                if kinds is not None or sender_id is not None:
                    event = orjson.loads(record.data)
                    if kinds is not None and event["kind"] not in kinds:
                        continue
                    if sender_id is not None and event["sender"]["id"] != sender_id:
                        continue
                found.append(record)
        return found


def shown(item: MailItem) -> dict[str, Any]:
    """How far something has come, as the wire says it."""
    return {"state": item.state, "attempt": item.attempt, "version": item.version}
