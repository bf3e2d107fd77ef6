"""What a run's task is made of beyond its role's base definition: agents.toml's image, size and command.

cpu, memory    of the task, in the pairs that Fargate takes (chat/roles.py checks them)
container      `agent` gets what the task's other containers leave, where the base gives it a share at all:
               without one it may use the whole task
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from chat.adapters.ecs_exec_commands import PYZ
from chat.errors import Invalid
from chat.ports import Store
from chat.roles import ROLES, Roles
from chat.runs import Run

COMMAND: Final = "ecs"
"""The kind of command in agents.toml; a role that has none is started as its base definition says."""
WORK_DIR: Final = "/work"


@dataclass(frozen=True, slots=True)
class Shape:
    """What is asked for a run. `image` empty and `command` None: the base definition's."""

    image: str
    cpu: int
    memory_mib: int
    command: tuple[str, ...] | None


def shapes(roles: Roles, store: Store | None = None) -> Callable[[Run], Shape]:
    """A function that gives a run's shape; the store knows the feature's name."""

    def shape(run: Run) -> Shape:
        one = roles.role[run.role]
        feature = store.feature(run.feature_id) if store is not None else None
        words = {
            "python": "python3",
            "pyz": PYZ,
            "role": run.role.value,
            "feature": feature.name if feature else run.feature_id,
            "repo": WORK_DIR,
        }
        template = one.commands.get(COMMAND) or roles.commands.get(COMMAND)
        command = tuple(part.format(**words) for part in template) if template else None
        return Shape(one.image, one.cpu, one.memory_mib, command)

    return shape


SHIPPED: Final = shapes(ROLES)
"""By the file that ships, without the features' names."""


def fitted(base: Mapping[str, Any], container: str, shape: Shape) -> dict[str, Any]:
    """The parts of a task definition that the shape decides: `cpu`, `memory`, `containerDefinitions`.

    Raises Invalid when the other containers leave nothing for the agent's.
    """
    others = [one for one in base["containerDefinitions"] if one["name"] != container]
    cpu = _left(shape.cpu, others, ("cpu",), f"cpu of {base['family']}")
    memory = _left(
        shape.memory_mib, others, ("memory", "memoryReservation"), f"MiB of {base['family']}"
    )

    def changed(one: Mapping[str, Any]) -> dict[str, Any]:
        if one["name"] != container:
            return dict(one)
        more: dict[str, Any] = {}
        if one.get("cpu"):
            more["cpu"] = cpu
        if one.get("memory"):
            more["memory"] = memory
        if one.get("memoryReservation"):
            more["memoryReservation"] = min(one["memoryReservation"], memory)
        if shape.image:
            more["image"] = shape.image
        if shape.command is not None:
            more["command"] = list(shape.command)
        return {**one, **more}

    return {
        "cpu": str(shape.cpu),
        "memory": str(shape.memory_mib),
        "containerDefinitions": [changed(one) for one in base["containerDefinitions"]],
    }


def _left(whole: int, others: Sequence[Mapping[str, Any]], names: Sequence[str], what: str) -> int:
    """What the other containers leave of the task; each counts with the first of `names` that it has."""
    taken = sum(next((one[name] for name in names if one.get(name)), 0) for one in others)
    if taken >= whole:
        raise Invalid(
            f"The other containers take {taken} of {whole} {what}: agents.toml gives it too little."
        )
    return whole - taken
