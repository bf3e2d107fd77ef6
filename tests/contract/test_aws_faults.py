"""Each call to AWS that our code makes, and everything that can go wrong with it on the wire below boto3.

Whatever it is: nothing but Unavailable is raised, nothing untrue is said, and who asks again gets what
they wanted, once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import boto3
import pytest
from botocore.config import Config

from chat.adapters.aws_answers import whole_answers
from chat.adapters.dynamodb_client import CONFIG
from chat.adapters.dynamodb_store import DynamoStore
from chat.adapters.ecs_events import TaskEvents
from chat.adapters.ecs_exec import EcsExec
from chat.adapters.ecs_runtime import EcsRuntime
from chat.errors import NotStarted, Unavailable
from chat.ports import NudgeFailure, Record
from chat.runs import Feature, Project, Run, RunStatus
from tests.bad_wire import HOWS
from tests.chaos.cloud import Cloud
from tests.ecs_world import PLACE
from tests.fake_aws import KEYS, REGION, FakeAws, Fault, Refused

T = TypeVar("T")
TOKEN = "rt_very-secret"
ENV = {"OMAKASE_TOKEN": TOKEN, "OMAKASE_SERVER": "http://web:8000"}
WRONG: dict[str, Refused | str] = {
    **{how: how for how in HOWS},
    "throttled": Refused("ThrottlingException", "Rate exceeded"),
    "500": Refused("ServerException", "oops", status=500),
    "503": Refused("ServiceUnavailable", "", status=503),
}
TRIES = 5
AT_ONCE = Config(connect_timeout=1, read_timeout=0.3, retries={"total_max_attempts": 1})
"""boto3 repeats nothing: everything that goes wrong reaches our code."""


def again(call: Callable[[], T]) -> T:
    """Until it succeeds, as every caller of ours does; it may only say that it is unavailable."""
    for _ in range(TRIES):
        try:
            return call()
        except NotStarted:
            raise
        except Unavailable:
            continue
    raise AssertionError("never succeeded")


@pytest.fixture
def run(new_run: Callable[..., Run]) -> Run:
    return new_run()


def client(aws: FakeAws, name: str) -> Any:
    return whole_answers(
        boto3.client(name, REGION, endpoint_url=aws.url, config=CONFIG.merge(AT_ONCE), **KEYS)
    )


@pytest.fixture
def runtime(aws: FakeAws) -> EcsRuntime:
    return EcsRuntime(client(aws, "ecs"), client(aws, "secretsmanager"), PLACE)


def start(runtime: EcsRuntime, run: Run) -> str:
    return again(lambda: runtime.start(run, token=TOKEN, env=ENV)).handle


def active(aws: FakeAws, run: Run) -> list[int]:
    own = aws.definitions.get(f"omakase-agent-coder-{run.id}", [])
    return [one["revision"] for one in own if one["status"] == "ACTIVE"]


@pytest.mark.parametrize("how", WRONG)
@pytest.mark.parametrize(
    "action",
    [
        "CreateSecret", "GetSecretValue", "DescribeTaskDefinition", "RegisterTaskDefinition",
        "DeregisterTaskDefinition", "RunTask",
    ],
)  # fmt: skip
def test_a_start_that_goes_wrong_anywhere_is_one_task_in_the_end(
    aws: FakeAws, runtime: EcsRuntime, run: Run, action: str, how: str
) -> None:
    if action in {"GetSecretValue", "DeregisterTaskDefinition"}:  # the calls of a second try
        runtime._definitions.make(run, TOKEN)
    aws.faults.append(Fault(action, WRONG[how], times=2))
    handle = start(runtime, run)
    assert start(runtime, run) == handle
    assert list(aws.tasks) == [handle]
    assert aws.secrets == {f"omakase/run-token/{run.id}": TOKEN}
    assert active(aws, run) == [1]


@pytest.mark.parametrize("how", WRONG)
def test_a_stop_that_goes_wrong_stops_the_task_in_the_end(
    aws: FakeAws, runtime: EcsRuntime, run: Run, how: str
) -> None:
    handle = start(runtime, run)
    aws.faults.append(Fault("StopTask", WRONG[how], times=2))
    again(lambda: runtime.stop(handle, grace_s=0))
    assert aws.tasks[handle]["desiredStatus"] == "STOPPED"


@pytest.mark.parametrize("how", WRONG)
def test_of_tasks_that_could_not_be_described_nothing_is_said(
    aws: FakeAws, runtime: EcsRuntime, run: Run, how: str
) -> None:
    handle = start(runtime, run)
    aws.faults.append(Fault("DescribeTasks", WRONG[how], times=2))
    for _ in range(TRIES):
        states = runtime.describe([handle])
        assert all(state.running for state in states.values())
    assert handle in states


@pytest.mark.parametrize("how", WRONG)
@pytest.mark.parametrize("action", ["ListTasks", "DescribeTasks", "StopTask"])
def test_a_task_that_nobody_noted_is_never_taken_for_gone_while_it_runs(
    aws: FakeAws, runtime: EcsRuntime, run: Run, action: str, how: str
) -> None:
    handle = start(runtime, run)
    aws.faults.append(Fault(action, WRONG[how], times=2))
    for _ in range(TRIES):
        assert runtime.settle([run], overdue=[run.id]) == {}
        assert aws.secrets
        if aws.tasks[handle]["desiredStatus"] == "STOPPED":
            break
    assert aws.tasks[handle]["desiredStatus"] == "STOPPED"


@pytest.mark.parametrize("how", WRONG)
@pytest.mark.parametrize("action", ["DeleteSecret", "DeregisterTaskDefinition", "DescribeTasks"])
def test_what_a_run_held_is_given_back_before_it_is_let_go(
    aws: FakeAws, runtime: EcsRuntime, run: Run, action: str, how: str
) -> None:
    ended = run.model_copy(update={"handle": start(runtime, run)})
    aws.move(str(ended.handle), "STOPPED", exit_code=0)
    aws.faults.append(Fault(action, WRONG[how], times=2))
    for _ in range(TRIES):
        if runtime.settle([ended], overdue=[run.id]):
            break
    assert (aws.secrets, active(aws, run)) == ({}, [])


@pytest.mark.parametrize("how", WRONG)
@pytest.mark.parametrize("action", ["ReceiveMessage", "DeleteMessageBatch"])
def test_no_hint_is_lost_and_each_goes_away_in_the_end(
    aws: FakeAws, runtime: EcsRuntime, run: Run, action: str, how: str
) -> None:
    events = TaskEvents(client(aws, "sqs"), aws.queue_url)
    aws.receptions_max = 100
    handle = start(runtime, run)
    aws.faults.append(Fault(action, WRONG[how], times=2))
    for status in ("PENDING", "RUNNING"):
        aws.move(handle, status)
    heard: set[int] = set()
    while aws.messages:
        hints = again(events.receive)
        heard |= {hint.version for hint in hints if hint.run_id == run.id}
        if hints:
            again(lambda hints=hints: events.done(hints))  # type: ignore[misc]  # a lambda's default
    assert heard == {2, 3}


@pytest.mark.parametrize("how", WRONG)
def test_a_nudge_that_goes_wrong_has_its_class_and_raises_nothing(
    aws: FakeAws, runtime: EcsRuntime, run: Run, how: str
) -> None:
    named = run.model_copy(update={"handle": start(runtime, run)})
    aws.faults.append(Fault("ExecuteCommand", WRONG[how], times=2))
    result = EcsExec(client(aws, "ecs"), container="agent", deadline_s=1).nudge(named)
    assert not result.ok
    assert result.failure in {
        NudgeFailure.UNAVAILABLE, NudgeFailure.TIMEOUT, NudgeFailure.THROTTLED,
    }  # fmt: skip


def test_that_ecs_says_neither_yes_nor_no_is_no_reason_for_another_task(
    aws: FakeAws, runtime: EcsRuntime, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aws, "do_RunTask", lambda _said: {"tasks": [], "failures": []})
    with pytest.raises(Unavailable, match="neither") as caught:
        runtime.start(run, token=TOKEN, env=ENV)
    assert not isinstance(caught.value, NotStarted)


@pytest.mark.parametrize("how", ["torn", "reset"])
@pytest.mark.parametrize("action", ["RunTask", "DescribeTaskDefinition", "CreateSecret"])
def test_a_refusal_of_which_half_arrives_fails_no_run(
    aws: FakeAws, runtime: EcsRuntime, run: Run, action: str, how: str, monkeypatch: Any
) -> None:
    refused, left = Refused("ThrottlingException", "Rate exceeded"), [2]
    real = getattr(aws, f"do_{action}")

    def throttled(said: Any) -> Any:
        left[0] -= 1
        if left[0] >= 0:
            raise refused
        return real(said)

    monkeypatch.setattr(aws, f"do_{action}", throttled)
    aws.faults.append(Fault(action, how, times=2))
    handle = start(runtime, run)
    assert list(aws.tasks) == [handle]


# --- the store ------------------------------------------------------------------------------------


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    made = Cloud(every=10**9, tables_every=10**9, slow_max=0, seed=1)
    yield made
    made.close()


@pytest.fixture
def rained_on(cloud: Cloud) -> DynamoStore:
    made = boto3.client(
        "dynamodb", REGION, endpoint_url=cloud.url, config=CONFIG.merge(AT_ONCE), **KEYS
    )
    store = DynamoStore(whole_answers(made), "faults-", sleep=lambda _: None)
    store.create_schema()
    return store


PROJECT = Project(id="prj", name="Shop", created_at="2026-11-22T09:33:00.000Z")
FEATURE = Feature(id="ftr", project_id="prj", name="Cart", created_at="2026-11-22T09:33:00.000Z")
ROW = {"id": "run_1", "project_id": "prj", "feature_id": "ftr"}
BASKET = FEATURE.model_copy(update={"name": "Basket", "version": 1})


@dataclass
class Shop:
    """A store with a project, a feature and a run of three events, and a run it does not have yet."""

    store: DynamoStore
    fresh: Run
    records: list[Record]

    def put(self) -> bool:
        self.store.put_run(self.fresh)
        return self.store.run(self.fresh.id) == self.fresh

    def add(self) -> bool:
        return self.store.add_run(self.fresh) == self.store.run(self.fresh.id) == self.fresh

    def swap(self) -> Feature | None:
        self.store.swap_feature(BASKET)  # by us, or by whoever was us
        return self.store.feature("ftr")

    def change(self) -> RunStatus | None:
        self.store.update_run("run_1", status=RunStatus.WORKING.value)
        found = self.store.run("run_1")
        return found and found.status

    def note(self) -> str | None:
        self.store.update_run_if("run_1", {"generation": 0}, handle="h")
        found = self.store.run("run_1")
        return found and found.handle

    def write(self) -> int:
        self.store.put_events(self.fresh, self.records)
        return self.store.last_seq(self.fresh.id)


STORIES: dict[str, tuple[str, Callable[[Shop], object], object]] = {
    "a row is put": ("PutItem", Shop.put, True),
    "a row is added once": ("PutItem", Shop.add, True),
    "a row is swapped": ("PutItem", Shop.swap, BASKET),
    "a row is there": ("GetItem", lambda shop: shop.store.run("run_1") is not None, True),
    "an event is there": ("GetItem", lambda shop: shop.store.event("run_1", 2) is not None, True),
    "a row is changed": ("UpdateItem", Shop.change, RunStatus.WORKING),
    "a row is changed if": ("UpdateItem", Shop.note, "h"),
    "events are written": ("BatchWriteItem", Shop.write, 3),
    "events are read": (
        "Query",
        lambda shop: [one.seq for one in shop.store.events("run_1", after=0).records],
        [1, 2, 3],
    ),
    "the last number": ("Query", lambda shop: shop.store.last_seq("run_1"), 3),
    "runs of a feature": (
        "Query",
        lambda shop: [one.id for one in shop.store.runs(feature_id="ftr")],
        ["run_1"],
    ),
    "events of a feature": (
        "BatchGetItem",
        lambda shop: len(shop.store.feature_events("ftr", cursor=None, limit=10).records),
        3,
    ),
    "projects": ("Scan", lambda shop: [one.id for one in shop.store.projects()], ["prj"]),
}


@pytest.mark.parametrize("how", [*HOWS, "throttled", "500", "503", "500 done"])
@pytest.mark.parametrize("story", STORIES)
def test_a_row_is_never_taken_for_missing_and_a_write_is_there_in_the_end(
    cloud: Cloud, rained_on: DynamoStore, new_run: Any, event: Any, story: str, how: str
) -> None:
    store = rained_on
    there = new_run(**ROW)
    first = [event(there, seq) for seq in (1, 2, 3)]
    for write in (
        lambda: store.put_project(PROJECT),
        lambda: store.put_feature(FEATURE),
        lambda: store.put_run(there),
        lambda: store.put_events(there, first),
    ):
        again(write)  # the client is a hasty one, and the machine may be busy
    fresh = new_run()
    shop = Shop(store, fresh, [event(fresh, seq) for seq in (1, 2, 3)])
    action, tell, wanted = STORIES[story]
    cloud.weather.ordered[action] = [how] * 2
    assert again(lambda: tell(shop)) == wanted
    assert cloud.weather.ordered[action] == []
