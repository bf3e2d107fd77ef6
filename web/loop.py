"""The one event loop of a web process, on a thread of its own: it holds every socket that stays open."""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import uvloop

T = TypeVar("T")


class LoopThread:
    """Started by the first socket that is handed over, so never before the server has forked."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._pid = 0

    @property
    def running(self) -> bool:
        """Whether this process has started its loop."""
        return self._loop is not None and self._pid == os.getpid()

    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop, started when this process asks for it first."""
        with self._lock:
            if self._loop is None or self._pid != os.getpid():
                self._pid = os.getpid()
                self._loop = uvloop.new_event_loop()
                self._thread = threading.Thread(
                    target=self._loop.run_forever, name="live-loop", daemon=True
                )
                self._thread.start()
            return self._loop

    def call(self, function: Callable[..., object], *args: Any) -> None:
        """Run a function on the loop's thread, from any other.

        In an empty context: a connection keeps the one it was made in for as long as it lives, and the
        caller's holds its whole Flask request (6 KB for every socket that is held).
        """
        self.loop().call_soon_threadsafe(function, *args, context=contextvars.Context())

    def run(self, work: Coroutine[Any, Any, T], timeout_s: float) -> T:
        """Run a coroutine on the loop and wait for it here; raises TimeoutError."""
        future = asyncio.run_coroutine_threadsafe(work, self.loop())
        try:
            return future.result(timeout_s)
        except TimeoutError:
            future.cancel()
            raise

    def stop(self) -> None:
        """End the loop and its thread. Sockets must have been closed before."""
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is None or thread is None:
            return
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)
