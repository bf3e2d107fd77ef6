"""The Celery peer: the tasks that somebody would write without a run log. `celery -A bench.peer_tasks worker`.

The same broker, the same settings of the worker and the same database as ours.
"""

from __future__ import annotations

import os
from functools import cache

from celery import Celery

from chat.bootstrap import open_store
from chat.ports import Record, Store
from chat.settings import load_settings

settings = load_settings(os.environ)
app = Celery("peer", broker=settings.broker_url, backend=settings.redis_url)
app.conf.update(
    task_default_queue="peer",
    task_acks_late=True,
    worker_prefetch_multiplier=1,
    worker_send_task_events=True,
    broker_connection_retry_on_startup=True,
)


@cache
def store() -> Store:
    return open_store(settings)


@app.task(name="echo")
def echo(words: str) -> str:
    """A round trip with nothing in it."""
    return words


@app.task(name="keep", ignore_result=True)
def keep(run_id: str, seq: int, data: str) -> None:
    """Store one event."""
    run = store().run(run_id)
    assert run is not None
    store().put_events(run, [Record(seq, data.encode())])
