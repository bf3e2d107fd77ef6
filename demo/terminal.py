"""The agent's real log: what it does, with colours where a terminal would show them."""

from __future__ import annotations

CYAN, GREEN, RED, GREY, YELLOW, BOLD, PLAIN = (
    f"\x1b[{code}m" for code in (36, 32, 31, 90, 33, 1, 0)
)
SAID_MAX = 120


class Terminal:
    """Writes lines to stdout, flushed, so that people see them as they happen."""

    def step(self, number: int, name: str) -> None:
        """A step begins."""
        self._print(f"{CYAN}{BOLD}step {number}{PLAIN} {CYAN}{name}{PLAIN}")

    def summary(self, text: str | None, *, ok: bool) -> None:
        """How the step went."""
        if text:
            self._print(f"  {GREEN if ok else RED}{text}{PLAIN}")

    def output(self, text: str, *, last: int = 12) -> None:
        """A tool's own output, its last lines."""
        for line in text.rstrip().splitlines()[-last:]:
            self._print(f"  {GREY}| {line}{PLAIN}")

    def diff(self, text: str) -> None:
        """A diff, coloured as git does."""
        for line in text.splitlines():
            colour = {"+": GREEN, "-": RED, "@": CYAN}.get(line[:1], GREY)
            self._print(f"  {colour}{line}{PLAIN}")

    def person(self, name: str, text: str) -> None:
        """Somebody wrote."""
        self._print(f"{YELLOW}{name}: {_short(text)}{PLAIN}")

    def said(self, text: str) -> None:
        """The agent said something."""
        self._print(f"{GREY}said: {_short(text)}{PLAIN}")

    def note(self, text: str) -> None:
        """Anything else."""
        self._print(f"{GREY}{text}{PLAIN}")

    def _print(self, line: str) -> None:
        print(line, flush=True)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SAID_MAX else line[: SAID_MAX - 3] + "..."
