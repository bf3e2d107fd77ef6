"""The server's agent paths over HTTP, one kept-alive connection for each thread that uses it."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from typing import Any, Dict, Mapping, Optional, Tuple
from urllib.parse import quote, urlencode, urlsplit

from agent_hooks.errors import Ended, Misused, Refused, Unreachable

_ANSWER_MAX_BYTES = 64 * 1024 * 1024
_HTTP_ERROR = 400
_TRY_AGAIN = (408, 425, 429)


class Server:
    """One connection to `server`; not for several threads. Times out after `timeout_s` of silence."""

    def __init__(self, server: str, *, token: str = "", timeout_s: float = 10.0) -> None:
        parts = urlsplit(server)
        try:
            port = parts.port
        except ValueError as error:
            raise Misused(f"The server's address has no such port: {server!r}.") from error
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Misused(f"The server's address must be http(s)://host[:port], not {server!r}.")
        self._https = parts.scheme == "https"
        self._host = parts.hostname
        self._port = port
        self._prefix = parts.path.rstrip("/")
        self._token = token
        self._timeout_s = timeout_s
        self._connection: Optional[http.client.HTTPConnection] = None
        self.cookie = ""

    @property
    def host(self) -> str:
        return self._host

    def close(self) -> None:
        """Drop the connection; the next call makes a new one. Safe from another thread: a call
        that hangs there fails."""
        connection, self._connection = self._connection, None
        if connection is not None:
            sock = connection.sock
            if sock is not None:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
            connection.close()

    def call(
        self,
        method: str,
        path: str,
        body: Optional[Mapping[str, Any]] = None,
        *,
        query: Optional[Mapping[str, Any]] = None,
        wait_s: int = 0,
        timeout_s: Optional[float] = None,
    ) -> Dict[str, Any]:
        """One request; the JSON object of a 2xx.

        Raises Ended (401, or 404 of the run), Refused (other 4xx), Unreachable (network, 5xx, 429).
        """
        target = self._prefix + path + ("?" + urlencode(query) if query else "")
        headers = {"Accept": "application/json"}
        data = None
        if body is not None:
            data = json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
            headers["Content-Type"] = "application/json"
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        if self.cookie:
            headers["Cookie"] = self.cookie
        if wait_s:
            headers["Prefer"] = f"wait={wait_s}"
        limit_s = (self._timeout_s if timeout_s is None else timeout_s) + wait_s
        status, raw, retry_after = self._exchange(method, target, data, headers, limit_s)
        return _judge(status, raw, retry_after)

    def _exchange(
        self,
        method: str,
        target: str,
        data: Optional[bytes],
        headers: Mapping[str, str],
        limit_s: float,
    ) -> Tuple[int, bytes, Optional[str]]:
        # a kept-alive connection may have been closed by the server in the meantime: once more then;
        # every request of ours may be repeated (key, handle, holder)
        for fresh in (self._connection is None, True):
            try:
                connection = self._connect(limit_s)
            except OSError as error:
                self.close()
                raise Unreachable(f"cannot connect: {error}", maybe_done=False) from error
            try:
                connection.request(method, target, data, dict(headers))
                response = connection.getresponse()
                raw = response.read(_ANSWER_MAX_BYTES)
                cookie = response.getheader("Set-Cookie")
                if cookie:
                    self.cookie = cookie.split(";", 1)[0]
                if response.will_close:
                    self.close()
                return response.status, raw, response.getheader("Retry-After")
            except (ConnectionError, http.client.HTTPException) as error:
                self.close()
                if fresh:
                    raise Unreachable(f"no answer: {error!r}") from error
            except (OSError, AttributeError) as error:
                # AttributeError: closed by another thread in the middle of it
                self.close()
                raise Unreachable(f"no answer: {error!r}") from error
        raise Unreachable("no answer")

    def _connect(self, limit_s: float) -> http.client.HTTPConnection:
        connection = self._connection
        if connection is None:
            kind = http.client.HTTPSConnection if self._https else http.client.HTTPConnection
            connection = kind(self._host, self._port, timeout=min(limit_s, 10.0))
            connection.connect()
            connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._connection = connection
        connection.sock.settimeout(limit_s)
        return connection


def _judge(status: int, raw: bytes, retry_after: Optional[str]) -> Dict[str, Any]:
    try:
        value = json.loads(raw) if raw else {}
    except ValueError:
        value = None
    if status < _HTTP_ERROR:
        if not isinstance(value, dict):
            raise Unreachable(f"status {status} without a JSON object")
        return value
    problem = value if isinstance(value, dict) else {}
    if status in _TRY_AGAIN or status >= 500 or not problem.get("code"):
        # without a `code` it was not our server that spoke, but something in between
        seconds = float(retry_after) if retry_after and retry_after.isdigit() else None
        raise Unreachable(f"status {status}", retry_after_s=seconds)
    if status == 401 or (status == 404 and problem["code"] == "not_found"):
        raise Ended(str(problem.get("detail") or problem["code"]))
    raise Refused(status, problem)


class RunApi:
    """The paths of one run (docs/wire.md, "The agent's paths")."""

    def __init__(self, server: str, run_id: str, token: str, *, timeout_s: float = 10.0) -> None:
        self._server = Server(server, token=token, timeout_s=timeout_s)
        self._base = f"/api/agent-runs/{quote(run_id, safe='')}"

    def close(self) -> None:
        self._server.close()

    def mailbox(
        self, holder: str, *, wait_s: int, task_end: bool = False, timeout_s: Optional[float] = None
    ) -> Dict[str, Any]:
        query = {
            "holder": holder,
            "limit": 50,
            "point": "task_end" if task_end else "step",
        }
        return self._get("/mailbox", query, wait_s, timeout_s)

    def confirm(self, ids: "list[str]", step: int, text: str, sha256: str) -> Dict[str, Any]:
        body = {"ids": ids, "step": step, "text": text, "sha256": sha256}
        return self._post("/mailbox/confirm", body)

    def release(self, holder: str, ids: "list[str]") -> Dict[str, Any]:
        return self._post("/mailbox/release", {"holder": holder, "ids": ids})

    def heartbeat(self, holder: str, step: int) -> Dict[str, Any]:
        return self._post("/heartbeat", {"holder": holder, "step": step})

    def events(self, events: "list[Dict[str, Any]]") -> Dict[str, Any]:
        return self._post("/events", {"events": events})

    def delta(self, message_id: str, offset: int, text: str) -> Dict[str, Any]:
        body = {"message_id": message_id, "offset": offset, "text": text}
        return self._post("/deltas", body)

    def ask(self, question: Mapping[str, Any]) -> Dict[str, Any]:
        return self._post("/questions", question)

    def question(self, question_id: str, *, wait_s: int) -> Dict[str, Any]:
        return self._get(f"/questions/{quote(question_id, safe='')}", None, wait_s, None)

    def finish(self, body: Mapping[str, Any]) -> Dict[str, Any]:
        return self._post("/finish", body)

    def hold(self, body: Mapping[str, Any]) -> Dict[str, Any]:
        return self._post("/hold", body)

    def checkpoint(self) -> Dict[str, Any]:
        return self._get("/checkpoint", None, 0, None)

    def _post(self, path: str, body: Mapping[str, Any]) -> Dict[str, Any]:
        return self._server.call("POST", self._base + path, body)

    def _get(
        self,
        path: str,
        query: Optional[Mapping[str, Any]],
        wait_s: int,
        timeout_s: Optional[float],
    ) -> Dict[str, Any]:
        return self._server.call(
            "GET", self._base + path, query=query, wait_s=wait_s, timeout_s=timeout_s
        )
