"""The whole domain with its agents on a fake ECS: `aws` is the account, `ecs` the world.

Clients are the real ones, with short times; what goes wrong goes wrong on the wire below them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import boto3
import pytest
from botocore.config import Config

from chat.access import Principal
from chat.adapters.aws_answers import whole_answers
from chat.adapters.ecs_events import TaskEvents
from chat.adapters.ecs_faults import CONFIG
from chat.adapters.ecs_runtime import EcsRuntime, Place
from chat.adapters.ecs_shape import shapes
from chat.bootstrap import bootstrap
from chat.events import SenderKind
from chat.ports import Nudge, NudgeResult
from chat.requests import CreateRun
from chat.roles import ROLES, Roles
from chat.runs import Run
from tests.fake_aws import CLUSTER, KEYS, REGION, FakeAws
from tests.world import ANNA, Talk, World, close, open_world

PLACE = Place(
    cluster=CLUSTER,
    subnets=("subnet-1", "subnet-2"),
    security_groups=("sg-1",),
    assign_public_ip="DISABLED",
    capacity_provider="FARGATE_SPOT",
    family_prefix="omakase-agent-",
    secret_prefix="omakase/run-token/",
)
SHORT = CONFIG.merge(Config(connect_timeout=1, read_timeout=0.3))


def client(aws: FakeAws, name: str) -> Any:
    return whole_answers(boto3.client(name, REGION, endpoint_url=aws.url, config=SHORT, **KEYS))


def runtime_on(aws: FakeAws, roles: Roles = ROLES) -> EcsRuntime:
    return EcsRuntime(client(aws, "ecs"), client(aws, "secretsmanager"), PLACE, shapes(roles))


@dataclass
class Nudged:
    """A Nudge that keeps who was nudged."""

    result: NudgeResult
    runs: list[str]

    def nudge(self, run: Run) -> NudgeResult:
        self.runs.append(run.id)
        return self.result


@dataclass
class EcsWorld:
    """A world whose runtime is EcsRuntime on `aws`."""

    aws: FakeAws
    world: World
    events: TaskEvents

    def launched(self, *, agent_id: str = "nori", work: bool = True) -> Talk:
        """A new run that we start; with `work`, its task is there."""
        request = CreateRun(feature_id=self.world.feature_id, agent_id=agent_id)
        run_id = self.world.chat.runs.create(ANNA, request).run.id
        if work:
            self.world.work_off()
        return self.talk(run_id)

    def talk(self, run_id: str) -> Talk:
        agent = Principal(kind=SenderKind.AGENT, id="nori", name="Nori", run_id=run_id)
        return Talk(self.world, run_id, agent)

    def row(self, run_id: str) -> Run:
        run = self.world.chat.store.run(run_id)
        assert run is not None
        return run

    def passes(self, *, seconds: float) -> None:
        """Time goes by, and beat does what it does then."""
        self.world.clock.advance(ms=int(seconds * 1000))
        self.beat()

    def beat(self) -> None:
        self.world.chat.delivery.watch()
        self.world.chat.delivery.sweep()
        self.world.work_off()

    def hear(self) -> int:
        """What the worker's `events` does."""
        hints = self.events.receive()
        ended = self.world.chat.delivery.look_at(hints)
        self.events.done(hints)
        return ended

    def status(self, run_id: str) -> str:
        return self.world.chat.log.snapshot(run_id).status.value

    def details(self, talk: Talk) -> list[str]:
        """What the status events say."""
        return [
            event["body"]["detail"]
            for event in talk.events()
            if event["kind"] == "status" and event["body"].get("detail")
        ]


@pytest.fixture
def aws() -> Iterator[FakeAws]:
    made = FakeAws()
    for role in ("architect", "coder", "reviewer", "tester"):
        made.define(f"omakase-agent-{role}")
    yield made
    made.close()


@pytest.fixture
def make_ecs(
    aws: FakeAws, make_settings: Callable[..., Any], redis_url: str
) -> Iterator[Callable[..., EcsWorld]]:
    opened: list[World] = []

    def make(nudge: Nudge | None = None, **environ: str) -> EcsWorld:
        settings = make_settings(REDIS_URL=redis_url, RUNTIME="ecs", **environ)
        settings.state_dir.mkdir(exist_ok=True)
        world = open_world(settings)
        close(world)
        world.chat = bootstrap(
            settings, tasks=world.tasks, clock=world.clock, runtime=runtime_on(aws), nudge=nudge
        )
        opened.append(world)
        return EcsWorld(aws, world, TaskEvents(client(aws, "sqs"), aws.queue_url))

    yield make
    for one in opened:
        close(one)


@pytest.fixture
def ecs(make_ecs: Callable[..., EcsWorld]) -> EcsWorld:
    return make_ecs()


__all__ = ["EcsWorld", "Nudged", "aws", "client", "ecs", "make_ecs", "runtime_on"]
