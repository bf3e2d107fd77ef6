"""What the four roles have in common: a list of goals, and what is left of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from agent_hooks.loop import Mail

if TYPE_CHECKING:
    from demo.worker import Worker


PATIENCE = 40
"""Steps' time without a commit of anybody after which there is nothing to wait for."""


class Role:
    """One agent's trade. `work` pursues goals through its worker, and returns when nothing is left."""

    phase: ClassVar[str] = "thinking"
    keeps: ClassVar[tuple[str, ...]] = ()
    """Attributes (lists, dictionaries, sets of strings, numbers) that another process needs to go on. A
    role that keeps none begins its list anew, and finds in the repository what is done."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.shop = worker.shop
        self.verdict: str | None = None
        """What is found of another's work, at the end."""

    def notes(self) -> dict[str, Any]:
        """What it keeps."""
        found = {name: getattr(self, name) for name in self.keeps}
        return {n: sorted(value) if isinstance(value, set) else value for n, value in found.items()}

    def restore(self, kept: dict[str, Any]) -> None:
        """Be where the process before was."""
        for name in self.keeps:
            if name in kept:
                value = kept[name]
                setattr(self, name, set(value) if isinstance(getattr(self, name), set) else value)

    def work(self) -> str:
        """Do it all; the summary with which the run ends."""
        raise NotImplementedError

    def left(self) -> list[str]:
        """Titles of the goals that are still to come."""
        raise NotImplementedError

    def main_moved(self, since: str) -> bool:
        """Wait until others have brought something into `main`; False when that takes too long, and at
        once in a pipeline, where the others come after us."""
        if self.worker.takes_turns:
            return False
        self.worker.now = "waiting for commits of the others"
        looks = 0
        while looks < PATIENCE:
            if self.shop.main() != since:
                return True
            # while somebody talks with us, there is time
            looks = 0 if self.worker.idle(self.worker.pace_s) else looks + 1
        return False

    def round_as(self, choice: str, person: str) -> str:
        """Somebody wants another rounding; the reply."""
        del choice, person
        return "How the cart rounds is Nori's to change: write it to Nori."

    def answered(self, mail: Mail) -> str | None:
        """The answer to a question came; a reply, or None."""
        return f"Nobody here waits for “{mail.text}” any more, but I have read it."
