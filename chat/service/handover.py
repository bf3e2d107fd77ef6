"""What a role is told when it takes over: the first thing in its run's mailbox, and in its log for all."""

from __future__ import annotations

from typing import Any

import orjson

from chat.access import SYSTEM
from chat.drafts import draft
from chat.events import EventJson, Kind, MessageBody, Mode, SenderKind
from chat.pipeline import Result, attempt_of, handover_id, round_of
from chat.ports import Draft
from chat.roles import Roles
from chat.runs import Feature, Pipeline, Role, Run, Why
from chat.service.context import Context
from chat.service.progress import Progress

_LAST_MESSAGES = 5
_WORDS_MAX, _SUMMARY_MAX, _TEXT_MAX = 2_000, 4_000, 30_000
"""Characters of one message, of one result, and of the whole."""
_LOOK_BACK = 2_000
"""Events in which the last messages are looked for."""


class Handover:
    """Composes it from the feature, the turn, and what the roles before it left."""

    def __init__(self, context: Context, roles: Roles, progress: Progress) -> None:
        self._context = context
        self._roles = roles
        self._progress = progress

    def to(self, run: Run, feature: Feature, pipeline: Pipeline, index: int) -> Draft:
        """The message to the run of the turn at `index`. The same id and key each time, so that it is
        said once; its words may differ when the turn is begun again."""
        parts = [self._opening(feature, pipeline, index)]
        if feature.description:
            parts.append(f"The feature: {feature.name}\n{_quoted(feature.description)}")
        note = pipeline.turns[index].note
        if note:
            parts.append(f"{pipeline.turns[index].by} says:\n{_quoted(note)}")
        parts += self._results(feature, pipeline, index)
        parts.append("What people wrote and nobody has read yet follows, if there is any.")
        text = "\n\n".join(parts)
        if len(text) > _TEXT_MAX:
            text = text[:_TEXT_MAX] + "\n[shortened]"
        message_id = handover_id(run.id)
        return draft(
            run.id, SYSTEM.sender(), MessageBody(text=text, mode=Mode.STEER),
            now=self._context.now(), event_id=message_id, mode=Mode.STEER,
            idempotency_key="handover", digest=message_id,
        )  # fmt: skip

    def _opening(self, feature: Feature, pipeline: Pipeline, index: int) -> str:
        turn = pipeline.turns[index]
        before = self._roles.role[pipeline.turns[index - 1].role].name if index else ""
        name = self._roles.role[turn.role].name
        rounds = f"{round_of(pipeline, index) - 1} of {self._roles.pipeline.rounds}"
        reason = {
            Why.NEXT: f"You take over from {before}." if before else "You begin.",
            Why.RETRY: "The run before yours failed. Go on from what it left.",
            Why.SENT_BACK: f"{before} asks for changes (round {rounds}).",
            Why.BY_HAND: f"{turn.by} starts you{' again' if attempt_of(pipeline, index) > 1 else ''}.",
        }[turn.why]
        return (
            f"{name}, you are the {turn.role} of '{feature.name}' "
            f"(pipeline {pipeline.number}, turn {index + 1}). {reason}"
        )

    def _results(self, feature: Feature, pipeline: Pipeline, index: int) -> list[str]:
        """The latest result of each role before this turn, oldest first, and the last words of the last."""
        latest: dict[Role, int] = {}
        for number, turn in enumerate(pipeline.turns[:index]):
            latest.pop(turn.role, None)
            latest[turn.role] = number
        parts = []
        for number in latest.values():
            ended = self._progress.outcome(feature, pipeline, number)
            said = f": {ended.detail[:_SUMMARY_MAX]}" if ended.detail else "."
            one = self._roles.role[pipeline.turns[number].role]
            parts.append(
                f"{one.name} ({pipeline.turns[number].role}) {_SAID[ended.result]}{_quoted_on(said)}"
            )
        if index:
            words = self._last_words(self._progress.run_id(feature.id, pipeline, index - 1))
            name = self._roles.role[pipeline.turns[index - 1].role].name
            if words:
                parts.append(f"{name}'s last words:\n" + "\n".join(map(_quoted, words)))
        return parts

    def _last_words(self, run_id: str) -> list[str]:
        found: list[str] = []
        page = self._context.store.events(run_id, limit=_LOOK_BACK, kinds=frozenset({Kind.MESSAGE}))
        for record in reversed(page.records):
            event: EventJson = orjson.loads(record.data)
            if event["sender"]["kind"] == SenderKind.AGENT:
                body: dict[str, Any] = event["body"]
                found.append(body["text"][:_WORDS_MAX])
            if len(found) == _LAST_MESSAGES:
                break
        return found[::-1]


_SAID = {
    Result.PASSED: "is done",
    Result.SENT_BACK: "asks for changes",
    Result.FAILED: "failed",
    Result.STOPPED: "was stopped",
    Result.NOT_BEGUN: "has not begun",
    Result.OPEN: "is at work",
    Result.ASKING: "waits for a person",
    Result.LATE: "is at work",
}


def _quoted(text: str) -> str:
    """Somebody else's words, marked line by line: nothing in them can pass for ours."""
    return "\n".join("> " + line for line in text.splitlines())


def _quoted_on(said: str) -> str:
    if not said.startswith(": "):
        return said
    return ":\n" + _quoted(said.removeprefix(": "))
