"""`python -m demo.checkpoint`: the demo agents' checkpoint hook (agent-hooks run --checkpoint).

What is not committed becomes a commit of its own, refs/checkpoints/{branch} in the feature's repository,
without a change to the worktree: the agent may yet go on. Prints the agent's notes and that commit's id.
Exit codes: 0, 1 with one line on stderr.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from demo import notes
from demo.workshop import GitFailed, git


def put_away(folder: Path, branch: str, author: str) -> str | None:
    """The id of a commit with everything that is not committed, None when there is nothing."""
    if not git(folder, "status", "--porcelain"):
        return None
    index = Path(git(folder, "rev-parse", "--absolute-git-dir")) / "checkpoint-index"
    try:
        own = {"GIT_INDEX_FILE": str(index)}
        git(folder, "read-tree", "HEAD", **own)
        git(folder, "add", "--all", **own)
        tree = git(folder, "write-tree", **own)
    finally:
        index.unlink(missing_ok=True)
    words = f"{author} was put on hold in the middle of this"
    made = git(folder, "commit-tree", tree, "-p", "HEAD", "-m", words, author=author)
    git(folder, "update-ref", f"refs/checkpoints/{branch}", made)
    return made


def main() -> int:
    """Print the checkpoint."""
    if (
        not notes.path().exists()
    ):  # before its first step it knows what it was started with, and no more
        sys.stdout.write(json.dumps(notes.left_by_the_process_before()))
        return 0
    try:
        kept: dict[str, Any] = json.loads(notes.path().read_text(encoding="utf-8"))
        work = put_away(Path(kept["folder"]), kept["branch"], kept["name"])
    except (OSError, ValueError, KeyError, GitFailed) as error:
        print(f"{type(error).__name__}: {error}".splitlines()[0], file=sys.stderr)
        return 1
    sys.stdout.write(json.dumps(kept | {"work": work}))
    sys.stdout.flush()
    return 0


if __name__ == "__main__":
    os.umask(0o077)
    sys.exit(main())
