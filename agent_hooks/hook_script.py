"""The thin hook: a file of its own that runs in the time of a bare interpreter.

`python3 -I -S hook.py <event> [state folder]`: only modules built into the interpreter, no `json`, no
`os`. It hands its stdin to the sidecar, prints what comes back, and never fails: when the sidecar is
away or silent it ends with 0 and prints nothing.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import List, Optional

from agent_hooks.state import program, write_private

SCRIPT = """\
# Written by agent_hooks; see agent_hooks/hook_script.py.
import posix, sys
START = {start}

def main():
    event = sys.argv[1] if len(sys.argv) > 1 else ""
    folder = posix.environ.get(b"OMAKASE_STATE_DIR")
    if not folder and len(sys.argv) > 2:
        folder = sys.argv[2].encode("utf-8", "surrogateescape")
    if not folder or posix.environ.get(b"OMAKASE_HOOKS") == b"off":
        return
    import _socket
    data = [b"hook claude-code\\n"]
    while True:
        piece = posix.read(0, 1 << 20)
        if not piece:
            break
        data.append(piece)
    # a lost word is worse at the end of a turn than a pause of three seconds
    bound = 3.0 if event == "Stop" else 0.2
    posix.chdir(folder)
    s = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0)
    s.settimeout(0.05)
    try:
        s.connect("sidecar.sock")
    except OSError:
        if event == "SessionStart" and START:
            argv = START + ["sidecar", "--state-dir", folder.decode("utf-8", "surrogateescape"), "--detach"]
            null = posix.open("/dev/null", posix.O_RDWR)
            actions = [(posix.POSIX_SPAWN_DUP2, null, n) for n in (0, 1, 2)]
            posix.posix_spawn(START[0], argv, posix.environ, file_actions=actions)
        return
    s.settimeout(bound / 4)
    for piece in data:
        s.sendall(piece)
    s.shutdown(1)
    s.settimeout(bound)
    out = []
    while True:
        piece = s.recv(65536)
        if not piece:
            break
        s.settimeout(5.0)
        piece = piece.lstrip(b"\\0")
        if piece:
            out.append(piece)
    out = b"".join(out)
    while out:
        out = out[posix.write(1, out):]

try:
    main()
except Exception:
    pass
posix._exit(0)
"""


def script(start: Optional[List[str]] = None) -> str:
    """The file's text; `start` is the command that starts a sidecar (ours, if not given)."""
    return SCRIPT.replace("{start}", json.dumps(program() if start is None else start))


def write(folder: Path) -> Path:
    """Put `hook.py` into a folder; its path."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / "hook.py"
    write_private(path, script().encode())
    return path


def command(path: Path, event: str, state_dir: Optional[Path] = None) -> str:
    """The command for the agent's settings: one plain string, absolute interpreter."""
    import shlex

    parts = [sys.executable, "-I", "-S", str(path), event]
    if state_dir is not None:
        parts.append(str(state_dir))
    return " ".join(shlex.quote(part) for part in parts)
