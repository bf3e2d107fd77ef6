"""The agent's side: its mailbox, what it reports, and its end."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, request

from chat.errors import IdempotencyMismatch, IllegalMove, MailboxNotEmpty, NotFound, RunEnded
from chat.requests import (
    Confirm,
    Delta,
    FinishRequest,
    Heartbeat,
    HoldRequest,
    Release,
    Report,
)
from web.endpoint import Call, Who, answer, route
from web.paging import preferred_wait_s
from web.polls import hold
from web.shapes import (
    Beaten,
    Confirmed,
    Finished,
    Kept,
    MailboxQuery,
    MailboxShape,
    Released,
    Reports,
    Units,
)

bp = Blueprint("mailbox", __name__)
_RUN = "/api/agent-runs/{run_id}"
_WAKES = (b'"kind":"receipt"', b'"kind":"order"', b'"kind":"status"')
"""What may put something into the mailbox, or let go what is held there."""


@route(bp, "GET", _RUN + "/mailbox", who=Who.AGENT, query=MailboxQuery, waits=True,
       answers={200: MailboxShape}, refuses=(NotFound,),
       summary="Lease what is next; `Prefer: wait=25` waits for something")  # fmt: skip
def lease(call: Call, run_id: str) -> Response:
    query: MailboxQuery = call.query

    def look() -> dict[str, Any]:
        return call.chat.mailbox.lease(
            call.principal, run_id, holder=query.holder, limit=query.limit,
            task_end=query.point == "task_end",
        )  # fmt: skip

    def give_back(leased: dict[str, Any]) -> None:
        ids = [item["event"]["id"] for item in leased["items"]]
        if ids:
            call.chat.mailbox.release(call.principal, run_id, Release(holder=query.holder, ids=ids))

    found = look()
    wait_s = preferred_wait_s(request, call.chat.settings.long_poll_max_s)
    if found["items"] or wait_s == 0:
        return answer(found)
    return hold(
        call.web.live, run_id, wait_s=wait_s, wakes=_WAKES, look=look,
        enough=lambda seen: bool(seen["items"]) or seen["status"] != found["status"],
        unheard=give_back,
    )  # fmt: skip


@route(bp, "POST", _RUN + "/mailbox/confirm", who=Who.AGENT, body=Confirm, answers={200: Confirmed},
       refuses=(NotFound, RunEnded),
       summary="The model was given these; writes `in_context`")  # fmt: skip
def confirm(call: Call, run_id: str) -> Response:
    return answer(call.chat.mailbox.confirm(call.principal, run_id, call.body))


@route(bp, "POST", _RUN + "/mailbox/release", who=Who.AGENT, body=Release, answers={200: Released},
       refuses=(NotFound,), summary="Give leases back at once")  # fmt: skip
def release(call: Call, run_id: str) -> Response:
    return answer(call.chat.mailbox.release(call.principal, run_id, call.body))


@route(bp, "POST", _RUN + "/heartbeat", who=Who.AGENT, body=Heartbeat, answers={200: Beaten},
       refuses=(NotFound,), summary="The agent's side lives; renews its leases",
       example={"holder": "sidecar-1", "step": 4})  # fmt: skip
def heartbeat(call: Call, run_id: str) -> Response:
    return answer(call.chat.runs.heartbeat(call.principal, run_id, call.body))


@route(bp, "POST", _RUN + "/events", who=Who.AGENT, body=Report, answers={200: Reports},
       refuses=(NotFound, RunEnded, IllegalMove, IdempotencyMismatch),
       summary="What the agent says and does, all or none",
       example={"events": [{"key": "1", "kind": "message", "body": {"text": "Reading cart.py"}}]},
       )  # fmt: skip
def events(call: Call, run_id: str) -> Response:
    return answer(call.chat.agents.report(call.principal, run_id, call.body))


@route(bp, "POST", _RUN + "/deltas", who=Who.AGENT, body=Delta, answers={200: Units},
       refuses=(NotFound, RunEnded),
       summary="Streamed text of a message that is not finished")  # fmt: skip
def deltas(call: Call, run_id: str) -> Response:
    return answer(call.chat.agents.delta(call.principal, run_id, call.body))


@route(bp, "POST", _RUN + "/finish", who=Who.AGENT, body=FinishRequest, answers={200: Finished},
       refuses=(NotFound, MailboxNotEmpty, IllegalMove),
       summary="End the run; `completed` only when nothing is unread")  # fmt: skip
def finish(call: Call, run_id: str) -> Response:
    return answer(call.chat.runs.finish(call.principal, run_id, call.body))


@route(bp, "POST", _RUN + "/hold", who=Who.AGENT, body=HoldRequest, answers={200: Finished},
       refuses=(NotFound, RunEnded, MailboxNotEmpty, IllegalMove),
       summary="Go on hold with a checkpoint, only when nothing is unread; or say why not",
       example={"holder": "sidecar-1", "generation": 0, "checkpoint": {"text": "commit 3f2a", "step": 4}},
       )  # fmt: skip
def go_on_hold(call: Call, run_id: str) -> Response:
    return answer(call.chat.holding.hold(call.principal, run_id, call.body))


@route(bp, "GET", _RUN + "/checkpoint", who=Who.AGENT, answers={200: Kept}, refuses=(NotFound,),
       summary="What the run's last process left when it went on hold")  # fmt: skip
def checkpoint(call: Call, run_id: str) -> Response:
    return answer(call.chat.holding.checkpoint(call.principal, run_id))
