"""Who the agents are, as data: read from `agents.toml` once, and refused with one line when it is wrong."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Self

from pydantic import Field, ValidationError, model_validator

from chat.errors import Invalid
from chat.runs import Agent, Frozen, Role

_WORDS: Final = frozenset({"python", "pyz", "repo", "role", "feature"})
_FARGATE_MIB: Final[dict[int, Sequence[int]]] = {
    256: (512, 1_024, 2_048),
    512: range(1_024, 4_096 + 1, 1_024),
    1_024: range(2_048, 8_192 + 1, 1_024),
    2_048: range(4_096, 16_384 + 1, 1_024),
    4_096: range(8_192, 30_720 + 1, 1_024),
    8_192: range(16_384, 61_440 + 1, 4_096),
    16_384: range(32_768, 122_880 + 1, 8_192),
}
"""The memory sizes that each CPU size takes
(https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-cpu-memory-error.html)."""

Commands = dict[str, list[str]]


class RoleData(Frozen):
    """One role: who fills it, how it is started, what it may use. `cpu` in 1/1024 vCPU."""

    agent_id: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$")
    name: str = Field(min_length=1, max_length=80)
    image: str = Field(default="", max_length=512)
    cpu: int
    memory_mib: int
    timeout_min: int = Field(ge=1, le=10_080)
    sends_back_to: Role | None = None
    commands: Commands = Field(default_factory=dict)

    @model_validator(mode="after")
    def _fits_fargate(self) -> Self:
        if self.cpu not in _FARGATE_MIB:
            raise ValueError(f"cpu is one of {', '.join(map(str, _FARGATE_MIB))}, not {self.cpu}")
        sizes = _FARGATE_MIB[self.cpu]
        if self.memory_mib not in sizes:
            every = (
                f"{sizes[0]} to {sizes[-1]} with cpu = {self.cpu}, in steps of {sizes.step}"
                if isinstance(sizes, range)
                else f"{', '.join(map(str, sizes))} with cpu = {self.cpu}"
            )
            raise ValueError(f"memory_mib is {every}, not {self.memory_mib}")
        return self


class Limits(Frozen):
    """How pipelines go: per project at a time, rounds of sending back, retries of a role that failed."""

    at_a_time: int = Field(ge=1, le=1_000)
    rounds: int = Field(ge=0, le=100)
    retries: int = Field(ge=0, le=10)


class Roles(Frozen):
    """The whole file. `role` is in the order of the work."""

    pipeline: Limits
    commands: Commands
    role: dict[Role, RoleData] = Field(min_length=1)

    @model_validator(mode="after")
    def _hangs_together(self) -> Self:
        order = list(self.role)
        ids = [one.agent_id for one in self.role.values()]
        if len(set(ids)) != len(ids):
            raise ValueError("each role needs an agent_id of its own")
        for number, (role, one) in enumerate(self.role.items()):
            if one.sends_back_to is not None and one.sends_back_to not in order[:number]:
                raise ValueError(f"{role}.sends_back_to names a role that works before it")
        for commands in (self.commands, *(one.commands for one in self.role.values())):
            for kind, words in commands.items():
                if not words:
                    raise ValueError(f"the command '{kind}' is empty")
                unknown = set(re.findall(r"{(\w*)}", " ".join(words))) - _WORDS
                if unknown:
                    raise ValueError(
                        f"the command '{kind}' has {{{min(unknown)}}}, "
                        f"which is none of {', '.join(sorted(_WORDS))}"
                    )
                for word in words:
                    try:
                        word.format(**dict.fromkeys(_WORDS, ""))
                    except (AttributeError, LookupError, ValueError) as error:
                        raise ValueError(
                            f"the command '{kind}' has a brace that is no name: {word!r}; write {{{{ for {{"
                        ) from error
        return self

    @property
    def line(self) -> tuple[Role, ...]:
        """The roles in the order of the work."""
        return tuple(self.role)

    @property
    def agents(self) -> dict[str, Agent]:
        """The named workers by their ids."""
        return {
            one.agent_id: Agent(id=one.agent_id, name=one.name, role=role)
            for role, one in self.role.items()
        }

    def command(self, role: Role, kind: str) -> list[str]:
        """The words that start a role's agent. Raises Invalid for a kind that has none."""
        found = self.role[role].commands.get(kind) or self.commands.get(kind)
        if found is None:
            raise Invalid(f"There is no command '{kind}' for the {role} in agents.toml.")
        return found


def load_roles(path: Path) -> Roles:
    """Read and check the file. Raises errors.Invalid with one line: the file, the place, what it takes."""
    try:
        table: dict[str, Any] = tomllib.loads(path.read_text())
        return Roles.model_validate(table)
    except tomllib.TOMLDecodeError as error:
        raise Invalid(f"{path.name}: {error}.") from error
    except OSError as error:
        raise Invalid(f"{path.name} cannot be read: {error}.") from error
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in fault["loc"] if part != "[key]")
        said = fault["msg"].removeprefix("Value error, ")
        raise Invalid(f"{path.name}: {place + ': ' if place else ''}{said}.") from error


# What ships. Another file is AGENTS_FILE's affair, and reaches the use cases through bootstrap.
ROLES: Final = load_roles(Path(__file__).with_name("agents.toml"))
AGENTS: Final = ROLES.agents
