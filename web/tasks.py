"""Waking the workers without waiting for the broker: tasks are started by their names."""

from __future__ import annotations

import queue
import threading
from typing import Final

import structlog
from celery import Celery
from kombu.exceptions import OperationalError

_log = structlog.get_logger(__name__)
_QUEUES: Final = {"store": "live", "forward": "live", "launch": "runs", "advance": "runs"}
_WAITING_MAX: Final = 10_000


class BackgroundTasks:
    """`ports.Tasks`: a request only puts the name into a queue; one thread talks to the broker.

    What is lost here (a full queue, a broker that is away, a killed process) the workers' sweep finds.
    """

    def __init__(self, broker_url: str) -> None:
        self._celery = Celery("omakase-web", broker=broker_url)
        self._celery.conf.update(
            task_ignore_result=True,
            task_send_sent_event=True,
            broker_transport_options={"socket_keepalive": True, "socket_connect_timeout": 3},
        )
        self._waiting: queue.Queue[tuple[str, tuple[str, ...]] | None] = queue.Queue(_WAITING_MAX)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def enqueue(self, name: str, *args: str) -> None:
        """Have a task queued soon; returns at once."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="tasks", daemon=True)
                self._thread.start()
        try:
            self._waiting.put_nowait((name, args))
        except queue.Full:
            _log.warning("tasks.dropped", task=name)

    def stop(self, timeout_s: float = 2.0) -> None:
        """Send what waits, and end the thread."""
        if self._thread is not None:
            self._waiting.put(None)
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while (found := self._waiting.get()) is not None:
            name, args = found
            try:
                self._celery.send_task(
                    name, args=args, queue=_QUEUES.get(name, "upkeep"), retry=False
                )
            except (OperationalError, OSError) as error:
                _log.warning("tasks.not_sent", task=name, error=type(error).__name__)
