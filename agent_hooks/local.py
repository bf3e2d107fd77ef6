"""Talking to the sidecar: one JSON object there, one back, over its unix socket or loopback HTTP."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import time
from typing import Any, Dict, List, Optional

from agent_hooks.errors import Ended, SidecarAway, SidecarRefused
from agent_hooks.state import StateDir, program, read_json

START_S = 10.0
"""How long a sidecar may take to come up on a busy machine."""


def call(state: StateDir, op: str, timeout_s: float = 10.0, **fields: Any) -> Dict[str, Any]:
    """Ask the sidecar. Raises SidecarAway, or SidecarRefused with its code."""
    request = json.dumps({"op": op, **fields}).encode()
    try:
        raw = (_by_socket if state.socket_fits else _by_http)(state, request, timeout_s)
        answer = json.loads(raw)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise SidecarAway(f"no sidecar answers in {state.path}: {error}") from error
    if not isinstance(answer, dict):
        raise SidecarAway("the sidecar's answer is not an object")
    if not answer.get("ok"):
        raise SidecarRefused(str(answer.get("code", "error")), str(answer.get("detail", "")))
    return answer


def _by_socket(state: StateDir, request: bytes, timeout_s: float) -> bytes:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_s)
        connection.connect(str(state / "sidecar.sock"))
        connection.sendall(b"json\n" + request)
        connection.shutdown(socket.SHUT_WR)
        chunks: List[bytes] = []
        while True:
            chunk = connection.recv(65_536)
            if not chunk:
                return b"".join(chunks)
            chunks.append(chunk)


def _by_http(state: StateDir, request: bytes, timeout_s: float) -> bytes:
    where = read_json(state / "local.json")
    if not where:
        raise OSError("it has left no address")
    connection = http.client.HTTPConnection("127.0.0.1", int(where["port"]), timeout=timeout_s)
    try:
        headers = {"X-Omakase-Secret": str(where["secret"]), "Content-Type": "application/json"}
        connection.request("POST", "/", request, headers)
        return connection.getresponse().read()
    finally:
        connection.close()


def ensure_sidecar(state: StateDir, *, watch_pid: Optional[int] = None) -> Dict[str, Any]:
    """Start the run's sidecar unless one answers; its `ping`. Raises SidecarAway, or Ended when
    the run is known to be over."""
    if read_json(state / "memory.json").get("ended"):
        raise Ended("The run is over.")
    try:
        return call(state, "ping", 2.0)
    except SidecarAway:
        start_sidecar(state, watch_pid=watch_pid)
    deadline = time.monotonic() + START_S
    while True:
        try:
            return call(state, "ping", 2.0)
        except SidecarAway:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def start_sidecar(state: StateDir, *, watch_pid: Optional[int] = None) -> None:
    """Start it and return at once. A second one finds the lock taken, and ends."""
    command = [*program(), "sidecar", "--state-dir", str(state.path)]
    if watch_pid is not None:
        command += ["--watch-pid", str(watch_pid)]
    log = os.open(str(state / "sidecar.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        subprocess.Popen(
            [*command, "--detach"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=str(state.path),
            start_new_session=True,
        ).wait()
    finally:
        os.close(log)
