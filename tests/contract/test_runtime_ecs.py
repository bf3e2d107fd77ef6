"""What only ECS does: tokens, batches, capacity, faults on the wire, and answers that get lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from chat.adapters.ecs_runtime import EcsRuntime
from chat.errors import Invalid, NotStarted, Unavailable
from chat.runs import Run
from tests.ecs_world import runtime_on
from tests.fake_aws import FakeAws, Fault, Refused

TOKEN = "rt_very-secret"
ENV = {"OMAKASE_TOKEN": TOKEN, "OMAKASE_SERVER": "http://web:8000", "OMAKASE_RUN_ID": "run"}
THROTTLED = Refused("ThrottlingException", "Rate exceeded")
BROKEN = Refused("ServerException", "oops", status=500)


@pytest.fixture
def runtime(aws: FakeAws) -> EcsRuntime:
    return runtime_on(aws)


@pytest.fixture
def run(new_run: Callable[..., Run]) -> Run:
    return new_run()


def start(runtime: EcsRuntime, run: Run) -> str:
    return runtime.start(run, token=TOKEN, env=ENV).handle


def fields(task: dict[str, Any]) -> dict[str, str]:
    [override] = task["overrides"]["containerOverrides"]
    return {one["name"]: one["value"] for one in override["environment"]}


def test_a_task_says_whose_it_is_can_be_entered_and_gets_its_token_by_a_secret_alone(
    aws: FakeAws, runtime: EcsRuntime, run: Run
) -> None:
    started = runtime.start(run, token=TOKEN, env=ENV)

    task = aws.tasks[started.handle]
    assert (task["startedBy"], task["enableExecuteCommand"]) == (run.id, True)
    assert {one["key"]: one["value"] for one in task["tags"]} == {
        "run": run.id, "feature": run.feature_id, "project": run.project_id, "role": "coder",
    }  # fmt: skip
    assert fields(task) == {
        "OMAKASE_SERVER": "http://web:8000", "OMAKASE_RUN_ID": "run",
        "OMAKASE_CAPACITY": "FARGATE_SPOT",
    }  # fmt: skip
    assert TOKEN not in str(task) + str(aws.definitions)
    assert aws.secrets == {f"omakase/run-token/{run.id}": TOKEN}
    [own] = aws.definitions[f"omakase-agent-coder-{run.id}"]
    secrets = {s["name"]: s["valueFrom"] for s in own["containerDefinitions"][0]["secrets"]}
    assert set(secrets) == {"ANTHROPIC_API_KEY", "OMAKASE_TOKEN"}
    assert f"omakase/run-token/{run.id}" in secrets["OMAKASE_TOKEN"]
    assert (own["cpu"], own["memory"]) == ("1024", "4096"), "of agents.toml, not of the role's own"
    assert started.log_group == "/omakase/agents"
    assert started.log_stream == f"coder/agent/{started.handle.rpartition('/')[2]}"
    assert len(aws.definitions["omakase-agent-coder"]) == 1, "the role's own is left alone"


@pytest.mark.parametrize("action", ["CreateSecret", "RegisterTaskDefinition", "RunTask"])
@pytest.mark.parametrize("how", ["half", "drop", THROTTLED, BROKEN])
def test_whatever_is_lost_on_the_way_the_repeat_is_the_same_task(
    aws: FakeAws, runtime: EcsRuntime, run: Run, action: str, how: Refused | str
) -> None:
    aws.faults.append(Fault(action, how, times=2))  # boto3 repeats once by itself
    with pytest.raises(Unavailable) as caught:
        start(runtime, run)
    assert not isinstance(caught.value, NotStarted)
    assert "AWS" in caught.value.detail

    handle = start(runtime, run)

    assert list(aws.tasks) == [handle]
    assert start(runtime_on(aws), run) == handle
    active = [
        d for d in aws.definitions[f"omakase-agent-coder-{run.id}"] if d["status"] == "ACTIVE"
    ]
    assert [d["revision"] for d in active] == [1]


def test_an_answer_that_never_comes_is_given_up(
    aws: FakeAws, runtime: EcsRuntime, run: Run
) -> None:
    aws.faults.append(Fault("RunTask", "hang", times=2))
    with pytest.raises(Unavailable, match="did not answer"):
        start(runtime, run)
    assert start(runtime, run) in aws.tasks


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("RESOURCE:CPU", "no CPU left"),
        ("RESOURCE:MEMORY", "no memory left"),
        ("RESOURCE:ENI", "no network interface left"),
        ("Capacity is unavailable at this time. Please try again later", "no capacity"),
        ("AGENT", "not connected"),
    ],
)
def test_want_of_room_is_not_started_in_words_and_another_generation_may_be_tried(
    aws: FakeAws, runtime: EcsRuntime, run: Run, reason: str, words: str
) -> None:
    aws.refused_reason = reason
    with pytest.raises(NotStarted, match=words):
        start(runtime, run)
    aws.refused_reason = None
    handle = start(runtime, run.model_copy(update={"generation": 1}))
    assert list(aws.tasks) == [handle]


@pytest.mark.parametrize(
    ("refused", "kind", "words"),
    [
        (
            Refused("ClientException", "Capacity is unavailable at this time."),
            NotStarted,
            "capacity",
        ),
        (
            Refused(
                "ClientException", "You've reached the limit on the number of tasks you can run"
            ),
            NotStarted,
            "limit on the number",
        ),
        (Refused("ClusterNotFoundException", "Cluster not found."), Unavailable, "cluster"),
        (Refused("ThrottlingException", "Rate exceeded"), Unavailable, "pause"),
        (Refused("ServiceUnavailable", "", status=503), Unavailable, "not available"),
        (
            Refused("AccessDeniedException", "arn:… is not authorized"),
            Invalid,
            "may not do RunTask",
        ),
        (Refused("InvalidParameterException", "No such subnet"), Invalid, "No such subnet"),
        (Refused("BlockedException", "Your account is blocked"), Invalid, "blocked"),
    ],
)
def test_refusals_are_classed_and_put_into_words(
    aws: FakeAws, runtime: EcsRuntime, run: Run, refused: Refused, kind: type[Exception], words: str
) -> None:
    aws.faults.append(Fault("RunTask", refused, times=2))
    with pytest.raises(kind, match=words) as caught:
        start(runtime, run)
    assert type(caught.value) is kind


def test_settings_that_changed_between_two_tries_find_the_task_of_the_first(
    aws: FakeAws, runtime: EcsRuntime, run: Run
) -> None:
    handle = start(runtime, run)
    other = {**ENV, "OMAKASE_SERVER": "http://moved"}
    assert runtime.start(run, token=TOKEN, env=other).handle == handle


def test_tasks_are_described_a_hundred_at_a_time(
    aws: FakeAws, runtime: EcsRuntime, new_run: Callable[..., Run]
) -> None:
    handles = [f"arn:aws:ecs:eu-central-1:1:task/agents/{number}" for number in range(250)]
    states = runtime.describe([*handles, *handles])
    assert aws.calls["DescribeTasks"] == 3
    assert set(states) == set(handles)
    assert all(state.missing and not state.running for state in states.values())


def test_a_batch_that_is_refused_says_nothing_about_its_tasks(
    aws: FakeAws, runtime: EcsRuntime
) -> None:
    handles = [f"arn:aws:ecs:eu-central-1:1:task/agents/{number}" for number in range(150)]
    aws.faults.append(Fault("DescribeTasks", THROTTLED, times=2))
    assert runtime.describe(handles) == {}
    assert len(runtime.describe(handles)) == 150


def test_what_a_run_held_is_given_back_when_its_task_has_stopped_and_not_before(
    aws: FakeAws, runtime: EcsRuntime, run: Run
) -> None:
    handle = start(runtime, run)
    aws.move(handle, "RUNNING")
    ended = run.model_copy(update={"handle": handle})
    assert runtime.settle([ended], overdue=[]) == {}
    assert aws.stopped == []
    assert runtime.settle([ended], overdue=[run.id]) == {}
    assert [arn for arn, _ in aws.stopped] == [handle]
    assert aws.secrets
    aws.move(handle, "STOPPED", exit_code=0)
    assert runtime.settle([ended], overdue=[run.id])[run.id].exit_code == 0
    assert aws.secrets == {}
    [own] = aws.definitions[f"omakase-agent-coder-{run.id}"]
    assert own["status"] == "INACTIVE"


def test_every_revision_that_a_killed_worker_made_goes_with_the_run(
    aws: FakeAws, runtime: EcsRuntime, run: Run
) -> None:
    ended = run.model_copy(update={"handle": start(runtime, run)})
    [own] = aws.definitions[f"omakase-agent-coder-{run.id}"]
    for _ in range(2):
        aws.do_RegisterTaskDefinition({k: own[k] for k in ("family", "containerDefinitions")})
    aws.move(str(ended.handle), "STOPPED", exit_code=0)
    assert run.id in runtime.settle([ended], overdue=[])
    states = [one["status"] for one in aws.definitions[f"omakase-agent-coder-{run.id}"]]
    assert states == ["INACTIVE"] * 3


def test_a_task_whose_start_was_answered_to_nobody_is_found_and_stopped(
    aws: FakeAws, runtime: EcsRuntime, run: Run
) -> None:
    aws.faults.append(Fault("RunTask", "half", times=2))
    with pytest.raises(Unavailable):
        start(runtime, run)
    aws.faults.append(Fault("ListTasks", THROTTLED, times=2))
    assert runtime.settle([run], overdue=[run.id]) == {}, "it could not be asked for"
    assert runtime.settle([run], overdue=[run.id]) == {}
    assert [arn for arn, _ in aws.stopped] == [aws.task_of(run.id)]
    aws.move(aws.task_of(run.id), "STOPPED")
    assert run.id in runtime.settle([run], overdue=[run.id])
    assert aws.secrets == {}
