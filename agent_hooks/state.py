"""A run's folder on the agent's machine: who it is, where its sidecar listens, what waits.

config.json   server, run_id, token, fence (0600)
local.json    the sidecar's instance, pid, loopback port and secret (0600)
sidecar.sock  its unix socket        sidecar.lock  held while it lives
inbox.jsonl   what was leased and what is done with      spool.bin  what is to be sent
memory.json   step counter, paused, stopped, Claude's session
hook.py       the thin client        sidecar.log   its own complaints
"""

from __future__ import annotations

import json
import os
import secrets
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional

from agent_hooks.errors import Misused

UNIX_PATH_MAX = 100
"""Bytes of a socket's path that every system takes (sun_path is 104 on macOS, 108 on Linux)."""


def home(environ: Optional[Mapping[str, str]] = None) -> Path:
    """Where the runs' folders are: $OMAKASE_HOME, or ~/.omakase."""
    given = (os.environ if environ is None else environ).get("OMAKASE_HOME")
    return Path(given) if given else Path.home() / ".omakase"


def write_private(path: Path, data: bytes) -> None:
    """Replace a file in one step, readable by its owner only."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(str(fresh), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(str(fresh), str(path))
    except BaseException:
        fresh.unlink()
        raise


def read_json(path: Path) -> Dict[str, Any]:
    """The JSON object in a file, or {} when it is not there or is broken."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


@dataclass(frozen=True)
class Config:
    """Who this is. `fence` marks people's words, made of random bytes for each run."""

    server: str
    run_id: str
    token: str
    fence: str


class StateDir:
    """A run's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    @classmethod
    def create(cls, path: Path, *, server: str, run_id: str, token: str) -> StateDir:
        """Make the folder, or bring an existing one up to date; its fence stays."""
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        state = cls(path)
        fence = read_json(path / "config.json").get("fence") or secrets.token_hex(8)
        wanted = {"server": server.rstrip("/"), "run_id": run_id, "token": token, "fence": fence}
        if read_json(path / "config.json") != wanted:
            write_private(path / "config.json", json.dumps(wanted).encode())
        return state

    @classmethod
    def from_environ(cls, environ: Optional[Mapping[str, str]] = None) -> StateDir:
        """OMAKASE_STATE_DIR, or made from OMAKASE_SERVER, OMAKASE_RUN_ID and OMAKASE_TOKEN(_FILE).

        Raises Misused, saying which is missing.
        """
        env = os.environ if environ is None else environ
        if env.get("OMAKASE_STATE_DIR"):
            state = cls(Path(env["OMAKASE_STATE_DIR"]))
            state.config()
            return state
        token = env.get("OMAKASE_TOKEN", "")
        if not token and env.get("OMAKASE_TOKEN_FILE"):
            try:
                token = Path(env["OMAKASE_TOKEN_FILE"]).read_text(encoding="utf-8").strip()
            except OSError as error:
                raise Misused(f"OMAKASE_TOKEN_FILE cannot be read: {error.strerror}") from error
        values = {
            "OMAKASE_SERVER": env.get("OMAKASE_SERVER", ""),
            "OMAKASE_RUN_ID": env.get("OMAKASE_RUN_ID", ""),
            "OMAKASE_TOKEN": token,
        }
        missing = [name for name, value in values.items() if not value]
        if missing:
            raise Misused(f"{', '.join(missing)} not set; `register` prints what to set.")
        run_id = values["OMAKASE_RUN_ID"]
        if not run_id.replace("_", "").replace("-", "").isalnum():
            raise Misused("OMAKASE_RUN_ID is not a run's id.")
        return cls.create(
            home(env) / run_id, server=values["OMAKASE_SERVER"], run_id=run_id, token=token
        )

    def config(self) -> Config:
        """Raises Misused when the folder belongs to no run."""
        value = read_json(self.path / "config.json")
        try:
            return Config(
                server=str(value["server"]),
                run_id=str(value["run_id"]),
                token=str(value["token"]),
                fence=str(value["fence"]),
            )
        except KeyError as error:
            raise Misused(f"{self.path} is not the state folder of a run.") from error

    @property
    def socket_fits(self) -> bool:
        """Whether the unix socket can be reached by its full path."""
        return len(os.fsencode(str(self.path / "sidecar.sock"))) <= UNIX_PATH_MAX


def program() -> List[str]:
    """The command that starts this very code again, from a zipapp or from a checkout."""
    root = Path(__file__).resolve().parent.parent
    if zipfile.is_zipfile(str(root)):
        return [sys.executable, "-I", str(root)]
    boot = (
        f"import sys; sys.path.insert(0, {str(root)!r}); "
        "from agent_hooks.__main__ import main; sys.exit(main())"
    )
    return [sys.executable, "-I", "-c", boot]
