"""Orders: pause, resume, interrupt, stop, check in, checkpoint."""

from __future__ import annotations

import orjson
from flask import Blueprint, Response

from chat.errors import Forbidden, IdempotencyMismatch, IllegalMove, NotFound, RunEnded
from chat.events import OrderBody
from web.endpoint import Call, Who, answer, route
from web.shapes import EventMade

bp = Blueprint("orders", __name__)


@route(bp, "POST", "/api/agent-runs/{run_id}/orders", who=Who.PERSON, body=OrderBody, keyed=True,
       answers={201: EventMade, 200: EventMade},
       refuses=(Forbidden, NotFound, RunEnded, IllegalMove, IdempotencyMismatch),
       summary="Give the run an order", example={"action": "pause"})  # fmt: skip
def give(call: Call, run_id: str) -> Response:
    posted = call.chat.orders.give(call.principal, run_id, call.body, key=call.key)
    return answer({"event": orjson.Fragment(posted.data)}, 200 if posted.repeated else 201)
