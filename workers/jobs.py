"""The tasks, under the names that an admin reads in Flower."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from celery import Task
from redis.exceptions import LockError

from chat.errors import NotFound, Unavailable
from workers.app import app, chat

_AGAIN: dict[str, Any] = {
    "autoretry_for": (Unavailable,),
    "retry_backoff": 1,
    "retry_backoff_max": 15,
    "retry_jitter": True,
    "max_retries": 5,  # the sweep queues it again after that
}


_ROUND_S = 15
"""After that long a round that goes on keeps no other from beginning: its worker may have been killed."""


@contextmanager
def _alone(name: str) -> Iterator[bool]:
    """Whether nobody else is at it. What comes every few seconds and takes longer while the store or AWS is
    slow would else fill every process, and nobody would start agents or store what they say."""
    lock = chat().redis.lock(f"alone:{name}", timeout=_ROUND_S, blocking=False)
    mine = lock.acquire()
    try:
        yield mine
    finally:
        with suppress(LockError):  # it took longer, and somebody else has begun
            if mine:
                lock.release()


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


@app.task(name="advance", **_AGAIN)
def advance(feature_id: str) -> str | None:
    """Take a feature's pipeline of roles on: a run has ended, or a person has decided something."""
    try:
        return chat().pipelines.advance(feature_id)
    except NotFound:
        return None


@app.task(name="sweep")
def sweep() -> dict[str, int]:
    """Find what a crash left behind."""
    with _alone("sweep") as mine:
        if not mine:
            return {}
        swept = chat().delivery.sweep()
        counts = {name: getattr(swept, name) for name in swept.__slots__}
        return counts | {"pipelines": chat().pipelines.sweep()}


@app.task(name="events")
def events() -> int:
    """Look at the agents whose runtime says by itself that something has changed."""
    hints = chat().hints()
    if hints is None:
        return 0
    found = hints.receive()
    ended = chat().delivery.look_at(found)
    hints.done(found)
    return ended


@app.task(name="quiet")
def quiet() -> int:
    """Find agents that leave something unread too long."""
    return chat().delivery.look_for_quiet()


@app.task(name="nudge", bind=True, acks_late=False)
def nudge(self: Task, run_id: str) -> bool | None:
    """Tell one agent's side to look into its mailbox; whether it worked."""
    said = chat().delivery.nudge(run_id, str(self.request.id))
    return None if said is None else said["body"].get("failure") is None


@app.task(name="watch")
def watch() -> int:
    """Hold the agents' processes against their logs."""
    with _alone("watch") as mine:
        return chat().delivery.watch() if mine else 0
