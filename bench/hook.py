"""What a hook adds to a step when nothing is in the mailbox, against starting the interpreter alone.

    python bench/hook.py        {"name", "ratio", "floor_ms", "value_ms", "target"}

Both are started in turn, 30 times each, by the same spawn; the medians are compared. The sidecar is a
real one; its server is an address where nobody listens, which a hook never waits for.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from agent_hooks import hook_script, local
from agent_hooks.state import StateDir

ROUNDS = 30
TARGET = 1.7
EVENT = {
    "session_id": "bench", "transcript_path": "", "cwd": "/", "hook_event_name": "PostToolUse",
    "tool_name": "Bash", "tool_use_id": "toolu_1", "tool_input": {"command": "true"},
    "tool_response": {"stdout": "x" * 2_000},
}  # fmt: skip


def spawn_ms(command: list[str], env: dict[str, str], stdin: bytes) -> float:
    began = time.perf_counter()
    done = subprocess.run(command, env=env, input=stdin, capture_output=True, check=True)
    spent = (time.perf_counter() - began) * 1000
    assert done.stdout == b"", done.stdout
    return spent


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="hook-") as folder:
        state = StateDir.create(
            Path(folder) / "run",
            server="http://127.0.0.1:9",
            run_id="run_bench",
            token="none",  # noqa: S106 - nobody listens there
        )
        script = hook_script.write(Path(folder))
        local.ensure_sidecar(state, watch_pid=os.getpid())
        env = {"PATH": "/usr/bin:/bin", "OMAKASE_STATE_DIR": str(state.path)}
        python = os.path.realpath(sys.executable)
        stdin = json.dumps(EVENT).encode()
        bare, hook = [], []
        for _ in range(ROUNDS):
            bare.append(spawn_ms([python, "-I", "-S", "-c", "pass"], env, stdin))
            hook.append(spawn_ms([python, "-I", "-S", str(script), "PostToolUse"], env, stdin))
        assert local.call(state, "status")["hooks_answered"] == ROUNDS
        local.call(state, "shutdown")
        while (state / "sidecar.sock").exists():
            time.sleep(0.02)
    floor, value = statistics.median(bare), statistics.median(hook)
    result = {
        "name": "hook with an empty mailbox / bare interpreter",
        "ratio": round(value / floor, 2),
        "floor_ms": round(floor, 2),
        "value_ms": round(value, 2),
        "target": TARGET,
    }
    print(json.dumps(result))
    return 0 if result["ratio"] <= TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
