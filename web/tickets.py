"""Tickets for a WebSocket that cannot carry a cookie.

ticket:{sha256 of the ticket}   string: the principal as JSON; 60 s; taken with GETDEL, so used once
"""

from __future__ import annotations

import hashlib
from typing import Final, cast

import redis
from flask import Blueprint, Response

from chat.access import Principal
from chat.errors import Unauthenticated, Unavailable
from chat.ids import new_token
from web.endpoint import Call, Who, answer, route
from web.shapes import TicketMade

bp = Blueprint("tickets", __name__)
LIFETIME_S: Final = 60


class Tickets:
    """32 random bytes; only the hash is kept."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client

    def make(self, principal: Principal) -> str:
        """A ticket for this principal, good once within LIFETIME_S."""
        ticket = new_token("tkt")
        try:
            self._redis.set(_key(ticket), principal.model_dump_json(), ex=LIFETIME_S)
        except redis.RedisError as error:
            raise Unavailable("No ticket can be made at the moment.") from error
        return ticket

    def redeem(self, ticket: str) -> Principal:
        """Whose ticket it is; it is used up. Raises Unauthenticated."""
        try:
            kept = cast("bytes | None", self._redis.getdel(_key(ticket)))
        except redis.RedisError as error:
            raise Unavailable("The ticket cannot be checked at the moment.") from error
        if kept is None:
            raise Unauthenticated("This ticket is not known, was used, or is older than a minute.")
        return Principal.model_validate_json(kept)


def _key(ticket: str) -> str:
    return "ticket:" + hashlib.sha256(ticket.encode(errors="replace")).hexdigest()


@route(bp, "POST", "/api/tickets", who=Who.PERSON, answers={201: TicketMade},
       summary="A ticket for a WebSocket without a cookie")  # fmt: skip
def make(call: Call) -> Response:
    return answer({"ticket": call.web.tickets.make(call.principal)}, 201)
