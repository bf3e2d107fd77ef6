"""Waking the workers: a task by its name, sent from a thread of its own, never on a request's path.

A task that cannot be sent is dropped: the workers' sweep finds what it was about.
"""

from __future__ import annotations

import os
import queue
import threading

import structlog
from celery import Celery

_WAITING_MAX = 10_000
_QUEUES = {"store": "live", "forward": "live", "launch": "runs"}
log = structlog.get_logger("tasks")


class WakeUp:
    """`ports.Tasks` of the web process: returns at once; safe to make before a fork."""

    def __init__(self, broker_url: str) -> None:
        self._broker_url = broker_url
        self._waiting: queue.Queue[tuple[str, tuple[str, ...]]] = queue.Queue(_WAITING_MAX)
        self._lock = threading.Lock()
        self._pid = 0

    def enqueue(self, name: str, *args: str) -> None:
        """Queue a task for a worker."""
        if self._pid != os.getpid():
            self._begin()
        try:
            self._waiting.put_nowait((name, args))
        except queue.Full:
            log.warning("task_dropped", task=name, reason="the broker is slow or away")

    def _begin(self) -> None:
        with self._lock:
            if self._pid != os.getpid():
                self._pid = os.getpid()
                threading.Thread(target=self._send_all, name="wake-up", daemon=True).start()

    def _send_all(self) -> None:
        app = Celery("web", broker=self._broker_url, set_as_current=False)
        app.conf.update(
            task_ignore_result=True, broker_connection_timeout=2, task_publish_retry=False,
            task_send_sent_event=True,
        )  # fmt: skip
        while True:
            name, args = self._waiting.get()
            try:
                app.send_task(name, args=args, queue=_QUEUES.get(name, "upkeep"))
            except Exception as error:  # noqa: BLE001 - whatever the broker's driver raises
                log.warning("task_dropped", task=name, reason=type(error).__name__)
