"""Why a task stopped, as a person reads it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError

from chat.adapters.ecs_faults import fault
from chat.adapters.ecs_words import alive
from chat.errors import Unavailable

SPOT = "Your Spot Task was interrupted."


def stopped(
    code: str | None = None, reason: str = "", detail: str = "", exit_code: Any = None
) -> Any:
    own = {"name": "agent", "reason": detail} | (
        {} if exit_code is None else {"exitCode": exit_code}
    )
    task = {"lastStatus": "STOPPED", "stoppedReason": reason, "version": 7}
    other = {"name": "sidecar", "exitCode": 99, "reason": "not asked for"}
    return task | ({"stopCode": code} if code else {}) | {"containers": [other, own]}


@pytest.mark.parametrize(
    ("task", "words"),
    [
        (
            stopped("EssentialContainerExited", "Essential container in task exited", "", 1),
            "The agent's container ended and said no goodbye. (EssentialContainerExited; exit code 1)",
        ),
        (
            stopped("EssentialContainerExited", "Essential container in task exited", "", 143),
            "ended by SIGTERM, and said no goodbye.",
        ),
        (
            stopped("EssentialContainerExited", "", "", 137),
            "by SIGKILL, as when memory is short or its time to stop was over,",
        ),
        (
            stopped("EssentialContainerExited", "", "OutOfMemoryError: Container killed", 137),
            "ran out of memory and was killed. (EssentialContainerExited; exit code 137; AWS says: OutOf",
        ),
        (
            stopped("SpotInterruption", SPOT),
            "AWS took back the Spot capacity on which the task ran.",
        ),
        (stopped("TerminationNotice"), "The machine on which the task ran was shut down."),
        (stopped("InfrastructureHealth"), "AWS retired the machine on which the task ran."),
        (stopped("ServiceSchedulerInitiated"), "An ECS service stopped the task."),
        (stopped("UserInitiated", "clearing up"), "Somebody with access to AWS stopped the task."),
        (stopped("UserInitiated", "Omakase: the run is over"), "Omakase stopped the task."),
        (
            stopped("TaskFailedToStart", "CannotPullContainerError: pull access denied"),
            "could not be started: its image could not be fetched. (TaskFailedToStart; AWS says: Cannot",
        ),
        (
            stopped("TaskFailedToStart", "ResourceInitializationError: unable to pull secrets"),
            "its secrets, logs or network could not be set up.",
        ),
        (
            stopped("TaskFailedToStart", "", "CannotStartContainerError: exec: no"),
            "its command could not",
        ),
        (stopped("NewAndUnheardOf", "why not"), "(NewAndUnheardOf; AWS says: why not)"),
    ],
)
def test_a_stop_is_told_with_its_code_its_exit_code_and_awss_own_words(
    task: Any, words: str
) -> None:
    state = alive(task, "agent")

    assert words in (state.reason or "")
    assert not state.running
    assert not state.no_room
    assert state.stop_code == (task.get("stopCode") or "EssentialContainerExited")
    assert state.exit_code != 99
    assert state.version == 7


def test_want_of_capacity_is_told_apart_from_other_failures_to_start() -> None:
    said = "Capacity is unavailable at this time. Please try again later or in another zone"

    state = alive(stopped("TaskFailedToStart", said), "agent")

    assert state.no_room
    assert state.reason == "AWS has no capacity for the task in these zones at the moment."


@pytest.mark.parametrize(
    ("status", "pending"),
    [
        ("PROVISIONING", True), ("PENDING", True), ("ACTIVATING", True), ("RUNNING", False),
        ("DEACTIVATING", False), ("STOPPING", False), ("DEPROVISIONING", False),
    ],
)  # fmt: skip
def test_every_state_before_the_last_is_alive(status: str, *, pending: bool) -> None:
    since = datetime(2026, 11, 22, tzinfo=UTC)

    state = alive(
        {"lastStatus": status, "version": 2, "startedAt": since, "containers": []}, "agent"
    )

    assert (state.running, state.pending) == (True, pending)
    assert state.started_ms == since.timestamp() * 1000


def test_an_image_that_may_not_be_fetched_is_no_want_of_room_and_throttling_of_ecs_itself_passes() -> (
    None
):
    private = (
        "CannotPullContainerError: pull access denied, insufficient_scope: authorization failed"
    )
    refused = alive(stopped("TaskFailedToStart", private), "agent")
    assert not refused.no_room
    assert "image could not be fetched" in str(refused.reason)
    throttled = "ResourceInitializationError: ThrottlingException: Rate exceeded"
    assert alive(stopped("TaskFailedToStart", throttled), "agent").no_room


def test_two_who_register_one_family_at_once_may_try_again() -> None:
    said = "Too many concurrent attempts to create a new revision of the specified family."
    answer = {
        "Error": {"Code": "ClientException", "Message": said},
        "ResponseMetadata": {"HTTPStatusCode": 400},
    }
    error = ClientError(answer, "RegisterTaskDefinition")  # type: ignore[arg-type]
    assert isinstance(fault(error), Unavailable)
