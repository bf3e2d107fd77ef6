"""Questions: an agent asks, a person answers, and whoever waits is held without a thread."""

from __future__ import annotations

from typing import Any

import orjson
from flask import Blueprint, Response, request

from chat.errors import AlreadyAnswered, Forbidden, Invalid, NotFound, RunEnded
from chat.requests import AskQuestion, PostAnswer
from web.endpoint import Call, Who, answer, route
from web.paging import preferred_wait_s
from web.polls import hold
from web.shapes import EventMade, QuestionDetail, QuestionsOpen, QuestionsQuery

bp = Blueprint("questions", __name__)
_PATH = "/api/agent-runs/{run_id}/questions"
_WAKES = (b'"kind":"answer"', b'"kind":"status"')


@route(bp, "GET", _PATH, who=Who.EITHER, query=QuestionsQuery, waits=True,
       answers={200: QuestionsOpen}, refuses=(NotFound, Forbidden),
       summary="The open questions; for an agent, its own question by `handle`")  # fmt: skip
def questions(call: Call, run_id: str) -> Response:
    handle = call.query.handle
    if call.principal.run_id is not None and handle is None:
        raise Invalid("Name the question by its 'handle'.")
    if handle is None:
        return answer({"questions": call.chat.questions.list(call.principal, run_id)})
    return _held(
        call, run_id, lambda: call.chat.questions.by_handle(call.principal, run_id, handle)
    )


@route(bp, "POST", _PATH, who=Who.AGENT, body=AskQuestion,
       answers={201: QuestionDetail, 200: QuestionDetail}, refuses=(NotFound, RunEnded),
       summary="Ask; the same handle again finds the same question",
       example={"handle": "name-of-total", "text": "What shall it be called?",
                "options": [{"value": "total_price", "label": "total_price"}]})  # fmt: skip
def ask(call: Call, run_id: str) -> Response:
    asked = call.chat.questions.ask(call.principal, run_id, call.body)
    shown = {"event": asked["event"], "answer": asked["answer"]}
    return answer(shown, 200 if asked["repeated"] else 201)


@route(bp, "GET", _PATH + "/{question_id}", who=Who.EITHER, waits=True,
       answers={200: QuestionDetail}, refuses=(NotFound,),
       summary="A question and the answer that stands; `Prefer: wait=30` waits for one")  # fmt: skip
def question(call: Call, run_id: str, question_id: str) -> Response:
    return _held(call, run_id, lambda: call.chat.questions.get(call.principal, run_id, question_id))


def _held(call: Call, run_id: str, look: Any) -> Response:
    found = look()
    wait_s = preferred_wait_s(request, call.chat.settings.long_poll_max_s)
    if found["answer"] is not None or wait_s == 0:
        return answer(found)
    return hold(
        call.web.live, run_id, wait_s=wait_s, wakes=_WAKES, look=look,
        enough=lambda seen: seen["answer"] is not None,
    )  # fmt: skip


@route(bp, "POST", _PATH + "/{question_id}/answer", who=Who.PERSON, body=PostAnswer,
       answers={201: EventMade, 200: EventMade},
       refuses=(Forbidden, NotFound, AlreadyAnswered, RunEnded),
       summary="Answer; the first one wins", example={"value": "total_price"})  # fmt: skip
def give_answer(call: Call, run_id: str, question_id: str) -> Response:
    posted = call.chat.questions.answer(call.principal, run_id, question_id, call.body)
    return answer({"event": orjson.Fragment(posted.data)}, 200 if posted.repeated else 201)
