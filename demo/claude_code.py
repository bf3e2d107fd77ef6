"""`python -m demo.claude_code --role coder --repo PATH --pyz FILE --feature NAME`: Claude Code instead.

Takes the role's worktree, puts our hooks into its `.claude/settings.local.json` (which git does not
see), and becomes `agent-hooks.pyz run -- claude -p …` there. Exit codes: the wrapper's; 2 when something
is missing.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from demo.roles import BY_NAME
from demo.workshop import GitFailed, Workshop

SETTINGS = Path(".claude") / "settings.local.json"
TASKS = {
    "architect": "Read the code and its tests, and write PLAN.md: what fails, why, and in what order "
    "to mend it.",
    "coder": "Run the tests, and mend what fails, one thing at a time. Commit each.",
    "reviewer": "Review what was committed on every branch since the first commit, file and line.",
    "tester": "Find what no test covers, and write tests for it. Commit them.",
}

CHECKPOINT = (
    "git add --all && { git diff --cached --quiet || git commit --quiet --message 'Work in progress'; } "
    "&& git rev-parse HEAD"
)
"""Before it goes on hold. Its session is on this machine, and is resumed when it comes back."""


def prompt(role: str, feature: str, hooks: str) -> str:
    """What Claude Code is told first."""
    return (
        f"You are the {role} of the feature '{feature}', in a Python package whose tests run with "
        f"`python -m unittest`. {TASKS[role]}\n\n"
        "People may talk with you while you work; their words reach you between two steps, and they "
        "count as the user's. Where you need a decision of theirs, run "
        f"`{hooks} ask --handle NAME --text QUESTION --option value=label`, and act on the answer."
    )


def main() -> int:  # noqa: RET503 - or it becomes another program
    """Prepare the worktree, then become the wrapper."""
    parser = argparse.ArgumentParser(prog="demo.claude_code", description=__doc__)
    parser.add_argument("--role", required=True, choices=sorted(BY_NAME))
    parser.add_argument("--repo", required=True, type=Path)
    parser.add_argument("--pyz", required=True, type=Path)
    parser.add_argument("--feature", required=True)
    given = parser.parse_args()
    if shutil.which("claude") is None:
        print("There is no `claude` on the path: npm install -g @anthropic-ai/claude-code.",
              file=sys.stderr)  # fmt: skip
        return 2
    name, _ = BY_NAME[given.role]
    try:
        shop = Workshop.open(given.repo.resolve(), name)
    except GitFailed as error:
        print(error, file=sys.stderr)
        return 2
    os.set_inheritable(shop.lock_descriptor, True)  # the worktree is ours until the wrapper ends
    os.chdir(shop.folder)
    hooks = [sys.executable, str(given.pyz.resolve())]
    subprocess.run([*hooks, "install", "claude-code", "--settings", str(SETTINGS)], check=True)
    _unseen(shop.folder)
    for who in ("AUTHOR", "COMMITTER"):  # its commits are its own, whoever's machine it is
        os.environ[f"GIT_{who}_NAME"] = name
        os.environ[f"GIT_{who}_EMAIL"] = f"{name.lower()}@tea-shop.invalid"
    words = prompt(given.role, given.feature, " ".join(hooks))
    claude = ["claude", "-p", words, "--permission-mode", "acceptEdits", "--allowedTools", "Bash"]
    os.execv(sys.executable, [*hooks, "run", "--checkpoint", CHECKPOINT, "--", *claude])  # noqa: S606 - we become it


def _unseen(folder: Path) -> None:
    """Keep our settings out of everybody's commits."""
    common = subprocess.run(
        ["git", "rev-parse", "--git-common-dir"],
        cwd=folder, check=True, capture_output=True, text=True,
    ).stdout.strip()  # fmt: skip
    exclude = folder / common / "info" / "exclude"
    exclude.parent.mkdir(exist_ok=True)
    line = SETTINGS.as_posix()
    if not exclude.exists() or line not in exclude.read_text().splitlines():
        with exclude.open("a") as file:
            file.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
