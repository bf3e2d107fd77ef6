"""What a run's task is made of: agents.toml's image, size and command, on the role's own definition."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import chat.roles
from chat.errors import Invalid, Unavailable
from chat.roles import ROLES, Roles, load_roles
from chat.runs import Role, Run
from tests.ecs_world import runtime_on
from tests.fake_aws import FakeAws, Fault

FILE = Path(chat.roles.__file__).with_name("agents.toml").read_text()
ENV = {"OMAKASE_RUN_ID": "run"}
GIB = 1_024
FARGATE = {
    256: [512, 1 * GIB, 2 * GIB],
    512: [size * GIB for size in range(1, 5)],
    1_024: [size * GIB for size in range(2, 9)],
    2_048: [size * GIB for size in range(4, 17)],
    4_096: [size * GIB for size in range(8, 31)],
    8_192: [size * GIB for size in range(16, 61, 4)],
    16_384: [size * GIB for size in range(32, 121, 8)],
}
"""As AWS's table has it: CPU units, and the MiB that go with them."""


@pytest.fixture
def roles_with(tmp_path: Path) -> Callable[..., Roles]:
    """The file that ships with the coder's lines replaced: roles_with(cpu=2048, image='"a:2"')."""

    def make(without: str = "", **lines: object) -> Roles:
        head, mark, coder = FILE.replace(without, "").partition("[role.coder]\n")
        for name, value in lines.items():
            coder, count = re.subn(rf"(?m)^{name} = .*$", f"{name} = {value}", coder, count=1)
            assert count == 1
        (tmp_path / "agents.toml").write_text(head + mark + coder)
        return load_roles(tmp_path / "agents.toml")

    return make


def own(aws: FakeAws, run: Run) -> dict[str, Any]:
    """The definition that the run's task was started from."""
    [found] = [
        one
        for one in aws.definitions[f"omakase-agent-{run.role}-{run.id}"]
        if one["status"] == "ACTIVE"
    ]
    assert found["revision"] == 1
    return found


def containers(definition: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in definition["containerDefinitions"]}


def start(aws: FakeAws, run: Run, roles: Roles = ROLES) -> tuple[int | None, int | None]:
    """Start it; what it says of its size."""
    started = runtime_on(aws, roles).start(run, token="t", env=ENV)
    return started.cpu, started.memory_mib


@pytest.mark.parametrize("role", list(Role))
def test_each_roles_task_is_as_agents_toml_says(
    aws: FakeAws, new_run: Callable[..., Run], role: Role
) -> None:
    said, run = ROLES.role[role], new_run(role=role)

    size = start(aws, run)

    definition = own(aws, run)
    assert (definition["cpu"], definition["memory"]) == (str(said.cpu), str(said.memory_mib))
    assert size == (said.cpu, said.memory_mib)
    assert said.memory_mib in FARGATE[said.cpu]
    agent = containers(definition)["agent"]
    assert agent["image"] == "agent:1", "the role says no image"
    assert agent["command"][:2] == ["claude", "-p"]
    assert f"/opt/omakase/roles/{role}.md" in " ".join(agent["command"])
    assert "command" not in str(aws.tasks), "not in RunTask, which must be asked the same each time"


def test_the_file_takes_fargates_pairs_and_no_others(roles_with: Callable[..., Roles]) -> None:
    sizes = sorted({one for many in FARGATE.values() for one in many} | {1_536, 2_560, 18_432})
    for cpu, taken in FARGATE.items():
        for memory_mib in sizes:
            if memory_mib in taken:
                roles_with(cpu=cpu, memory_mib=memory_mib)
            else:
                with pytest.raises(Invalid, match=r"role\.coder: memory_mib is"):
                    roles_with(cpu=cpu, memory_mib=memory_mib)


def test_an_image_of_the_role_is_used_for_the_agent_alone(
    aws: FakeAws, new_run: Callable[..., Run], roles_with: Callable[..., Roles]
) -> None:
    logger = {"name": "logs", "image": "fluent-bit:3", "memoryReservation": 50}
    base = aws.definitions["omakase-agent-coder"][0]
    aws.define("omakase-agent-coder", containerDefinitions=[*base["containerDefinitions"], logger])
    run = new_run()

    start(aws, run, roles_with(image='"coder:7"'))

    found = containers(own(aws, run))
    assert (found["agent"]["image"], found["logs"]) == ("coder:7", logger)
    assert "memory" not in found["agent"], "without a share it may use the whole task"


def test_shares_of_containers_stay_within_the_task(
    aws: FakeAws, new_run: Callable[..., Run]
) -> None:
    aws.define(
        "omakase-agent-coder",
        memory="8192",
        containerDefinitions=[
            {"name": "agent", "image": "a", "cpu": 2_000, "memory": 8_000, "memoryReservation": 7_000},
            {"name": "logs", "image": "l", "cpu": 24, "memory": 100, "memoryReservation": 50},
            {"name": "more", "image": "m", "memoryReservation": 96},
        ],
    )  # fmt: skip
    run = new_run()

    start(aws, run)

    definition = own(aws, run)
    agent = containers(definition)["agent"]
    assert (agent["cpu"], agent["memory"], agent["memoryReservation"]) == (1_000, 3_900, 3_900)
    shares = [c.get("memory") or c["memoryReservation"] for c in definition["containerDefinitions"]]
    assert sum(shares) == int(definition["memory"])
    assert sum(c.get("cpu", 0) for c in definition["containerDefinitions"]) == 1_024


@pytest.mark.parametrize(("name", "words"), [("memory", "4096 MiB"), ("cpu", "1024 cpu")])
def test_a_task_that_other_containers_fill_is_refused_in_words(
    aws: FakeAws, new_run: Callable[..., Run], name: str, words: str
) -> None:
    aws.define(
        "omakase-agent-coder",
        containerDefinitions=[{"name": "agent", "image": "a"}, {"name": "logs", name: 5_000}],
    )
    with pytest.raises(Invalid, match=f"5000 of {words} of omakase-agent-coder"):
        start(aws, new_run())
    assert aws.tasks == {}


def test_without_a_command_for_ecs_the_definitions_own_stays(
    aws: FakeAws, new_run: Callable[..., Run], roles_with: Callable[..., Roles]
) -> None:
    aws.define(
        "omakase-agent-coder",
        containerDefinitions=[{"name": "agent", "image": "a", "command": ["mine"]}],
    )
    [ecs] = re.findall(r"(?ms)^ecs = \[.*?^\]\n", FILE)
    first, second = new_run(), new_run()

    start(aws, first, roles_with(without=ecs))
    start(aws, second)

    assert containers(own(aws, first))["agent"]["command"] == ["mine"]
    assert containers(own(aws, second))["agent"]["command"][0] == "claude"


@pytest.mark.parametrize("action", ["RegisterTaskDefinition", "RunTask"])
def test_a_file_that_changed_between_two_tries_changes_nothing_of_the_run(
    aws: FakeAws,
    new_run: Callable[..., Run],
    roles_with: Callable[..., Roles],
    action: str,
) -> None:
    run = new_run()
    aws.faults.append(Fault(action, "half", times=2))  # done, and the answer got lost
    with pytest.raises(Unavailable):
        start(aws, run)
    changed = roles_with(cpu=2048, memory_mib=8192, image='"coder:7"')

    size = start(aws, run, changed)

    assert size == (1_024, 4_096), "what it was started with, not what the file says now"
    assert len(aws.tasks) == 1
    assert containers(own(aws, run))["agent"]["image"] == "agent:1"
    later = new_run()
    assert start(aws, later, changed) == (2_048, 8_192)
    assert containers(own(aws, later))["agent"]["image"] == "coder:7"


def test_a_try_that_changed_nothing_at_aws_is_asked_for_as_the_file_says_now(
    aws: FakeAws, new_run: Callable[..., Run], roles_with: Callable[..., Roles]
) -> None:
    run = new_run()
    aws.faults.append(Fault("RegisterTaskDefinition", "drop", times=2))
    with pytest.raises(Unavailable):
        start(aws, run)
    assert start(aws, run, roles_with(cpu=2048, memory_mib=8192)) == (2_048, 8_192)
