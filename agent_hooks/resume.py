"""Giving a session that has ended what is still unread: only whoever started it can."""

from __future__ import annotations

import os
from typing import List, Optional, Sequence

WITH_VALUE = frozenset(
    (
        "--model", "--fallback-model", "--permission-mode", "--settings", "--output-format",
        "--allowedTools", "--allowed-tools", "--disallowedTools", "--disallowed-tools",
        "--mcp-config", "--add-dir", "--append-system-prompt", "--system-prompt", "--max-turns",
        "--setting-sources", "--tools", "--effort", "--max-budget-usd", "--agents", "--plugin-dir",
    )
)  # fmt: skip
ALONE = frozenset(("--verbose", "--dangerously-skip-permissions", "--strict-mcp-config", "--debug"))


def resumed(command: Sequence[str], session_id: str, text: str) -> Optional[List[str]]:
    """`claude -p --resume ID TEXT` with the options of the first command; None for other programs
    and for Claude Code's interactive face (nothing can be given to that from outside)."""
    place = next(
        (n for n, word in enumerate(command[:2]) if os.path.basename(word) in ("claude", "cli.js")),
        None,
    )
    if place is None or not {"-p", "--print"} & set(command):
        return None
    kept: List[str] = []
    words = list(command[place + 1 :])
    while words:
        word = words.pop(0)
        name = word.partition("=")[0]
        if name in WITH_VALUE:
            kept.append(word)
            if "=" not in word and words:
                kept.append(words.pop(0))
        elif name in ALONE:
            kept.append(word)
    return [*command[: place + 1], "-p", *kept, "--resume", session_id, "--", text]
