"""Going on hold and coming back: the agent's own checkpoint hook, and what it left for the next process.

The hook is a shell command of the agent's image (`--checkpoint`, OMAKASE_CHECKPOINT), run in the command's
folder beside it. What it prints is the checkpoint; it puts away what must not be lost, since the machine
may be gone afterwards. When it fails, nothing is ended.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional

from agent_hooks import local
from agent_hooks.api import RunApi
from agent_hooks.backoff import Backoff
from agent_hooks.errors import HooksError, Refused, SidecarAway, SidecarRefused, Unreachable
from agent_hooks.state import StateDir, read_json, write_private

HELD = "suspended"
"""The status of a run on hold."""
MAX_BYTES = 32_768
HOOK_S = 60.0
LOOK_S = 0.1
FETCH_S = 300.0
RETIRE_S = 15.0
REMEMBERED = ("step", "session_id", "transcript", "said", "check_every")
"""What of the sidecar's memory goes along with a checkpoint."""
OF_THE_SESSION = frozenset(("session_id", "transcript", "said"))


class HookFailed(HooksError):
    """The checkpoint hook did not do: why, in words."""


def run_hook(
    command: str,
    *,
    env: Mapping[str, str],
    folder: Path,
    deadline_s: float = HOOK_S,
    cut: Callable[[], bool] = lambda: False,
) -> "tuple[Optional[str], List[str]]":
    """What the hook printed, and its lines on stderr; None when `cut` became true before it had ended.

    Raises HookFailed. Output goes through files: what the hook leaves running cannot keep us waiting.
    """
    out, err = folder / "checkpoint.out", folder / "checkpoint.err"
    with open(str(out), "wb") as stdout, open(str(err), "wb") as stderr:
        try:
            hook = subprocess.Popen(
                ["/bin/sh", "-c", command],
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )
        except OSError as error:
            raise HookFailed(f"the checkpoint hook could not be started: {error}") from error
    try:
        why = _await(hook, out, deadline_s, cut)
        said = err.read_bytes()[-16_384:].decode("utf-8", "replace").splitlines()
        if why == "cut":
            return None, said
        if why:
            raise HookFailed(why)
        if hook.returncode:
            last = f": {said[-1][:200]}" if said else ""
            raise HookFailed(f"the checkpoint hook ended with exit code {hook.returncode}{last}")
        data = out.read_bytes()
        if len(data) > MAX_BYTES:
            raise HookFailed(_too_much())
        try:
            return data.decode("utf-8"), said
        except UnicodeDecodeError as error:
            raise HookFailed("the checkpoint is not UTF-8") from error
    finally:
        if hook.poll() is None:
            _kill(hook)
        for path in (out, err):
            path.unlink(missing_ok=True)


def _await(
    hook: "subprocess.Popen[bytes]", out: Path, deadline_s: float, cut: Callable[[], bool]
) -> str:
    """Why it was killed; nothing when it ended by itself."""
    deadline = time.monotonic() + deadline_s
    while True:
        try:
            hook.wait(LOOK_S)
            return ""
        except subprocess.TimeoutExpired:
            why = ""
            if cut():
                why = "cut"
            elif time.monotonic() > deadline:
                why = f"the checkpoint hook was not done in {deadline_s:g} s"
            elif out.stat().st_size > MAX_BYTES:
                why = _too_much()
            if why:
                _kill(hook)
                return why


def _kill(hook: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(ProcessLookupError):  # it ends at this moment
        os.killpg(hook.pid, signal.SIGKILL)
    hook.wait()


def _too_much() -> str:
    return f"the checkpoint is larger than {MAX_BYTES} bytes"


def come_back(state: StateDir, generation: int) -> Optional[Path]:
    """Make the folder this process's own, and bring what the one before left: the checkpoint's file, None
    when there is none. Raises Ended, HooksError.

    Where the processes of a run share a machine, the sidecar of the one before may still be there.
    """
    memory = read_json(state / "memory.json")
    if memory.get("generation", 0) == generation and memory.get("ended") != HELD:
        path = state / "checkpoint.txt"
        return path if path.exists() else None
    _retire_sidecar(state)
    memory = read_json(state / "memory.json")
    kept = _fetched(state) if generation else None
    if kept is not None:
        here = session_is_here(str(kept.get("session_id")), str(kept.get("transcript")))
        names = [name for name in REMEMBERED if here or name not in OF_THE_SESSION]
        memory.update({name: kept[name] for name in names if name in kept})
    memory.update({"paused": False, "stop": None, "ended": "", "generation": generation})
    path = state / "checkpoint.txt"
    if kept is not None:
        write_private(path, str(kept["text"]).encode("utf-8"))
    write_private(state / "memory.json", json.dumps(memory).encode())
    return path if kept is not None else None


def _retire_sidecar(state: StateDir) -> None:
    with contextlib.suppress(SidecarAway, SidecarRefused):  # one that is ending holds its lock
        local.call(state, "shutdown", 2.0)
    deadline = time.monotonic() + RETIRE_S
    lock = os.open(str(state / "sidecar.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except OSError:
                if time.monotonic() > deadline:
                    raise SidecarAway("the sidecar of the process before does not end") from None
                time.sleep(LOOK_S)
    finally:
        os.close(lock)


def _fetched(state: StateDir) -> Optional[Dict[str, Any]]:
    """The server's; asked for until it answers, since without it the work would begin anew."""
    config, backoff, deadline = state.config(), Backoff(), time.monotonic() + FETCH_S
    api = RunApi(config.server, config.run_id, config.token)
    try:
        while True:
            try:
                kept = api.checkpoint().get("checkpoint")
                return kept if isinstance(kept, dict) else None
            except Refused as error:
                raise HooksError(f"the checkpoint is refused ({error.code}): {error}") from error
            except Unreachable as error:
                if time.monotonic() > deadline:
                    raise HooksError(f"the checkpoint cannot be had: {error}") from error
                print(f"agent-hooks: waiting for the checkpoint: {error}", file=sys.stderr)
                time.sleep(backoff.next_s(error.retry_after_s))
    finally:
        api.close()


def session_is_here(session_id: str, transcript: str) -> bool:
    """Whether Claude Code has kept this session on this machine, so that it can be resumed."""
    return bool(session_id and transcript) and Path(transcript).is_file()
