"""The only place where adapters meet the use cases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import redis

from chat.adapters.dynamodb_client import dynamodb_client
from chat.adapters.dynamodb_store import DynamoStore
from chat.adapters.ecs_setup import EcsParts
from chat.adapters.ecs_shape import shapes
from chat.adapters.local_runtime import LocalRuntime
from chat.adapters.redis_claims import RedisClaims
from chat.adapters.redis_log import RedisLog, connect
from chat.adapters.sqlite_store import SqliteStore
from chat.adapters.system_clock import SystemClock
from chat.agent_commands import local_command
from chat.drafts import millis
from chat.errors import Invalid
from chat.ports import Clock, Hints, Log, Nudge, Restored, Runtime, Shells, Store, Tasks
from chat.roles import ROLES, Roles, load_roles
from chat.service.advance import Advance
from chat.service.agents import Agents
from chat.service.carry_over import CarryOver
from chat.service.catalog import Catalog
from chat.service.context import Context
from chat.service.delivery import Delivery
from chat.service.holding import Holding
from chat.service.lifecycle import Lifecycle
from chat.service.live import Live
from chat.service.mailbox import Mailbox
from chat.service.messages import Messages
from chat.service.meter import Meter
from chat.service.orders import Orders
from chat.service.pipelines import Pipelines
from chat.service.questions import Questions
from chat.service.restore import restored
from chat.service.terminals import Terminals
from chat.service.tokens import Tokens
from chat.settings import Settings


@dataclass(frozen=True)
class Chat:
    """Everything that can be done, by noun. One per process; safe to use from many threads."""

    settings: Settings
    clock: Clock
    roles: Roles
    store: Store
    log: Log
    redis: redis.Redis
    tokens: Tokens
    catalog: Catalog
    runs: Lifecycle
    messages: Messages
    orders: Orders
    questions: Questions
    mailbox: Mailbox
    agents: Agents
    holding: Holding
    live: Live
    delivery: Delivery
    pipelines: Pipelines
    terminals: Terminals
    hints: Callable[[], Hints | None]
    """What the runtime says by itself, where it does."""


def open_store(settings: Settings) -> Store:
    """The store that DATABASE names."""
    if settings.sqlite_path is not None:
        settings.sqlite_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return SqliteStore(settings.sqlite_path)
    place = settings.dynamodb
    if place is None:
        raise Invalid("DATABASE takes sqlite:///PATH or dynamodb://.")
    client = dynamodb_client(region=place.region or "eu-central-1", endpoint_url=place.endpoint)
    return DynamoStore(client, place.prefix)


def bootstrap(
    settings: Settings,
    *,
    tasks: Tasks,
    clock: Clock | None = None,
    runtime: Runtime | None = None,
    store: Store | None = None,
    nudge: Nudge | None = None,
    shells: Shells | None = None,
    roles: Roles | None = None,
) -> Chat:
    """Connect the adapters that the settings name. Connections are opened when first used."""
    clock = clock or SystemClock()
    store = store or open_store(settings)
    if roles is None:
        roles = load_roles(settings.agents_file) if settings.agents_file else ROLES
    client = connect(settings.redis_url)

    def lost(run_id: str) -> Restored | None:
        run = store.run(run_id)
        if run is None:
            return None
        return restored(store, run, keep=settings.stream_keep, now_ms=millis(clock.now()))

    log = RedisLog(
        client,
        on_wake=lambda run_id: tasks.enqueue("store", run_id),
        lost=lost,
        key_ttl_s=settings.idempotency_ttl_s,
    )
    context = Context(
        settings=settings, store=store, log=log, clock=clock, tasks=tasks, roles=roles
    )
    tokens, mailbox, messages = Tokens(context), Mailbox(context), Messages(context)
    carry_over = CarryOver(context, messages)
    meter = Meter(context, roles)
    lifecycle = Lifecycle(context, mailbox, carry_over, tokens, meter)
    holding = Holding(context, lifecycle, mailbox, meter)
    ours = runtime
    tasks_on_ecs = EcsParts(settings, shapes(roles, store))
    on_ecs = settings.runtime == "ecs" and runtime is None

    def where_agents_run() -> Runtime:
        if ours is not None:
            return ours
        if on_ecs:
            return tasks_on_ecs.runtime()
        return LocalRuntime(settings.state_dir / "runs", local_command(settings, store, roles))

    def how_to_nudge() -> Nudge | None:
        return tasks_on_ecs.nudge() if on_ecs and nudge is None else nudge

    def how_to_enter() -> Shells | None:
        return tasks_on_ecs.shells() if on_ecs and shells is None else shells

    pipelines = Pipelines(context, roles, Advance(context, lifecycle, roles, where_agents_run))
    return Chat(
        settings=settings,
        clock=clock,
        roles=roles,
        store=store,
        log=log,
        redis=client,
        tokens=tokens,
        catalog=Catalog(context, pipelines.check_after),
        runs=lifecycle,
        messages=messages,
        orders=Orders(context, lifecycle),
        questions=Questions(context),
        mailbox=mailbox,
        agents=Agents(context, lifecycle),
        holding=holding,
        live=Live(context),
        delivery=Delivery(
            context,
            lifecycle,
            mailbox,
            carry_over,
            where_agents_run,
            tokens.of,
            how_to_nudge,
            holding=holding,
            meter=meter,
        ),
        pipelines=pipelines,
        terminals=Terminals(context, lifecycle, RedisClaims(client), how_to_enter),
        hints=lambda: tasks_on_ecs.events() if on_ecs else None,
    )
