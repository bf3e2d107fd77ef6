"""Whether a request comes from a page of ours: for what a browser may be tricked into sending."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from flask import Request

from chat.errors import Forbidden
from chat.settings import Settings

_BROWSER: Final = ("Sec-Fetch-Site", "Sec-Fetch-Mode", "Sec-Fetch-Dest", "Referer")
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class BadOrigin(Forbidden):
    """The request did not come from a page of ours."""

    code = "bad_origin"
    title = "Not from this site"


def check(request: Request, settings: Settings) -> None:
    """Refuse a state-changing request that another site's page may have sent.

    With an `Origin` it must be on the list, exactly (RFC 6454); else `Sec-Fetch-Site` must say
    `same-origin`; a request with no browser header at all comes from a command line. Raises BadOrigin.
    """
    origin = request.headers.get("Origin")
    if origin is not None:
        if origin not in settings.allowed_origins:
            raise BadOrigin("The page that sent this is not on the list of allowed origins.")
        return
    site = request.headers.get("Sec-Fetch-Site")
    if site == "same-origin":
        return
    if any(name in request.headers for name in _BROWSER):
        raise BadOrigin("A browser sent this without saying which of our pages it is from.")


def check_socket(request: Request, settings: Settings, *, signed_in: bool) -> None:
    """The same for a WebSocket's handshake, which browsers send across sites with cookies.

    Without an Origin it is no browser: then a cookie does not count, only a ticket in the first frame.
    """
    if request.headers.get("Authorization"):
        raise Forbidden("Agents use the mailbox; people sign in or bring a ticket.")
    if request.headers.get("Origin") is None and not signed_in:
        return
    if request.headers.get("Origin") not in settings.allowed_origins:
        raise BadOrigin("A live connection is opened from a page of ours only.")


def known_host(host: str, settings: Settings) -> bool:
    """Whether the Host header names us: against DNS rebinding and poisoned links."""
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:
        return False
    ours = {
        urlsplit(origin).hostname
        for origin in (*settings.allowed_origins, settings.public_url, settings.agent_url)
    }
    return name in ours or name in _LOOPBACK
