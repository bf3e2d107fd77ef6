"""Signing in and out. Local sign-in asks for a name only, and is open to this machine alone."""

from __future__ import annotations

from flask import Blueprint, Response, request, session

from chat.access import Permission, Principal, may
from chat.errors import Forbidden, Unauthenticated, Unavailable
from web import auth
from web.endpoint import Call, Who, answer, route
from web.shapes import SessionShape, SignIn

bp = Blueprint("session", __name__)


def _shown(call: Call, principal: Principal) -> dict[str, object]:
    terminal = call.chat.terminals.is_on and may(principal, Permission.EXEC, None)
    return {
        "principal": principal.model_dump(mode="json", include={"kind", "id", "name", "level"}),
        "flower_url": call.chat.settings.flower_url,
        "terminal": terminal,
    }


@route(bp, "POST", "/api/session", who=Who.ANYBODY, body=SignIn, answers={201: SessionShape},
       refuses=(Forbidden, Unavailable), summary="Sign in on this machine")  # fmt: skip
def sign_in(call: Call) -> Response:
    if not auth.on_this_machine(request, call.chat.settings):
        raise Forbidden("Local sign-in is open to this machine only.")
    principal = auth.local_person(call.body.name)
    _end_session(call)  # whoever signs in over somebody ends that session
    auth.remember(principal)
    return answer(_shown(call, principal), 201)


@route(bp, "GET", "/api/session", who=Who.ANYBODY, answers={200: SessionShape},
       refuses=(Unauthenticated,), summary="Who am I")  # fmt: skip
def who_am_i(call: Call) -> Response:
    return answer(_shown(call, auth.demand_person(request)))


@route(bp, "DELETE", "/api/session", who=Who.ANYBODY, answers={204: None}, refuses=(Unavailable,),
       summary="Sign out")  # fmt: skip
def sign_out(call: Call) -> Response:
    _end_session(call)
    session.clear()
    return Response(status=204)


def _end_session(call: Call) -> None:
    """Nobody is signed in here any more, and copies of the cookie are worth nothing. Raises Unavailable when
    only the first could be done: the cookie keeps the session's name alone, so that it can be asked again.
    """
    session.pop("who", None)
    if (sid := auth.session_id()) is not None:
        call.web.sign_outs.note(sid)
