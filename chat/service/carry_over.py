"""What a run's agent never read moves to the next run of that agent on the feature, once.

In a pipeline words belong to the work: they move to the pipeline's next run, whoever's it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

from chat.errors import ChatError, NotFound, RunEnded
from chat.events import (
    TEXT_MAX,
    AnswerBody,
    EventJson,
    Kind,
    MessageBody,
    Mode,
    Outcome,
    QuestionBody,
    ReceiptState,
    SenderKind,
)
from chat.pipeline import handover_id
from chat.runs import ENDED, Run, RunStatus
from chat.service.context import Context
from chat.service.copies import append_copy, copy_in, mark_moved
from chat.service.left_behind import UNFINISHED, Left, left_by
from chat.service.messages import Messages
from chat.service.passing_on import PassingOn
from chat.service.standing import Standing

QUOTED: Final = 1_000
"""Characters of a question that are quoted with its answer."""


class CarryOver:
    """Every step may be repeated, and two may work at once: the message is first claimed for one run,
    then copied under a key of its own, then marked as moved."""

    def __init__(self, context: Context, messages: Messages) -> None:
        self._context = context
        self._messages = messages
        self._standing = Standing(context, messages)
        self._passing_on = PassingOn(context)

    def into(self, run: Run) -> int:
        """Bring a run what the ended runs of its agent on this feature left; returns how many."""
        plan: list[tuple[Run, bool]] = []
        unfinished = True
        for old in self._others(run):
            status = self._context.log.snapshot(old.id).status
            # what was asked or ordered for work that is complete does not stand any more
            unfinished = unfinished and status is not RunStatus.COMPLETED
            if status in ENDED:
                plan.append((old, unfinished))
        return sum(self._move(old, run, standing=standing) for old, standing in reversed(plan))

    def out_of(self, run: Run) -> int:
        """Give what an ended run left to the newest run of its agent that is open, if there is one."""
        for target in self._others(run):
            if self._has_begun(target) and not self._ended(target):
                standing = self._context.log.snapshot(run.id).status in UNFINISHED
                return self._move(run, target, standing=standing)
        return 0

    def _others(self, run: Run) -> list[Run]:
        """The other runs on the feature that words move between, newest first."""
        rows = self._context.store.runs(feature_id=run.feature_id)
        return [one for one in rows if one.id != run.id and _follow_one_another(one, run)]

    def _has_begun(self, run: Run) -> bool:
        """Whether a run has its log; in a pipeline that begins with the hand-over, which comes before
        anything else, and what was left is brought to it after that."""
        log, opening = self._context.log, handover_id(run.id)
        return run.turn is None or (
            bool(log.brief([run.id])) and log.item(run.id, opening) is not None
        )

    def _ended(self, run: Run) -> bool:
        return self._context.log.snapshot(run.id).status in ENDED

    def _move(self, old: Run, new: Run, *, standing: bool) -> int:
        left = left_by(self._context, old.id)
        moved = self._move_unread(old, new, left)
        if (
            standing and old.agent_id == new.agent_id
        ):  # a question or an order is to its agent alone
            moved += self._standing.move(old, new, left)
        if moved or new.id in left.moved_to.values():
            self._passing_on.tell(old, new)
        return moved

    def _move_unread(self, old: Run, new: Run, left: Left) -> int:
        moved = 0
        for original in self._still_undelivered(old, new, left.unread):
            target = self._claimed(old, new, original["id"])
            if target is None:
                continue
            try:
                copied = self._copy(original, old.id, target)
            except RunEnded:
                if target == new.id:
                    break
                continue  # it ends just now: whoever comes next claims it anew
            moved += mark_moved(self._context, old.id, original["id"], target, copied)
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
        if (copy := copy_in(self._context, target, old.id, item_id)) is not None:
            mark_moved(self._context, old.id, item_id, target, copy)
            return None
        return log.claim(old.id, item_id, target=new.id, given_up=target)

    def _copy(self, original: EventJson, old_run_id: str, new_run_id: str) -> str:
        body = MessageBody(**original["body"]).model_copy(
            update={
                "moved_from": {"run_id": old_run_id, "id": original["id"]},
                "reply_to": None, "edit_of": None, "version": 1, "anchor": None,
            }
        )  # fmt: skip
        return append_copy(self._context, new_run_id, original, body, mode=body.mode)

    def _still_undelivered(self, old: Run, new: Run, ids: list[str]) -> Iterator[EventJson]:
        for item_id in ids:
            item = self._context.log.item(old.id, item_id)
            if item is None or item.state != ReceiptState.UNDELIVERED:
                continue
            event = self._messages.present(old.id, item)
            if item.kind is Kind.MESSAGE:
                # a hand-over was for that run alone: the next one has its own
                if event["sender"]["kind"] != SenderKind.SYSTEM:
                    yield event
            elif item.kind is Kind.ANSWER and old.agent_id == new.agent_id:
                answer = AnswerBody(**event["body"])
                if answer.outcome is Outcome.ANSWERED:
                    yield event | {"body": self._in_words(old.id, answer)}

    def _in_words(self, run_id: str, answer: AnswerBody) -> dict[str, Any]:
        """An answer that nobody read, as a message: its question ended with the run, and is quoted."""
        said, quoted = answer.text or answer.value or "", ""
        with suppress(NotFound):  # the words go on also when what was asked cannot be found
            state = self._context.log.question(run_id, question_id=answer.question_id)
            asked = QuestionBody(**self._context.event(run_id, state.question)["body"])
            labels = {option.value: option.label for option in asked.options}
            said = answer.text or labels.get(said, said)
            quoted = "".join(f"> {line}\n" for line in asked.text[:QUOTED].splitlines()) + "\n"
        return {
            "text": (quoted + said) if len(quoted + said) <= TEXT_MAX else said,
            "mode": Mode.STEER,
        }


def _follow_one_another(one: Run, other: Run) -> bool:
    in_a_pipeline = one.turn is not None and other.turn is not None
    return in_a_pipeline or one.agent_id == other.agent_id
