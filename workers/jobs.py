"""The tasks, under the names that an admin reads in Flower."""

from __future__ import annotations

from typing import Any

from chat.errors import NotFound, Unavailable
from workers.app import app, chat

_AGAIN: dict[str, Any] = {
    "autoretry_for": (Unavailable,),
    "retry_backoff": 1,
    "retry_backoff_max": 15,
    "retry_jitter": True,
    "max_retries": 5,  # the sweep queues it again after that
}


@app.task(name="store", **_AGAIN)
def store(run_id: str) -> int:
    """Write a run's log into the database, and let the agent take what is stored."""
    try:
        return chat().delivery.drain(run_id)
    except NotFound:
        return 0


@app.task(name="forward", **_AGAIN)
def forward(run_id: str) -> int:
    """Let the agent take what is stored already."""
    return chat().delivery.forward(run_id)


@app.task(name="launch", **_AGAIN)
def launch(run_id: str) -> str | None:
    """Start a run's agent."""
    return chat().delivery.launch(run_id)


@app.task(name="sweep")
def sweep() -> dict[str, int]:
    """Find what a crash left behind."""
    swept = chat().delivery.sweep()
    return {name: getattr(swept, name) for name in swept.__slots__}


@app.task(name="watch")
def watch() -> int:
    """Hold the agents' processes against their logs."""
    return chat().delivery.watch()
