"""A command's output as `log` events: lines, in chunks that keep to the limits of the wire."""

from __future__ import annotations

import codecs
import threading
import time
from datetime import datetime, timezone
from typing import Any, Callable, Dict, List

from agent_hooks.ids import new_key

LINE_MAX = 16_000
CHUNK_LINES = 200
CHUNK_CHARS = 48_000
CHUNK_S = 0.5
WAITING_LINES = 20_000
Event = Dict[str, Any]


class Lines:
    """Bytes to lines: UTF-8 with what is not valid replaced, long lines split, no line ends."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""

    def feed(self, data: bytes, *, final: bool = False) -> List[str]:
        """The lines that are complete; with `final` also what has no end."""
        text = self._rest + self._decoder.decode(data, final)
        *lines, self._rest = text.split("\n")
        if final and self._rest:
            lines, self._rest = [*lines, self._rest], ""
        while len(self._rest) > LINE_MAX:
            lines.append(self._rest[:LINE_MAX])
            self._rest = self._rest[LINE_MAX:]
        return [piece for line in lines for piece in _pieces(line)]


def _pieces(line: str) -> List[str]:
    # a terminal shows what follows the last carriage return: the end of a progress bar
    shown = line.rstrip("\r").rpartition("\r")[2]
    cuts = range(0, max(1, len(shown)), LINE_MAX)
    return [shown[start : start + LINE_MAX] for start in cuts]


class Chunks:
    """Lines of both streams, in the order they came, given out as `log` events.

    `send(event)` is called from a thread of this object's own, one event at a time.
    """

    def __init__(self, send: Callable[[Event], None]) -> None:
        self._send = send
        self._lines: List[Dict[str, str]] = []
        self._number = 1
        self._since = 0.0
        self._changed = threading.Condition()
        self._wanted = 0
        self._given = 0
        self._closed = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def add(self, stream: str, lines: List[str]) -> None:
        if not lines:
            return
        now = datetime.now(timezone.utc)
        at = now.strftime("%Y-%m-%dT%H:%M:%S.") + f"{now.microsecond // 1000:03d}Z"
        with self._changed:
            # a flood waits for the sidecar, but not for ever: the command goes on whatever happens
            self._changed.wait_for(lambda: len(self._lines) < WAITING_LINES, 5.0)
            if not self._lines:
                self._since = time.monotonic()
            self._lines += [{"stream": stream, "text": text, "at": at} for text in lines]
            self._changed.notify_all()

    def flush(self, timeout_s: float) -> bool:
        """Give out everything that was added before; whether it is done."""
        with self._changed:
            self._wanted += 1
            wanted = self._wanted
            self._changed.notify_all()
            return self._changed.wait_for(lambda: self._given >= wanted, timeout_s)

    def close(self, timeout_s: float) -> None:
        self.flush(timeout_s)
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(self._due, self._patience())
                if self._closed and not self._lines:
                    return
                wanted = self._wanted
                chunk = self._cut() if self._due() else []
                number = self._number
                self._number += len(chunk)
            if chunk:
                body = {"first_line": number, "lines": chunk}
                self._send({"kind": "log", "body": body, "key": new_key()})
            with self._changed:
                if not self._lines:
                    self._given = max(self._given, wanted)
                self._changed.notify_all()

    def _patience(self) -> float:
        if not self._lines:
            return 3_600.0
        return max(0.0, self._since + CHUNK_S - time.monotonic())

    def _due(self) -> bool:
        if self._wanted > self._given or self._closed:
            return True
        if not self._lines:
            return False
        return len(self._lines) >= CHUNK_LINES or time.monotonic() >= self._since + CHUNK_S

    def _cut(self) -> List[Dict[str, str]]:
        size, count = 0, 0
        for line in self._lines[:CHUNK_LINES]:
            size += len(line["text"])
            if count and size > CHUNK_CHARS:
                break
            count += 1
        chunk, self._lines = self._lines[:count], self._lines[count:]
        if self._lines:
            self._since = 0.0  # the rest is due at once
        return chunk
