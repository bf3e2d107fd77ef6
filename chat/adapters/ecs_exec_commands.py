"""The commands that may be run in a task's container: a frozen table, and nothing else.

ECS splits the string as a shell would and executes it without one
(https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs-exec.html). Each word is quoted by
shlex; arguments that would mean something to a shell or to an option parser are refused before that.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from chat.errors import Invalid

ARGUMENT: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@=/+-]{0,127}")


@dataclass(frozen=True, slots=True)
class Command:
    """A command that may be run. `sign` is what it prints when it has done its work.

    One without a sign is a shell: it is opened for an owner, takes no argument at all, and is never run.
    """

    words: tuple[str, ...]
    sign: str | None


PYZ: Final = "/opt/omakase/agent-hooks.pyz"
# -I -S: it runs as root with the agent's HOME, whose site-packages the agent can write
_HOOKS: Final = ("python3", "-I", "-S", PYZ)
COMMANDS: Final[Mapping[str, Command]] = MappingProxyType(
    {
        "look": Command((*_HOOKS, "look"), sign="omakase: looking"),
        "status": Command((*_HOOKS, "status"), sign='"run_id"'),
        # bash where the image has it, for its line editing; these words are ours to the last one
        "shell": Command(
            ("sh", "-c", "command -v bash >/dev/null && exec bash; exec sh"), sign=None
        ),
    }
)


def command_line(name: str, *arguments: str) -> str:
    """The command of that name as ECS wants it. Raises Invalid for any other name or argument."""
    command = COMMANDS.get(name)
    if command is None:
        raise Invalid(f"There is no command {name!r}; there are {', '.join(COMMANDS)}.")
    if arguments and command.sign is None:
        raise Invalid(f"The command {name!r} takes no argument.")
    for argument in arguments:
        if not ARGUMENT.fullmatch(argument):
            raise Invalid(
                "An argument is up to 128 letters, digits and _.:@=/+-, and does not begin with a sign."
            )
    return shlex.join([*command.words, *arguments])
