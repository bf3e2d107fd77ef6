"""Who is who in an agent's container: the image's user, and root as ECS Exec comes in, as real processes.

What ECS does with `linuxParameters.capabilities.drop` setpriv does here: it takes capabilities out of the
bounding set, so root has them no more from the next exec on.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

AGENT = 10_002
"""USER of infra/agent/Dockerfile."""
NOBODY = 65_534


def why_not() -> str:
    """What is missing to be somebody else; empty when nothing is."""
    if os.geteuid() != 0:
        return "only root can be another user"
    if shutil.which("setpriv") is None:
        return "there is no setpriv (util-linux)"
    return "" if _python() else "there is no python3 that another user can execute"


def python() -> str:
    """A python3 that every user can execute: the tests' own may be in somebody's home."""
    found = _python()
    assert found is not None
    return found


@cache
def _python() -> str | None:
    for path in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        # setpriv itself still has its capabilities when it executes: a child of it has not
        code = (
            f"import ssl, subprocess, sys; subprocess.run([{path!r}, '-c', ''], check=True);"
            "sys.exit(sys.version_info < (3, 9))"
        )
        words = user(AGENT, path, "-I", "-c", code)
        if (
            Path(path).exists()
            and not subprocess.run(words, capture_output=True, check=False).returncode
        ):
            return path
    return None


def user(uid: int, *command: str) -> list[str]:
    """The command as that user, who has no capability."""
    ids = [f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
    return ["setpriv", *ids, *_without(["ALL"]), *command]


def root_without(drop: Sequence[str], *command: str) -> list[str]:
    """The command as root, as in a container whose definition drops these."""
    return ["setpriv", *_without(drop), *command]


def _without(drop: Sequence[str]) -> list[str]:
    names = ["-all"] if "ALL" in drop else [f"-{name.lower()}" for name in drop]
    return [f"--bounding-set={','.join(names)}", "--inh-caps=-all"]


@contextmanager
def file_system() -> Iterator[Path]:
    """A folder that every user can get into, as a container's root is; `home` in it is the agent's."""
    with tempfile.TemporaryDirectory(prefix="omakase-container-") as folder:
        path = Path(folder)
        path.chmod(0o755)
        home = path / "home"
        home.mkdir(mode=0o755)
        if os.geteuid() == 0:
            os.chown(home, AGENT, AGENT)
        yield path
