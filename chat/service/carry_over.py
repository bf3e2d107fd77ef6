"""What a run's agent never read moves to the next run of that agent on the feature, once.

In a pipeline words belong to the work: they move to the pipeline's next run, whoever's it is.
"""

from __future__ import annotations

from collections.abc import Iterator

import orjson

from chat.access import SYSTEM
from chat.drafts import draft, head_of, iso
from chat.errors import ChatError, RunEnded
from chat.events import (
    EventJson,
    Kind,
    MessageBody,
    Outcome,
    ReceiptBody,
    ReceiptState,
    SenderKind,
)
from chat.ids import new_id
from chat.ports import Draft
from chat.runs import ENDED, Run
from chat.service.context import Context
from chat.service.messages import Messages
from chat.service.posting import append_one

_PAGE = 100
_AT_THE_END = frozenset({ReceiptState.UNDELIVERED, ReceiptState.MOVED})


class CarryOver:
    """Every step may be repeated, and two may work at once: the message is first claimed for one run,
    then copied under a key of its own, then marked as moved."""

    def __init__(self, context: Context, messages: Messages) -> None:
        self._context = context
        self._messages = messages

    def into(self, run: Run) -> int:
        """Bring a run what the ended runs of its agent (in a pipeline: of any) on this feature left;
        returns how many."""
        return sum(self._move(old, run) for old in reversed(self._others(run)) if self._ended(old))

    def out_of(self, run: Run) -> int:
        """Give what an ended run left to the newest run that is open, of its agent or in a pipeline."""
        for target in self._others(run):
            if not self._ended(target):
                return self._move(run, target)
        return 0

    def _others(self, run: Run) -> list[Run]:
        """The other runs on the feature that words move between, newest first."""
        rows = self._context.store.runs(feature_id=run.feature_id)
        return [one for one in rows if one.id != run.id and _follow_one_another(one, run)]

    def _ended(self, run: Run) -> bool:
        return self._context.log.snapshot(run.id).status in ENDED

    def _move(self, old: Run, new: Run) -> int:
        moved = 0
        for original in self._left_by(old):
            target = self._claimed(old, new, original["id"])
            if target is None:
                continue
            try:
                copied = self._copy(original, old.id, target)
            except RunEnded:
                if target == new.id:
                    break
                continue  # it ends just now: whoever comes next claims it anew
            body = ReceiptBody(
                state=ReceiptState.MOVED,
                ids=[original["id"]],
                moved_to={"run_id": target, "id": copied},
            )
            said = draft(old.id, SYSTEM.sender(), body, now=self._context.now())
            moved += self._context.log.mark_moved(old.id, original["id"], said)
        return moved

    def _claimed(self, old: Run, new: Run, item_id: str) -> str | None:
        """The run that gets it: ours, or the one for which somebody began to move it and broke off."""
        log = self._context.log
        target = log.claim(old.id, item_id, target=new.id, given_up=None)
        if target is None or target == new.id:
            return target
        try:
            alive = log.snapshot(target).status not in ENDED
        except ChatError:
            alive = False
        if alive:
            return target
        if (copy := self._copied(target, old.id, item_id)) is not None:
            body = ReceiptBody(
                state=ReceiptState.MOVED, ids=[item_id], moved_to={"run_id": target, "id": copy}
            )
            log.mark_moved(
                old.id, item_id, draft(old.id, SYSTEM.sender(), body, now=self._context.now())
            )
            return None
        return log.claim(old.id, item_id, target=new.id, given_up=target)

    def _copied(self, run_id: str, old_run_id: str, item_id: str) -> str | None:
        """The id of the copy that an ended run got before whoever made it broke off."""
        for event in self._context.newest_first(run_id):
            source = event["body"].get("moved_from") if event["kind"] == Kind.MESSAGE else None
            if source == {"run_id": old_run_id, "id": item_id}:
                found: str = event["id"]
                return found
        return None

    def _copy(self, original: EventJson, old_run_id: str, new_run_id: str) -> str:
        now, message_id = self._context.now(), new_id("msg")
        body = MessageBody(**original["body"]).model_copy(
            update={
                "moved_from": {"run_id": old_run_id, "id": original["id"]},
                "reply_to": None, "edit_of": None, "version": 1, "anchor": None,
            }
        )  # fmt: skip
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
        copied: str = append_one(self._context, new_run_id, copy).event["id"]
        return copied

    def _left_by(self, run: Run) -> list[EventJson]:
        """The present text of each person's message that is still `undelivered`, in order.

        The receipt that says so is among the last events of the log: the reading stops where the end
        of the run begins.
        """
        ids: list[str] = []
        for event in self._context.newest_first(run.id):
            kind, body = event["kind"], event["body"]
            if kind == Kind.RECEIPT and body["state"] == ReceiptState.UNDELIVERED:
                ids = body["ids"] + ids
            at_the_end = (
                kind in {Kind.STATUS, Kind.ERROR}
                or (kind == Kind.RECEIPT and body["state"] in _AT_THE_END)
                or (kind == Kind.ANSWER and body["outcome"] == Outcome.CANCELLED)
            )
            if not at_the_end:
                break
        return list(self._still_undelivered(run.id, ids))

    def _still_undelivered(self, run_id: str, ids: list[str]) -> Iterator[EventJson]:
        for item_id in ids:
            item = self._context.log.item(run_id, item_id)
            if item and item.kind is Kind.MESSAGE and item.state == ReceiptState.UNDELIVERED:
                event = self._messages.present(run_id, item)
                # a hand-over was for that run alone: the next one has its own
                if event["sender"]["kind"] != SenderKind.SYSTEM:
                    yield event


def _follow_one_another(one: Run, other: Run) -> bool:
    in_a_pipeline = one.turn is not None and other.turn is not None
    return in_a_pipeline or one.agent_id == other.agent_id
