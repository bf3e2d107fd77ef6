"""The web application with its store's calls counted: `gunicorn bench.counted:app()`.

`GET /bench/store-calls` says how many there were. The store is passed in as anybody may pass one in.
"""

from __future__ import annotations

import os
from typing import Any

from flask import Flask

from chat.bootstrap import bootstrap, open_store
from chat.settings import load_settings
from web import create_app
from web.tasks import BackgroundTasks


class Counted:
    """A store that counts how often it is asked."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        self.calls += 1
        return getattr(self._store, name)


def app() -> Flask:
    settings = load_settings(os.environ)
    store: Any = Counted(open_store(settings))
    store.create_schema()
    chat = bootstrap(settings, tasks=BackgroundTasks(settings.broker_url), store=store)
    made = create_app(chat=chat)
    made.add_url_rule("/bench/store-calls", view_func=lambda: str(store.calls))
    return made
