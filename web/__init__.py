"""The web process: HTTP, and everything that stays open."""

from __future__ import annotations

import os
import time

import structlog
from flask import Flask, Response, g, request

from chat.bootstrap import Chat, bootstrap
from chat.ids import new_id
from chat.logs import configure
from chat.settings import Settings, load_settings
from web import (
    auth,
    catalog,
    csrf,
    headers,
    live,
    mailbox,
    messages,
    meta,
    orders,
    pages,
    pipelines,
    problems,
    questions,
    runs,
    session,
    sign_outs,
    streams,
    terminals,
    tickets,
)
from web.endpoint import Web
from web.limits import Limits
from web.problems import HttpError
from web.tasks import BackgroundTasks

_log = structlog.get_logger(__name__)
_PROBES = frozenset({"/healthz", "/readyz"})


class UnknownHost(HttpError):
    """The Host header does not name us."""

    code, title, status = "unknown_host", "This host is not served here", 421


def create_app(settings: Settings | None = None, chat: Chat | None = None) -> Flask:
    """The WSGI application of one process, wired from the environment unless told otherwise."""
    if settings is None:
        settings = chat.settings if chat else load_settings(os.environ)
    configure(settings.log_level)
    app = Flask(__name__)
    if chat is None:
        tasks = BackgroundTasks(settings.broker_url)
        chat = bootstrap(settings, tasks=tasks)
        chat.store.create_schema()
        app.extensions["tasks"] = tasks
    app.config.update(
        MAX_CONTENT_LENGTH=settings.body_max_bytes,
        MAX_FORM_MEMORY_SIZE=settings.body_max_bytes,
        TRAP_HTTP_EXCEPTIONS=False,
    )
    app.url_map.strict_slashes = True
    limits = Limits(settings)
    app.extensions["web"] = Web(
        chat=chat,
        limits=limits,
        tickets=tickets.Tickets(chat.redis),
        live=live.Live(chat, limits),
        sign_outs=sign_outs.SignOuts(chat.redis),
        terminals=terminals.OpenTerminals(),
    )
    auth.register(app, settings)
    problems.register(app)
    headers.register(app, https=settings.public_url.startswith("https:"))
    _watch_requests(app, settings)
    for room in (
        session, catalog, runs, messages, streams, questions, orders, mailbox, tickets, meta, pages,
        pipelines,
    ):  # fmt: skip
        app.register_blueprint(room.bp)
    live.register(app)
    terminals.register(app)
    return app


def _watch_requests(app: Flask, settings: Settings) -> None:
    """Hosts that are ours, and one line in the log for each request: ids and times, never words."""

    def before() -> None:
        g.began = time.perf_counter()
        g.request_id = new_id("req")
        if request.path not in _PROBES and not csrf.known_host(request.host, settings):
            raise UnknownHost("Ask for this site by the address in PUBLIC_URL.")

    def after(response: Response) -> Response:
        response.headers["X-Request-Id"] = g.get("request_id", "")
        if not request.path.startswith("/static/") and request.path not in _PROBES:
            # agents poll and report all the time: what went well of that would bury everything else
            routine = response.status_code < 400 and "Authorization" in request.headers
            (_log.debug if routine else _log.info)(
                "web.request",
                request_id=g.get("request_id"),
                method=request.method,
                route=request.url_rule.rule if request.url_rule else None,
                run_id=(request.view_args or {}).get("run_id"),
                status=response.status_code,
                ms=round((time.perf_counter() - g.get("began", time.perf_counter())) * 1000, 2),
            )
        return response

    app.before_request(before)
    app.after_request(after)
