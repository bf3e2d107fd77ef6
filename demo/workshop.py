"""One agent's working copy: a git worktree and a branch of its own, merged into `main` for real.

{repo}                 the checkout of `main`, made by demo.seed, or by the first agent of a new feature
{repo}.{agent}         the agent's worktree, on the branch {agent}
{repo}.{agent}.lock    held while an agent's process works in it
{repo}/.git/demo.lock  held while `main` moves

A commit that renames says so in a trailer, `Renames: old -> new`; whoever merges it lets their own
work follow.
"""

from __future__ import annotations

import contextlib
import fcntl
import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from demo import source, suite

TEMPLATE = Path(__file__).with_name("template")
GIT_TIMEOUT_S = 60
DIFF_LINES = 80


class GitFailed(RuntimeError):
    """What git said."""


@dataclass(frozen=True)
class Merged:
    """What a merge did: commits of others that came, files in conflict (then nothing was merged)."""

    came: int = 0
    conflicts: tuple[str, ...] = ()
    followed: tuple[str, ...] = ()
    """Renames of others that our own work followed, as `old -> new`."""


def git(folder: Path, *arguments: str, author: str = "Omakase demo", **own: str) -> str:
    """Run git without anybody's settings, with these variables of its own; its standard output. Raises
    GitFailed."""
    mail = f"{author.lower().replace(' ', '.')}@tea-shop.invalid"
    environment = suite.quiet_environment(
        {
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_AUTHOR_NAME": author,
            "GIT_AUTHOR_EMAIL": mail,
            "GIT_COMMITTER_NAME": author,
            "GIT_COMMITTER_EMAIL": mail,
            **own,
        }
    )
    done = subprocess.run(
        ["git", *arguments],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=GIT_TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        raise GitFailed(f"git {arguments[0]}: {(done.stderr or done.stdout).strip()}")
    return done.stdout.strip("\n")


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait for a lock between processes, and hold it."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def create_repository(folder: Path, files: Path) -> bool:
    """A repository whose first commit is a copy of `files`; False when it is there already."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.with_name(f"{folder.name}.making")):
        if (folder / ".git" / "made-by-demo").exists() or _has_commits(folder):
            return False  # ours, or one that somebody put there
        folder.mkdir(exist_ok=True)
        git(folder, "init", "--quiet", "--initial-branch=main")
        for path in sorted(files.rglob("*")):
            relative = path.relative_to(files)
            if path.is_file() and "__pycache__" not in relative.parts:
                target = folder / relative
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(path.read_bytes())
        git(folder, "add", "--all")
        git(folder, "commit", "--quiet", "--message", "The tea shop as we found it")
        # last, so that a half-made repository is made again
        (folder / ".git" / "made-by-demo").touch()
    return True


def _has_commits(folder: Path) -> bool:
    if not (folder / ".git").exists():
        return False
    with contextlib.suppress(GitFailed):
        return bool(git(folder, "rev-parse", "--verify", "--quiet", "HEAD"))
    return False


class Workshop:
    """Where one agent reads, edits, tests and commits."""

    def __init__(self, repo: Path, folder: Path, branch: str, author: str, held: TextIO) -> None:
        self.repo = repo
        self.folder = folder
        self.branch = branch
        self._author = author
        self._held = held

    @classmethod
    def open(cls, repo: Path, agent: str) -> Workshop:
        """Take the agent's worktree, made when it is missing, as is the shop; another one while it is taken."""
        create_repository(repo, TEMPLATE)
        for number in range(1, 100):
            branch = agent.lower() if number == 1 else f"{agent.lower()}-{number}"
            held = repo.with_name(f"{repo.name}.{branch}.lock").open("a")
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                held.close()
                continue
            folder = repo.with_name(f"{repo.name}.{branch}")
            with locked(repo / ".git" / "demo.lock"):
                _ready(repo, folder, branch)
            return cls(repo, folder, branch, agent, held)
        raise GitFailed("A hundred worktrees are taken.")

    @property
    def lock_descriptor(self) -> int:
        """What holds the worktree for this process, and for one that it becomes."""
        return self._held.fileno()

    def close(self) -> None:
        """Let go of it; what is not committed is dropped."""
        self.restore()
        self._held.close()

    def git(self, *arguments: str) -> str:
        """Run git here, as this agent."""
        return git(self.folder, *arguments, author=self._author)

    def run_tests(self, *names: str) -> suite.Result:
        """Run the suite, or these tests."""
        return suite.run(self.folder, names)

    def coverage(self) -> suite.Coverage:
        """Which lines the suite runs."""
        return suite.coverage(self.folder)

    def read(self, file: str) -> str:
        """A file's text."""
        return (self.folder / file).read_text(encoding="utf-8")

    def write(self, file: str, text: str) -> None:
        """Replace a file."""
        (self.folder / file).write_text(text, encoding="utf-8")

    def restore(self) -> None:
        """Drop what is not committed."""
        self.git("reset", "--quiet", "--hard", "HEAD")
        self.git("clean", "--quiet", "--force", "-d")

    def dirty(self) -> bool:
        """Whether something is not committed."""
        return bool(self.git("status", "--porcelain"))

    def commit(self, message: str, *, renames: Sequence[tuple[str, str]] = ()) -> str | None:
        """Commit everything; the short id, None when nothing had changed."""
        if not self.dirty():
            return None
        trailers = "".join(f"\nRenames: {old} -> {new}" for old, new in renames)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message + (f"\n{trailers}" if trailers else ""))
        return self.head()

    def head(self) -> str:
        """The short id of the last commit."""
        return self.git("rev-parse", "--short", "HEAD")

    def first(self) -> str:
        """The id of the very first commit."""
        return self.git("rev-list", "--max-parents=0", "HEAD").splitlines()[-1]

    def main(self) -> str:
        """The id of what `main` is now."""
        return self.git("rev-parse", "main")

    def log(self, span: str) -> list[tuple[str, str, str]]:
        """(short id, author, subject) of the commits without merges in a span, oldest first."""
        text = self.git("log", "--no-merges", "--reverse", "--format=%h%x09%an%x09%s", span)
        return [(a, b, c) for a, b, c in (line.split("\t", 2) for line in text.splitlines())]

    def renames(self, span: str) -> list[tuple[str, str]]:
        """The renames that the commits of a span say they made, oldest first."""
        form = "--format=%(trailers:key=Renames,valueonly)"
        text = self.git("log", "--reverse", form, span)
        return [(a, b) for a, b in re.findall(r"^(\w+) -> (\w+)$", text, re.MULTILINE)]

    def diff(self, *arguments: str, lines: int = DIFF_LINES) -> str:
        """A diff, cut after so many lines and saying so."""
        text = self.git("diff", *arguments).splitlines()
        if len(text) > lines:
            text = [*text[:lines], f"... {len(text) - lines} more lines"]
        return "\n".join(text)

    def update(self) -> Merged:
        """Merge `main` into this branch, and let our own work follow the renames that come with it."""
        before = self.git("rev-parse", "HEAD")
        came = int(self.git("rev-list", "--count", "--no-merges", f"{before}..main"))
        renames = self.renames(f"{before}..main")
        try:
            self.git("merge", "--quiet", "--no-edit", "main")
        except GitFailed:
            conflicts = self.git("diff", "--name-only", "--diff-filter=U").splitlines()
            with contextlib.suppress(GitFailed):
                self.git("merge", "--abort")
            return Merged(0, tuple(conflicts) or ("(git says no)",))
        followed = []
        for old, new in renames:
            known = {one.name for one in source.functions(self.folder)}
            if old not in known and source.replace_everywhere(self.folder, old, new):
                followed.append(f"{old} -> {new}")
        if followed:
            self.commit(f"Follow the rename {', '.join(followed)}")
        return Merged(came, (), tuple(followed))

    def deliver(self) -> Merged:
        """Bring this branch into `main`: first `main` into it, then `main` forward to it."""
        with locked(self.repo / ".git" / "demo.lock"):
            merged = self.update()
            if not merged.conflicts:
                git(self.repo, "merge", "--quiet", "--ff-only", self.branch)
        return merged


def _ready(repo: Path, folder: Path, branch: str) -> None:
    """The worktree, clean, on its branch, whatever an agent that was killed left behind."""
    if (folder / ".git").exists():
        where = git(folder, "rev-parse", "--absolute-git-dir")
        (Path(where) / "index.lock").unlink(missing_ok=True)
        git(folder, "reset", "--quiet", "--hard", "HEAD")
        git(folder, "clean", "--quiet", "--force", "-d")
        return
    git(repo, "worktree", "prune")
    exists = bool(git(repo, "branch", "--list", branch))
    git(
        repo, "worktree", "add", "--quiet", str(folder), *([branch] if exists else ["-b", branch]),
        *([] if exists else ["main"]),
    )  # fmt: skip
