"""What stands when a run ends before its work is done: open questions, and the order to check in.

The end has cancelled the questions and left the order where it was, so neither can be claimed as unread
mail is. A notice in the old log is the claim: of all that say it under one key, the first one stands.
"""

from __future__ import annotations

from chat.access import SYSTEM
from chat.drafts import draft
from chat.errors import ChatError, NotFound, RunEnded
from chat.events import (
    About,
    Action,
    EventJson,
    Kind,
    Mode,
    NoticeBody,
    OrderBody,
    QuestionBody,
    ReceiptState,
)
from chat.runs import ENDED, Run
from chat.service.context import Context
from chat.service.copies import append_copy, copy_in, mark_moved
from chat.service.left_behind import Left
from chat.service.messages import Messages
from chat.service.posting import append_one

_ORDERS = frozenset({Kind.ORDER})


class Standing:
    """Moves it to the agent's next run, once; every step may be repeated."""

    def __init__(self, context: Context, messages: Messages) -> None:
        self._context = context
        self._messages = messages

    def move(self, old: Run, new: Run, left: Left) -> int:
        """Move what stands of `old`; returns how many. `left` is what its log says."""
        return self._move_questions(old, new, left) + self._move_order(old, new, left)

    def _move_questions(self, old: Run, new: Run, left: Left) -> int:
        moved = 0
        for question_id in left.questions:
            asked = self._asked(old.id, question_id)
            target = self._claimed(old, new, question_id, "The open question moves", left)
            if asked is None or target is None:
                continue
            body = QuestionBody(**asked["body"]).model_copy(
                update={"moved_from": {"run_id": old.id, "id": question_id}}
            )
            try:
                # its agent finds it, and the answer, by the handle under which it asked
                append_copy(
                    self._context, target, asked, body,
                    opens_question=body.handle, last_line=body.text[:200],
                )  # fmt: skip
            except RunEnded:
                continue  # it ends just now: whoever comes next claims it anew
            moved += 1
        return moved

    def _move_order(self, old: Run, new: Run, left: Left) -> int:
        order = self._check_in(old.id)
        if order is None or not order["body"].get("every_steps"):
            return 0
        if order["id"] not in left.moved_to and self._check_in(new.id) is not None:
            return 0  # somebody has ordered otherwise already
        target = self._claimed(old, new, order["id"], "The order to check in moves", left)
        if target is None:
            return 0
        source = {"run_id": old.id, "id": order["id"]}
        present = self._check_in(target)
        if present is not None and present["body"].get("moved_from") != source:
            return 0
        body = OrderBody(**order["body"]).model_copy(update={"moved_from": source})
        try:
            copied = (
                present["id"]
                if present is not None
                else append_copy(self._context, target, order, body, mode=Mode.STEER)
            )
        except RunEnded:
            return 0
        item = self._context.log.item(old.id, order["id"])
        if item is not None and item.state == ReceiptState.UNDELIVERED:
            mark_moved(self._context, old.id, order["id"], target, copied)
        return 1

    def _asked(self, run_id: str, question_id: str) -> EventJson | None:
        try:
            state = self._context.log.question(run_id, question_id=question_id)
        except NotFound:
            return None
        return self._context.event(run_id, state.question)

    def _check_in(self, run_id: str) -> EventJson | None:
        """The last thing said about checking in."""
        before = None
        while True:
            page = self._messages.page(SYSTEM, run_id, before=before, limit=50, kinds=_ORDERS)
            for record in reversed(page.records):
                event = self._context.event(run_id, record)
                if event["body"]["action"] == Action.CHECK_IN:
                    return event
            if not page.has_more or not page.records:
                return None
            before = page.records[0].seq

    def _claimed(self, old: Run, new: Run, item_id: str, words: str, left: Left) -> str | None:
        """The run that gets it; None when one that has ended since has got it."""
        target = left.moved_to.get(item_id)
        if target == new.id or (target is not None and self._is_open(target)):
            return target
        key = f"moved:{item_id}"
        if target is not None:
            if copy_in(self._context, target, old.id, item_id) is not None:
                return None
            key += f":{target}"  # it was promised to one that ended before it had it
        body = NoticeBody(
            about=About.MOVED, text=f"{words} to run {new.id}.", ids=[item_id],
            moved_to={"run_id": new.id},
        )  # fmt: skip
        one = draft(
            old.id, SYSTEM.sender(), body, now=self._context.now(), after_end=True,
            idempotency_key=key,
        )  # fmt: skip
        stands = append_one(self._context, old.id, one).event
        claimed: str = stands["body"]["moved_to"]["run_id"]
        left.moved_to[item_id] = claimed
        return claimed if claimed == new.id or self._is_open(claimed) else None

    def _is_open(self, run_id: str) -> bool:
        try:
            return self._context.log.snapshot(run_id).status not in ENDED
        except ChatError:
            return False
