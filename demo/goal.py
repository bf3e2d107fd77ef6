"""What an agent is at, and what may cut it short."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class Skipped(Exception):
    """A person does not want this goal."""


class Again(Exception):
    """The working copy has changed under the goal: begin it again."""


class Terminated(Exception):
    """SIGTERM or SIGINT: somebody outside wants this process to end."""


@dataclass(frozen=True)
class Goal:
    """What the agent is at: `about` are more words by which people may mean it."""

    title: str
    about: str = ""
    subject: str = ""

    def meant_by(self, words: Sequence[str]) -> bool:
        """Whether all of these words are in it."""
        text = f"{self.title} {self.about} {self.subject}".lower().replace("_", " ")
        return bool(words) and all(word in text for word in words)
