"""Joining a run to an agent that somebody starts by hand."""

from __future__ import annotations

import getpass
import ipaddress
from typing import Any, Dict, Optional

from agent_hooks.api import Server
from agent_hooks.errors import Ended, Misused, Refused
from agent_hooks.state import StateDir, home


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def register(
    server_url: str,
    *,
    agent_id: str,
    feature: Optional[str],
    project: Optional[str],
    feature_id: Optional[str] = None,
    credential: str = "",
) -> StateDir:
    """A new run for this agent; its state folder. On loopback it signs in by itself first.

    `feature` may also be a feature's id. Raises Misused, Refused, Unreachable.
    """
    server = Server(server_url, token=credential)
    if not credential and _is_loopback(server.host):
        server.call("POST", "/api/session", {"name": _user()})
    body: Dict[str, Any] = {"agent_id": agent_id}
    if feature_id:
        body["feature_id"] = feature_id
    else:
        body.update({"feature": feature, "project": project or "Default"})
    try:
        answer = server.call("POST", "/api/agent-runs/register", body)
    except Ended as error:
        raise Misused(f"The server refused: {error}") from error
    except Refused as error:
        raise Misused(f"The server refused ({error.code}): {error}") from error
    finally:
        server.close()
    run_id = str(answer["run"]["id"])
    return StateDir.create(
        home() / run_id, server=server_url, run_id=run_id, token=str(answer["token"])
    )


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "local"
