"""The checkpoint hook of the worked example: keeps the work of an agent whose task is ended to save money.

Each git repository in the working folder, or right below it, is committed as it stands (also what is not
committed yet, without touching its branch or index) and pushed to its first remote as

    refs/checkpoints/{run id}

What is printed is the checkpoint: where each is, and what the agent said last. Who comes back reads it in
OMAKASE_CHECKPOINT_FILE (the role's instructions say so). Exit code 1 with one line on stderr when there is
something that cannot be kept; then nothing is ended. Standard library, Python 3.9 or later.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

WORDS, WORDS_MAX = 5, 2_000
GIT = ["git", "-c", "user.name=Omakase", "-c", "user.email=checkpoint@omakase.invalid"]


class CannotKeep(Exception):
    """Something would be lost; the sentence says what."""


def git(folder: Path, *words: str, index: str | None = None) -> str:
    env = {**os.environ, "GIT_TERMINAL_PROMPT": "0"}
    if index is not None:
        env["GIT_INDEX_FILE"] = index
    done = subprocess.run(
        [*GIT, "-C", str(folder), *words], env=env, capture_output=True, text=True, check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise CannotKeep(f"git {words[0]} failed in {folder.name}: {last[:200]}")
    return done.stdout.strip()


def keep(folder: Path, ref: str) -> str:
    """Commit everything and push it; in words, where it is."""
    remotes = git(folder, "remote").splitlines()
    if not remotes:
        raise CannotKeep(f"{folder.name} has no remote to which its work could be pushed")
    branch = git(folder, "rev-parse", "--abbrev-ref", "HEAD")
    with tempfile.TemporaryDirectory() as scratch:
        index = str(Path(scratch) / "index")
        git(folder, "read-tree", "HEAD", index=index)
        git(folder, "add", "--all", index=index)
        tree = git(folder, "write-tree", index=index)
    commit = git(folder, "commit-tree", tree, "-p", "HEAD", "-m", "On hold: the work as it stood")
    git(folder, "push", "--quiet", "--force", remotes[0], f"{commit}:{ref}")
    url = re.sub(r"//[^/@]*@", "//", git(folder, "remote", "get-url", remotes[0]))
    return f"{folder.name}: {url} {ref} is commit {commit}, on branch {branch}."


def repositories(folder: Path) -> list[Path]:
    if (folder / ".git").exists():
        return [folder]
    found = sorted(path.parent for path in folder.glob("*/.git"))
    others = sorted(path.name for path in folder.iterdir() if path not in found)
    if others:
        raise CannotKeep(f"{others[0]} lies outside every git repository")
    return found


def last_words(config: Path) -> Iterator[str]:
    """What Claude Code said last, by its newest transcript; nothing where there is none."""
    transcripts = sorted(config.glob("projects/*/*.jsonl"), key=lambda path: path.stat().st_mtime)
    said: list[str] = []
    for line in transcripts[-1].read_text("utf-8", "replace").splitlines() if transcripts else []:
        try:
            entry: dict[str, Any] = json.loads(line)
            blocks = entry["message"]["content"] if entry.get("type") == "assistant" else []
            said += [block["text"] for block in blocks if block.get("type") == "text"]
        except (ValueError, KeyError, TypeError, AttributeError):
            continue  # half a line, or an entry of another kind
    for text in said[-WORDS:]:
        yield text[:WORDS_MAX]


def main() -> int:
    ref = f"refs/checkpoints/{os.environ['OMAKASE_RUN_ID']}"
    try:
        kept = [keep(folder, ref) for folder in repositories(Path.cwd())]
    except (CannotKeep, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print("\n".join(["You were on hold. What you had done:", *(kept or ["nothing yet."])]))
    config = Path(os.environ.get("CLAUDE_CONFIG_DIR") or Path.home() / ".claude")
    words = list(last_words(config))
    if words:
        print("\n\n".join(["\nWhat you said last:", *words]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
