"""Agents as ECS tasks: the one module that starts, stops and looks at them.

    run                one task of {family_prefix}{role}-{run_id}:1 (ecs_definitions.py)
    client token       {run_id}, from generation 1 on {run_id}.{generation}: the same again is the same task
    startedBy          {run_id}; tags run, feature, project, role
    handle             the task's ARN

State is what DescribeTasks says, in batches of 100. ECS forgets a stopped task after about an hour, and a
new one is not seen everywhere at once. Facts: https://docs.aws.amazon.com/AmazonECS/latest/APIReference/
(API_RunTask, API_DescribeTasks, API_StopTask) and .../developerguide/ECS_Idempotency.html
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import boto3
import structlog
from botocore.exceptions import ClientError

from chat.adapters.aws_answers import whole_answers
from chat.adapters.ecs_definitions import TOKEN_VARIABLE, Definition, Definitions
from chat.adapters.ecs_faults import (
    CONFIG,
    asking_aws,
    code_of,
    fault,
    is_no_room,
    reason_words,
)
from chat.adapters.ecs_shape import SHIPPED, Shape
from chat.adapters.ecs_words import GONE, alive
from chat.errors import Invalid, NotStarted, Unavailable
from chat.ports import Alive, Started
from chat.runs import Run

log = structlog.get_logger("ecs")
BATCH: Final = 100
"""Tasks of one DescribeTasks."""
REASON_MAX: Final = 255
CONTAINER: Final = "agent"
_NOT_SEEN: Final = Alive(running=False, missing=True)
_NOT_THERE: Final = frozenset({"InvalidParameterException", "ClientException"})
"""What StopTask answers for a task that ECS has forgotten."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where tasks run. Without a capacity provider the launch type is FARGATE."""

    cluster: str
    subnets: tuple[str, ...]
    security_groups: tuple[str, ...]
    assign_public_ip: str
    capacity_provider: str
    family_prefix: str
    secret_prefix: str


def clients(*, region: str | None, endpoint_url: str | None = None) -> tuple[Any, Any]:
    """Clients of ECS and Secrets Manager; credentials and region by boto3's own rules."""
    made = [
        whole_answers(
            boto3.client(name, region_name=region, endpoint_url=endpoint_url, config=CONFIG)
        )
        for name in ("ecs", "secretsmanager")
    ]
    return made[0], made[1]


class EcsRuntime:
    """`ports.Runtime` on ECS. Safe for many threads."""

    def __init__(
        self,
        ecs: Any,
        secrets: Any,
        place: Place,
        shape: Callable[[Run], Shape] = SHIPPED,
    ) -> None:
        self._ecs = ecs
        self._place = place
        self._definitions = Definitions(
            ecs,
            secrets,
            container=CONTAINER,
            family_prefix=place.family_prefix,
            secret_prefix=place.secret_prefix,
            shape=shape,
        )

    def start(self, run: Run, *, token: str, env: Mapping[str, str]) -> Started:
        """Run the task. Raises Unavailable, NotStarted, Invalid."""
        definition = self._definitions.make(run, token)
        if run.generation > run.back_generation and (running := self._running(run)):
            # two workers started the generation before: one was refused, and the other was not
            return self._started(running[0], definition)
        asked = self._asked(run, definition, env)
        try:
            with asking_aws():
                try:
                    answer = self._ecs.run_task(**asked)
                except ClientError as error:
                    arn = _task_of_conflict(error)
                    if arn is None:
                        raise
                    return self._started(arn, definition)
        except NotStarted:
            log.warning("no_room", run_id=run.id)
            raise
        tasks, failures = answer.get("tasks") or [], answer.get("failures") or []
        if tasks:
            return self._started(str(tasks[0]["taskArn"]), definition)
        reason = str(failures[0].get("reason", "")) if failures else ""
        if not failures:
            raise Unavailable("ECS says neither that it started the task nor why it did not.")
        if is_no_room(reason) or reason == "AGENT":
            raise NotStarted(reason_words(reason))
        detail = str(failures[0].get("detail") or "")
        raise Invalid(f"ECS refuses the task: {reason} {detail}".strip())

    def stop(self, handle: str, *, grace_s: float, reason: str = "") -> None:
        """SIGTERM, then SIGKILL after the container's `stopTimeout`: ECS keeps the grace, not we."""
        del grace_s
        said = (reason or "Omakase: the run is over")[:REASON_MAX]
        with asking_aws():
            try:
                self._ecs.stop_task(cluster=self._place.cluster, task=handle, reason=said)
            except ClientError as error:
                if code_of(error) not in _NOT_THERE or isinstance(fault(error), Unavailable):
                    raise

    def describe(self, handles: Sequence[str]) -> dict[str, Alive]:
        """Each task's state; those of a batch that AWS did not answer for are left out."""
        found: dict[str, Alive] = {}
        for batch in _batches(list(dict.fromkeys(handles))):
            asked = {_id_of(arn): arn for arn in batch}
            try:
                with asking_aws():
                    answer = self._ecs.describe_tasks(cluster=self._place.cluster, tasks=batch)
            except Unavailable as error:
                # the rest of them would only add to it: the next look is soon
                log.warning("not_described", tasks=len(handles) - len(found), error=error.detail)
                break
            except Invalid as error:  # about these: the others are looked at all the same
                log.warning("not_described", tasks=len(batch), error=error.detail)
                continue
            for task in answer.get("tasks") or []:
                found[str(task["taskArn"])] = alive(task, CONTAINER)
            for failure in answer.get("failures") or []:
                if failure.get("reason") == "MISSING":
                    arn = asked.get(_id_of(str(failure["arn"])), str(failure["arn"]))
                    found[arn] = Alive(running=False, missing=True, reason=GONE)
        return found

    def settle(
        self, runs: Sequence[Run], *, overdue: Collection[str], young: Collection[str] = ()
    ) -> dict[str, Alive]:
        """Delete the secrets and definitions of runs whose tasks have stopped; stop those overdue."""
        states = self.describe([run.handle for run in runs if run.handle is not None])
        over = {}
        for run in runs:
            state = states.get(run.handle) if run.handle is not None else _NOT_SEEN
            if state is None or (state.missing and run.id in young):
                continue
            try:
                # whatever the row says: a start may have been answered to nobody
                running = [run.handle] if state.running and run.handle else self._running(run)
            except Unavailable as error:
                log.warning("tasks_not_listed", run_id=run.id, error=error.detail)
                continue
            if running:
                if run.id in overdue:
                    self._stop_all(running)
            elif self._definitions.take_away(run):
                over[run.id] = state
        return over

    def _running(self, run: Run) -> list[str]:
        """The tasks that were started for a run, whichever generation's, and not yet told to stop.
        Raises Unavailable."""
        try:
            with asking_aws():
                found = self._ecs.list_tasks(
                    cluster=self._place.cluster, startedBy=run.id, desiredStatus="RUNNING"
                )
        except Invalid as error:
            log.warning("task_not_looked_for", run_id=run.id, error=error.detail)
            return []
        return [str(arn) for arn in found.get("taskArns") or []]

    def _stop_all(self, arns: Sequence[str]) -> None:
        for arn in arns:
            try:
                self.stop(arn, grace_s=0)
            except (Unavailable, Invalid) as error:
                log.warning("not_stopped", error=error.detail)

    def _started(self, arn: str, definition: Definition) -> Started:
        stream = None
        if definition.log_group and definition.log_prefix:
            stream = f"{definition.log_prefix}/{CONTAINER}/{arn.rpartition('/')[2]}"
        return Started(
            arn,
            log_group=definition.log_group if stream else None,
            log_stream=stream,
            cpu=definition.cpu,
            memory_mib=definition.memory_mib,
        )

    def _asked(self, run: Run, definition: Definition, env: Mapping[str, str]) -> dict[str, Any]:
        place = self._place
        passed = {name: value for name, value in env.items() if name != TOKEN_VARIABLE}
        passed["OMAKASE_CAPACITY"] = place.capacity_provider or "FARGATE"
        override: dict[str, Any] = {
            "name": CONTAINER,
            "environment": [{"name": name, "value": value} for name, value in passed.items()],
        }
        if run.command:
            override["command"] = list(run.command)
        capacity: dict[str, Any] = (
            {
                "capacityProviderStrategy": [
                    {"capacityProvider": place.capacity_provider, "weight": 1}
                ]
            }
            if place.capacity_provider
            else {"launchType": "FARGATE"}
        )
        return {
            "cluster": place.cluster,
            "taskDefinition": f"{definition.family}:1",
            "count": 1,
            "clientToken": run.id if not run.generation else f"{run.id}.{run.generation}",
            "startedBy": run.id,
            "enableExecuteCommand": True,
            "overrides": {"containerOverrides": [override]},
            "networkConfiguration": {
                "awsvpcConfiguration": {
                    "subnets": list(place.subnets),
                    "securityGroups": list(place.security_groups),
                    "assignPublicIp": place.assign_public_ip,
                }
            },
            "tags": [
                {"key": key, "value": value}
                for key, value in (
                    ("run", run.id),
                    ("feature", run.feature_id),
                    ("project", run.project_id),
                    ("role", run.role.value),
                )
            ],
            **capacity,
        }


def _id_of(arn: str) -> str:
    """The task's id: failures name it by an ARN of the old or the new form."""
    return arn.rpartition("/")[2]


def _batches(handles: list[str]) -> Iterator[list[str]]:
    arns = [handle for handle in handles if handle.startswith("arn:")]
    for first in range(0, len(arns), BATCH):
        yield arns[first : first + BATCH]


def _task_of_conflict(error: ClientError) -> str | None:
    """The task that the same client token started with other parameters (settings were changed between
    two tries)."""
    if code_of(error) != "ConflictException":
        return None
    named: Any = error.response.get("resourceIds") or []
    return str(named[0]) if named else None
