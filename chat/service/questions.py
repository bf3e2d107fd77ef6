"""Questions: asked by an agent, answered by a person, never by a clock."""

from __future__ import annotations

from typing import Any

from chat.access import Permission, Principal
from chat.drafts import digest, draft
from chat.errors import Invalid
from chat.events import AnswerBody, EventJson, Mode, QuestionBody
from chat.ports import QuestionState
from chat.requests import AskQuestion, PostAnswer
from chat.service.context import Context
from chat.service.posting import Posted, append_one


class Questions:
    """The first answer wins; the same again is the same result; another is refused."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def ask(self, principal: Principal, run_id: str, request: AskQuestion) -> dict[str, Any]:
        """Ask, or find the question that the same handle asked before: `{"event", "answer", "repeated"}`."""
        self._context.authorize(principal, Permission.REPORT, run_id)
        if not request.options and not request.allow_text:
            raise Invalid("A question without options must allow free text.")
        values = [option.value for option in request.options]
        if len(set(values)) != len(values):
            raise Invalid("Each option needs a value of its own.")
        one = draft(
            run_id,
            principal.sender(),
            QuestionBody(**request.model_dump()),
            now=self._context.now(),
            opens_question=request.handle,
            last_line=request.text[:200],
        )
        done = append_one(self._context, run_id, one)
        answer = None
        if done.repeated:
            state = self._context.log.question(run_id, handle=request.handle)
            answer = self._shown(run_id, state)["answer"]
        return {"event": done.event, "answer": answer, "repeated": done.repeated}

    def answer(
        self, principal: Principal, run_id: str, question_id: str, request: PostAnswer
    ) -> Posted:
        """Answer. Raises AlreadyAnswered with the answer that stands."""
        self._context.authorize(principal, Permission.ANSWER, run_id)
        asked = self._context.event(
            run_id, self._context.log.question(run_id, question_id=question_id).question
        )
        question = QuestionBody(**asked["body"])
        if (request.value is None) == (request.text is None):
            raise Invalid("Give either 'value' (one of the options) or 'text'.")
        if request.value is not None and request.value not in {
            option.value for option in question.options
        }:
            raise Invalid(f"'{request.value}' is not one of the question's options.")
        if request.text is not None and not question.allow_text:
            raise Invalid("This question takes one of its options, not free text.")
        body = AnswerBody(question_id=question_id, value=request.value, text=request.text)
        one = draft(
            run_id,
            principal.sender(),
            body,
            now=self._context.now(),
            event_id="ans" + question_id[3:],
            mode=Mode.STEER,
            answers=question_id,
            digest=digest(body),
        )
        return append_one(self._context, run_id, one)

    def get(self, principal: Principal, run_id: str, question_id: str) -> dict[str, Any]:
        """`{"event", "answer": event | None}`."""
        self._may_look(principal, run_id)
        return self._shown(run_id, self._context.log.question(run_id, question_id=question_id))

    def by_handle(self, principal: Principal, run_id: str, handle: str) -> dict[str, Any]:
        """The same, found by the name that its asker gave it."""
        self._may_look(principal, run_id)
        return self._shown(run_id, self._context.log.question(run_id, handle=handle))

    def list(self, principal: Principal, run_id: str) -> list[EventJson]:
        """The questions that are open."""
        self._context.authorize(principal, Permission.READ, run_id)
        questions = self._context.log.snapshot(run_id).questions
        return [self._context.event(run_id, record) for record in questions]

    def _may_look(self, principal: Principal, run_id: str) -> None:
        wanted = Permission.REPORT if principal.run_id is not None else Permission.READ
        self._context.authorize(principal, wanted, run_id)

    def _shown(self, run_id: str, state: QuestionState) -> dict[str, Any]:
        answer = self._context.event(run_id, state.answer) if state.answer else None
        return {"event": self._context.event(run_id, state.question), "answer": answer}
