"""How an ECS task stands, out of what DescribeTasks says of it, and why it stopped, for people.

Stop codes and reasons: https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_Task.html and
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/stopped-task-error-codes.html
"""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from chat.adapters.ecs_faults import is_no_room, reason_words
from chat.drafts import millis
from chat.ports import Alive

PENDING: Final = frozenset({"PROVISIONING", "PENDING", "ACTIVATING"})
STOPPED: Final = "STOPPED"
GONE: Final = "ECS does not know the task any more, and nothing was heard from its agent."

_BY_CODE: Final[Mapping[str, str]] = MappingProxyType(
    {
        "ServiceSchedulerInitiated": "An ECS service stopped the task.",
        "SpotInterruption": "AWS took back the Spot capacity on which the task ran.",
        "TerminationNotice": "The machine on which the task ran was shut down.",
        "InfrastructureHealth": "AWS retired the machine on which the task ran.",
    }
)
_NOT_STARTED: Final = (
    ("CannotPull", "its image could not be fetched"),
    ("ResourceInitializationError", "its secrets, logs or network could not be set up"),
    ("CannotStartContainer", "its command could not be executed"),
    ("CannotCreateContainer", "its container could not be made"),
    ("ContainerRuntime", "its container could not be run"),
    ("OutOfMemory", "it has too little memory to begin"),
    ("InternalError", "AWS has a fault of its own"),
)
_OURS: Final = "Omakase: "


def alive(task: Mapping[str, Any], container: str) -> Alive:
    """A task as the port says it; `container` is the agent's."""
    status = str(task.get("lastStatus", ""))
    version = int(task.get("version") or 0)
    if status != STOPPED:
        started = task.get("startedAt")
        return Alive(
            running=True,
            pending=status in PENDING,
            version=version,
            started_ms=millis(started) if started is not None else None,
        )
    containers: list[Mapping[str, Any]] = task.get("containers", [])
    own: Mapping[str, Any] = next((c for c in containers if c.get("name") == container), {})
    code = own.get("exitCode")
    stop_code = str(task.get("stopCode") or "EssentialContainerExited")
    reason = " ".join(str(task.get("stoppedReason") or "").split())
    detail = " ".join(str(own.get("reason") or "").split())
    why = f"{reason} {detail}"
    # ECS itself was throttled on its way to the run's secret, say: like no room, it passes
    passes = is_no_room(why) or "ThrottlingException" in why or "Rate exceeded" in why
    no_room = stop_code == "TaskFailedToStart" and passes
    return Alive(
        running=False,
        exit_code=code,
        stop_code=stop_code,
        reason=reason_words(reason or detail)
        if no_room
        else words(stop_code, reason, detail, code),
        no_room=no_room,
        version=version,
    )


def words(stop_code: str, reason: str, detail: str, exit_code: int | None) -> str:
    """Why it stopped: our words, then what AWS said, its stop code and the exit code."""
    said = _said(stop_code, reason, detail, exit_code)
    behind = [stop_code]
    if exit_code is not None:
        behind.append(f"exit code {exit_code}")
    quoted = [part for part in (detail, reason) if part and not _is_empty(part)]
    if quoted:
        behind.append(f"AWS says: {quoted[0][:600].rstrip('.')}")
    return f"{said} ({'; '.join(behind)})"


def _said(stop_code: str, reason: str, detail: str, exit_code: int | None) -> str:
    if stop_code == "TaskFailedToStart":
        for mark, why in _NOT_STARTED:
            if mark in reason or mark in detail:
                return f"The task could not be started: {why}."
        return "The task could not be started."
    if stop_code == "UserInitiated":
        who = "Omakase" if reason.startswith(_OURS) else "Somebody with access to AWS"
        return f"{who} stopped the task."
    if stop_code in _BY_CODE:
        return _BY_CODE[stop_code]
    if "OutOfMemory" in detail or "OutOfMemory" in reason:
        return "The agent's container ran out of memory and was killed."
    return f"The agent's container ended{_by(exit_code)} and said no goodbye."


def _by(exit_code: int | None) -> str:
    if exit_code is None or exit_code <= 128:  # 128 + n is a signal's, in every shell
        return ""
    try:
        name = signal.Signals(exit_code - 128).name
    except ValueError:
        return ""
    why = ", as when memory is short or its time to stop was over" if name == "SIGKILL" else ""
    return f" by {name}{why},"


def _is_empty(text: str) -> bool:
    """Words of ECS that say nothing more than its stop code does."""
    return re.fullmatch(r"Essential container in task exited\.?", text) is not None
