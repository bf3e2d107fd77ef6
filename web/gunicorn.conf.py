"""gunicorn: threads for plain requests; what stays open is handed to each process's event loop."""

from __future__ import annotations

import os
import resource
from typing import Any

from chat.settings import load_settings

_settings = load_settings(os.environ)

bind = [f"[{_settings.host}]:{_settings.port}" if ":" in _settings.host
        else f"{_settings.host}:{_settings.port}"]  # fmt: skip
worker_class = "gthread"
workers = _settings.web_workers
threads = _settings.web_threads
worker_connections = 2_000
backlog = 4_096  # everybody comes back at once after a restart
keepalive = 75  # longer than a load balancer's idle time-out, or it meets closed connections
timeout = 60
graceful_timeout = 10
max_requests = 0  # a restart would send every socket away
preload_app = False  # the loop, the threads and the connections belong to the worker
forwarded_allow_ips = "127.0.0.1"
limit_request_line = 8_190
limit_request_fields = 64
limit_request_field_size = 8_190
accesslog = None  # the app writes one line a request
loglevel = _settings.log_level.lower()
control_socket_disable = True
proc_name = "omakase-web"


def post_fork(server: Any, worker: Any) -> None:  # noqa: ARG001 - gunicorn's signature
    """Each socket is a descriptor: allow as many as the system does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def worker_exit(server: Any, worker: Any) -> None:  # noqa: ARG001 - gunicorn's signature
    """Tell everybody who is connected to come back elsewhere (1001), and send what waits for the broker."""
    made = getattr(getattr(worker, "wsgi", None), "extensions", {})
    if "web" in made:
        made["web"].live.stop()
        made["web"].terminals.stop()
    if "tasks" in made:
        made["tasks"].stop()
