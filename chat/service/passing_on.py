"""Saying in both logs what went from one run to the next, with numbers and names."""

from __future__ import annotations

from collections.abc import Sequence

from chat.access import SYSTEM
from chat.drafts import digest, draft
from chat.events import About, EventJson, Kind, NoticeBody
from chat.ports import Record
from chat.runs import Run
from chat.service.context import Context
from chat.service.left_behind import Left, left_by
from chat.service.posting import append_one


class PassingOn:
    """Told once for each set of things that have moved; may be repeated."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def tell(self, old: Run, new: Run) -> None:
        """Tell the new run's log, then the old one's: that one is looked at to see whether it was told."""
        left = left_by(self._context, old.id)
        newest_first = [item_id for item_id, target in left.moved_to.items() if target == new.id]
        ids = newest_first[::-1]
        if not ids or (new.id, frozenset(ids)) in left.told:
            return
        what = self._counted(old.id, ids, left)
        ended = f", which has {left.status}" if left.status else ""
        self._say(
            new.id, f"From {old.agent_name}'s last run {old.id}{ended}: {what}.",
            NoticeBody(about=About.HANDOVER, text="…", ids=ids, moved_from={"run_id": old.id}),
        )  # fmt: skip
        self._say(
            old.id, f"Moved to {new.agent_name}'s next run {new.id}: {what}.",
            NoticeBody(about=About.HANDOVER, text="…", ids=ids, moved_to={"run_id": new.id}),
        )  # fmt: skip

    def _say(self, run_id: str, text: str, body: NoticeBody) -> None:
        body = body.model_copy(update={"text": text[:2_000]})
        one = draft(
            run_id, SYSTEM.sender(), body, now=self._context.now(), after_end=True,
            idempotency_key=f"handover:{digest(sorted(body.ids), body.moved_to, body.moved_from)}",
        )  # fmt: skip
        append_one(self._context, run_id, one)

    def _counted(self, run_id: str, ids: Sequence[str], left: Left) -> str:
        """`2 unseen messages (Anna, Ben), 1 open question and the order to check in every 3 steps`."""
        questions = [item_id for item_id in ids if item_id in left.questions]
        events = [
            event
            for item_id in ids
            if item_id not in left.questions
            for event in [self._event(run_id, item_id)]
            if event is not None
        ]
        messages = [event for event in events if event["kind"] == Kind.MESSAGE]
        parts = []
        if messages:
            names = ", ".join(dict.fromkeys(event["sender"]["name"] for event in messages))
            parts.append(f"{_number(len(messages), 'unseen message')} ({names})")
        if questions:
            parts.append(_number(len(questions), "open question"))
        parts += [
            f"the order to check in every {event['body']['every_steps']} steps"
            for event in events
            if event["kind"] == Kind.ORDER
        ]
        *most, last = parts or ["nothing"]
        return f"{', '.join(most)} and {last}" if most else last

    def _event(self, run_id: str, item_id: str) -> EventJson | None:
        item = self._context.log.item(run_id, item_id)
        return None if item is None else self._context.event(run_id, Record(item.seq, b""))


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
