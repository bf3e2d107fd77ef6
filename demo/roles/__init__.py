"""The four trades."""

from typing import Final

from demo.role import Role
from demo.roles.architect import Architect
from demo.roles.coder import Coder
from demo.roles.reviewer import Reviewer
from demo.roles.tester import Tester

BY_NAME: Final[dict[str, tuple[str, type[Role]]]] = {
    "architect": ("Miso", Architect),
    "coder": ("Nori", Coder),
    "reviewer": ("Koji", Reviewer),
    "tester": ("Toro", Tester),
}
"""The agent's name and trade for each role of `chat.runs.Role`."""
