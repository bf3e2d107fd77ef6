"""The Celery application. `celery -A workers.app worker | beat | flower`.

Tasks are short, safe to run twice, and acknowledged late: one that a killed worker had taken comes
again, and what is lost all the same the sweep finds. Queues: `live` (store, forward: somebody
waits), `runs` (launch, advance, events, nudge), `upkeep` (sweep, watch, quiet).
"""

from __future__ import annotations

import os
import warnings
from functools import cache

import structlog
from celery import Celery
from celery.platforms import SecurityWarning
from kombu.entity import Exchange, Queue
from kombu.exceptions import OperationalError

from chat.bootstrap import Chat, bootstrap
from chat.logs import configure
from chat.settings import load_settings

# in a container the worker is root of nothing, and it reads no pickles
warnings.filterwarnings("ignore", category=SecurityWarning)
settings = load_settings(os.environ)
log = structlog.get_logger("workers")

app = Celery("omakase", broker=settings.broker_url, include=["workers.jobs"])
app.conf.update(
    task_queues=[
        Queue(name, Exchange(name), routing_key=name)  # type: ignore[no-untyped-call]  # kombu has no types here
        for name in ("live", "runs", "upkeep")
    ],
    task_default_queue="upkeep",
    task_routes={
        "store": {"queue": "live"},
        "forward": {"queue": "live"},
        "launch": {"queue": "runs"},
        "advance": {"queue": "runs"},
        "events": {"queue": "runs"},
        "nudge": {"queue": "runs"},
    },
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=True,
    task_store_errors_even_if_ignored=False,
    worker_prefetch_multiplier=1,
    worker_send_task_events=True,
    task_send_sent_event=True,
    broker_connection_retry_on_startup=True,
    broker_transport_options={
        "visibility_timeout": 60,  # the longest task takes seconds
        "socket_keepalive": True,
        "health_check_interval": 10,
    },
    worker_cancel_long_running_tasks_on_connection_loss=False,  # they are safe to run twice
    timezone="UTC",
    beat_schedule={
        "sweep": {"task": "sweep", "schedule": 5.0, "options": {"expires": 5}},
        "watch": {
            "task": "watch",
            "schedule": settings.watch_every_s,
            "options": {"expires": settings.watch_every_s},
        },
    },
)

if settings.runtime == "ecs":
    app.conf.beat_schedule |= {
        "events": {"task": "events", "schedule": 3.0, "options": {"expires": 3}},
        "quiet": {"task": "quiet", "schedule": 10.0, "options": {"expires": 10}},
    }


class CeleryTasks:
    """`ports.Tasks` of a worker."""

    def enqueue(self, name: str, *args: str) -> None:
        """Queue a task by its name. One that the broker does not take is lost: the sweep finds it."""
        try:
            app.send_task(name, args=args, retry=False)
        except (OperationalError, OSError) as error:
            log.warning("task_not_sent", task=name, error=type(error).__name__)


@cache
def chat() -> Chat:
    """The use cases, connected once per process."""
    configure(settings.log_level)
    made = bootstrap(settings, tasks=CeleryTasks())
    made.store.create_schema()
    return made
