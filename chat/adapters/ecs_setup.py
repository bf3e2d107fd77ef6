"""The parts of RUNTIME=ecs out of the settings, each made when it is first used and then kept."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import boto3

from chat.adapters.ecs_events import TaskEvents, queue_client
from chat.adapters.ecs_exec import EcsExec, exec_client
from chat.adapters.ecs_runtime import CONTAINER, EcsRuntime, Place, clients
from chat.adapters.ecs_shape import SHIPPED, Shape
from chat.adapters.ecs_shells import EcsShells
from chat.errors import Invalid
from chat.runs import Run
from chat.settings import Settings


class EcsParts:
    """Runtime, nudge, events and shells of one installation."""

    def __init__(self, settings: Settings, shape: Callable[[Run], Shape] = SHIPPED) -> None:
        self._settings = settings
        self._shape = shape
        self.runtime = lru_cache(maxsize=1)(self._runtime)
        self.nudge = lru_cache(maxsize=1)(self._nudge)
        self.events = lru_cache(maxsize=1)(self._events)
        self.shells = lru_cache(maxsize=1)(self._shells)

    @property
    def _region(self) -> str | None:
        """Of the cluster's ARN, else the store's, else boto3's own default (None)."""
        parts = (self._settings.ecs_cluster or "").split(":")
        if len(parts) > 3 and parts[3]:  # arn:aws:ecs:REGION:…
            return parts[3]
        return self._settings.dynamodb.region if self._settings.dynamodb else None

    def _runtime(self) -> EcsRuntime:
        settings = self._settings
        for name in ("ecs_cluster", "ecs_subnets"):
            if not getattr(settings, name):
                raise Invalid(f"{name.upper()} is not set, and RUNTIME=ecs needs it.")
        place = Place(
            cluster=settings.ecs_cluster or "",
            subnets=settings.ecs_subnets,
            security_groups=settings.ecs_security_groups,
            assign_public_ip=settings.ecs_assign_public_ip,
            capacity_provider=settings.ecs_capacity_provider or "",
            family_prefix=settings.ecs_task_family_prefix,
            secret_prefix=settings.run_token_secret_prefix,
        )
        ecs, secrets = clients(region=self._region)
        return EcsRuntime(ecs, secrets, place, self._shape)

    def _nudge(self) -> EcsExec | None:
        if not self._settings.ecs_cluster:
            return None
        region = self._region or boto3.session.Session().region_name
        if region is None:
            raise Invalid("There is no region: say AWS_DEFAULT_REGION, or an ARN in ECS_CLUSTER.")
        return EcsExec(
            exec_client(region=region), container=CONTAINER, cluster=self._settings.ecs_cluster
        )

    def _shells(self) -> EcsShells | None:
        way_in = self.nudge()
        return EcsShells(way_in) if way_in is not None else None

    def _events(self) -> TaskEvents | None:
        url = self._settings.ecs_events_queue_url
        return TaskEvents(queue_client(region=self._region), url) if url else None
