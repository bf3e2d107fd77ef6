"""What was said in a run, and saying something."""

from __future__ import annotations

import orjson
from flask import Blueprint, Response, request

from chat.access import SYSTEM
from chat.errors import (
    AlreadyTaken,
    Forbidden,
    IdempotencyMismatch,
    NotFound,
    RunEnded,
    StaleVersion,
    TooLarge,
)
from chat.requests import EditMessage, PostMessage
from web.endpoint import Call, Who, answer, route
from web.paging import expected_version, kinds_of, raw, tag
from web.problems import PreconditionRequired
from web.shapes import Cancelled, EventMade, EventPage, MessageDetail, PageQuery

bp = Blueprint("messages", __name__)
_PATH = "/api/agent-runs/{run_id}/messages"
_ONE = _PATH + "/{message_id}"


@route(bp, "GET", _PATH, who=Who.PERSON, query=PageQuery, answers={200: EventPage},
       refuses=(NotFound,), summary="A page of the run's log, ascending")  # fmt: skip
def page(call: Call, run_id: str) -> Response:
    query: PageQuery = call.query
    found = call.chat.messages.page(
        call.principal, run_id, after=query.after, before=query.before, limit=query.limit,
        kinds=kinds_of(query.kind), sender_id=query.sender,
    )  # fmt: skip
    snapshot = call.chat.live.snapshot(SYSTEM, run_id)
    return answer(
        {
            "events": raw(found.records),
            "has_more": found.has_more,
            "head": snapshot.head,
            "epoch": snapshot.epoch,
        }
    )


@route(bp, "POST", _PATH, who=Who.PERSON, body=PostMessage, keyed=True, sort="message",
       answers={201: EventMade, 200: EventMade},
       refuses=(Forbidden, NotFound, RunEnded, IdempotencyMismatch, TooLarge),
       summary="Say something to the run's agent",
       example={"text": "call it total_price", "mode": "steer"})  # fmt: skip
def post(call: Call, run_id: str) -> Response:
    posted = call.chat.messages.post(call.principal, run_id, call.body, key=call.key)
    return answer({"event": orjson.Fragment(posted.data)}, 200 if posted.repeated else 201)


@route(bp, "GET", _ONE, who=Who.PERSON, answers={200: MessageDetail}, refuses=(NotFound,),
       summary="A message, how far it has come, and the exact text the model was given")  # fmt: skip
def one(call: Call, run_id: str, message_id: str) -> Response:
    found = call.chat.messages.get(call.principal, run_id, message_id)
    headers = {"ETag": tag(found["receipt"]["version"])} if found["receipt"] else {}
    return answer(found, headers=headers)


@route(bp, "PATCH", _ONE, who=Who.PERSON, body=EditMessage, matched=True, answers={200: EventMade},
       refuses=(Forbidden, NotFound, AlreadyTaken, StaleVersion, RunEnded, TooLarge,
                PreconditionRequired),
       summary="Change what the agent has not taken yet",
       example={"text": "call it price_total"})  # fmt: skip
def edit(call: Call, run_id: str, message_id: str) -> Response:
    version = expected_version(request)
    if version is None:
        receipt = call.chat.messages.get(call.principal, run_id, message_id)["receipt"]
        version = receipt["version"] if receipt else 1
    posted = call.chat.messages.edit(call.principal, run_id, message_id, version, call.body)
    return answer({"event": orjson.Fragment(posted.data)}, headers={"ETag": tag(version + 1)})


@route(bp, "DELETE", _ONE, who=Who.PERSON, answers={200: Cancelled},
       refuses=(Forbidden, NotFound, AlreadyTaken, StaleVersion, RunEnded),
       summary="Take back what the agent has not taken yet")  # fmt: skip
def cancel(call: Call, run_id: str, message_id: str) -> Response:
    version = expected_version(request) if "If-Match" in request.headers else None
    return answer(call.chat.messages.cancel(call.principal, run_id, message_id, version))
