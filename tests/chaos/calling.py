"""HTTP to whichever web process answers: the same request again until one does, and what was found odd."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

PATIENCE_S = 120.0
"""How long one request may be tried again."""
AT_ONCE = 16
"""Requests under way at a time: as many as two small web processes have threads for."""
_GATE = threading.BoundedSemaphore(AT_ONCE)


@dataclass
class Answer:
    """What came back. `tries` above 1: an earlier one may have been carried out as well."""

    status: int
    json: Any
    headers: dict[str, str]
    tries: int

    @property
    def ok(self) -> bool:
        return self.status < 300

    @property
    def code(self) -> str:
        return str(self.json.get("code", "")) if isinstance(self.json, dict) else ""


@dataclass
class Caller:
    """One client with a kept connection, its credentials in `headers`. For one thread."""

    ports: list[int]
    headers: dict[str, str] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    _connection: http.client.HTTPConnection | None = None
    _turn: int = 0

    def sign_in(self, name: str) -> None:
        """As a person."""
        done = self.send("POST", "/api/session", {"name": name})
        self.headers["Cookie"] = done.headers["set-cookie"].partition(";")[0]

    def send(self, method: str, path: str, body: Any = None, /, **headers: str) -> Answer:
        """The first answer that is not about the server's own state."""
        deadline, tries = time.monotonic() + PATIENCE_S, 0
        sent = {**self.headers, **{name.replace("_", "-"): word for name, word in headers.items()}}
        if body is not None:
            sent["Content-Type"] = "application/json"
        data = None if body is None else json.dumps(body)
        while True:
            tries += 1
            try:
                with _GATE:
                    done = self._once(method, path, data, sent, tries)
            except (OSError, http.client.HTTPException, ValueError) as error:
                self.close()
                problem = repr(error)
            else:
                if done.status < 500 and done.status != 429:
                    return done
                problem = f"{done.status} {done.json}"
            if time.monotonic() > deadline:
                raise TimeoutError(f"{method} {path}: {problem}")
            self.counts["requests repeated"] += 1
            time.sleep(0.15)

    def _once(
        self, method: str, path: str, data: str | None, headers: dict[str, str], tries: int
    ) -> Answer:
        if self._connection is None:
            self._turn += 1
            port = self.ports[self._turn % len(self.ports)]
            self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self._connection.request(method, path, body=data, headers=headers)
        reply = self._connection.getresponse()
        text = reply.read()
        given = {name.lower(): value for name, value in reply.getheaders()}
        return Answer(reply.status, json.loads(text) if text else None, given, tries)

    def close(self) -> None:
        """Let go of the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class CloudCaller:
    """The control side of tests/chaos/cloud.py. Safe for many threads."""

    def __init__(self, url: str) -> None:
        self._port = int(url.rpartition(":")[2])
        self._kept = threading.local()

    def ask(self, what: str, **said: Any) -> Any:
        """`news`, `move`, `forget`, `token`, `weather`, `truth`."""
        connection = getattr(self._kept, "connection", None)
        if connection is None:
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
            self._kept.connection = connection
        connection.request("POST", f"/_cloud/{what}", body=json.dumps(said))
        return json.loads(connection.getresponse().read())
