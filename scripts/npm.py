"""Packages from npm for tests and benchmarks: the pinned ones of a folder, installed once, by one process."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
from pathlib import Path

INSTALL_S = 300


class NpmError(Exception):
    """What the folder needs cannot be had here; the sentence says why."""


def install(folder: Path, *, then: str | None = None) -> Path:
    """`npm ci` of the folder's package-lock.json; its node_modules.

    `then` is a script below node_modules that Node runs afterwards: the install step of a package that
    needs its own, which `npm ci --ignore-scripts` leaves out. Whoever comes while another process
    installs waits for it, so nobody starts a program that is being written. Raises NpmError.
    """
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise NpmError("Node and npm are needed (apt-get install nodejs npm)")
    pinned, modules = folder / "package-lock.json", folder / "node_modules"
    with pinned.open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        digest = hashlib.sha256(lock.read()).hexdigest()
        stamp = modules / ".installed"
        if stamp.exists() and stamp.read_text() == digest:
            return modules
        _run([npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"], folder)
        if then is not None:
            _run([node, str(modules / then)], folder)
        stamp.write_text(digest)
    return modules


def _run(command: list[str], folder: Path) -> None:
    try:
        subprocess.run(
            command, cwd=folder, check=True, capture_output=True, text=True, timeout=INSTALL_S,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.CalledProcessError as error:
        raise NpmError(f"{command[0]} failed in {folder.name}: {error.stderr[-500:]}") from error
    except subprocess.TimeoutExpired as error:
        raise NpmError(f"{command[0]} took over {INSTALL_S} s in {folder.name}") from error
