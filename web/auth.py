"""Who speaks, from the credentials alone: a cookie for people, a bearer token for an agent's run."""

from __future__ import annotations

import hashlib
import ipaddress
from typing import Any, Final

from flask import Flask, Request, session
from werkzeug.middleware.proxy_fix import ProxyFix

from chat.access import Level, Principal
from chat.errors import Forbidden, Unauthenticated
from chat.events import SenderKind
from chat.ids import new_id
from chat.service.tokens import Tokens
from chat.settings import Settings

_FORWARDED: Final = (
    "HTTP_FORWARDED", "HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_HOST", "HTTP_X_FORWARDED_PROTO",
    "HTTP_X_FORWARDED_PORT", "HTTP_X_FORWARDED_PREFIX", "HTTP_X_REAL_IP", "HTTP_VIA",
)  # fmt: skip
_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_DAYS_30_S: Final = 2_592_000


def register(app: Flask, settings: Settings) -> None:
    """Set up the cookie, and trust exactly as many proxies as there are."""
    app.config.update(
        SECRET_KEY=settings.secret_key,
        SESSION_COOKIE_NAME="omakase_session",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Strict",
        SESSION_COOKIE_SECURE=settings.public_url.startswith("https:"),
        SESSION_REFRESH_EACH_REQUEST=False,
        PERMANENT_SESSION_LIFETIME=_DAYS_30_S,
    )
    hops = settings.trusted_proxies
    if hops:
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=hops, x_proto=hops, x_host=hops)  # type: ignore[method-assign]


def local_person(name: str) -> Principal:
    """A person who signed in on this machine: the same name is the same person again."""
    digest = int.from_bytes(hashlib.sha256(name.strip().casefold().encode()).digest()[:17])
    spelled = "".join(_ALPHABET[(digest >> shift) & 31] for shift in range(125, -1, -5))
    return Principal(
        kind=SenderKind.PERSON, id=f"usr_{spelled}", name=name.strip(), level=Level.OWNER
    )


def remember(principal: Principal) -> None:
    """Put a person into the signed cookie."""
    session.clear()
    session.permanent = True
    session["who"] = {"id": principal.id, "name": principal.name, "level": principal.level}
    session["sid"] = new_id("ses")


def session_id() -> str | None:
    """The name of this signing in, which signing out puts on a list (sign_outs.py)."""
    sid = session.get("sid")
    return sid if isinstance(sid, str) else None


def person() -> Principal | None:
    """The person of the cookie, or None."""
    who: Any = session.get("who")
    if not isinstance(who, dict):
        return None
    try:
        return Principal(
            kind=SenderKind.PERSON, id=who["id"], name=who["name"], level=Level(who["level"])
        )
    except (KeyError, ValueError):
        return None


def demand_person(request: Request) -> Principal:
    """Raises Unauthenticated without a cookie, Forbidden with a run's token."""
    if "Authorization" in request.headers:
        raise Forbidden("A run's token opens the agent's paths only.")
    if (found := person()) is None:
        raise Unauthenticated("Sign in: POST /api/session.")
    return found


def demand_agent(request: Request, tokens: Tokens, run_id: str) -> Principal:
    """The run whose token it is. Raises Unauthenticated, or NotFound when it is another run's."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated("Send the run's token: Authorization: Bearer ….")
    return tokens.agent(run_id, token.strip())


def on_this_machine(request: Request, settings: Settings) -> bool:
    """Whether local sign-in is open to this request: the peer itself is near, and no proxy is between."""
    if not settings.local_sign_in or any(name in request.environ for name in _FORWARDED):
        return False
    before_proxies = request.environ.get("werkzeug.proxy_fix.orig", {})
    peer = before_proxies.get("REMOTE_ADDR") or request.environ.get("REMOTE_ADDR", "")
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:
        return False
    return any(address in ipaddress.ip_network(near) for near in settings.local_sign_in_from)
