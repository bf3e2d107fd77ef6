"""The other side of an owner's terminal: the fake exec agent with a real command on a real pty behind it."""

from __future__ import annotations

import errno
import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from contextlib import suppress
from dataclasses import dataclass
from typing import ClassVar

from tests.ssm_agent import FakeAgent, Raw

# as a login does it: Ctrl-C is a signal only on a terminal that controls its session, and is heard even
# where the tests themselves were started in the background, with SIGINT ignored
_CONTROL = """
import fcntl, os, signal, sys, termios
signal.signal(signal.SIGINT, signal.SIG_DFL)
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""
WINDOW = 64
"""Frames that may be on their way; then nothing more is read from the command."""


@dataclass
class ShellAgent(FakeAgent):
    """Runs `argv` as soon as the handshake is complete, and closes when it has ended and all was heard."""

    argv: tuple[str, ...] = ("sh",)
    environ: ClassVar[dict[str, str]] = {
        "PATH": os.environ["PATH"], "TERM": "xterm-256color", "PS1": "root@agent# ", "HOME": "/",
    }  # fmt: skip
    process: subprocess.Popen[bytes] | None = None
    _master: int = -1
    _unwritten: bytes = b""
    _over: bool = False

    def _speak(self) -> list[bytes]:
        self._master, slave = pty.openpty()
        os.set_blocking(self._master, False)
        self._size(80, 24)
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _CONTROL, *self.argv],
            stdin=slave, stdout=slave, stderr=slave, env=self.environ, start_new_session=True,
        )  # fmt: skip
        os.close(slave)
        return []

    def tick(self, now: int) -> list[bytes]:
        out = super().tick(now)
        self._write(b"")
        while self._master >= 0 and not self._over and len(self._unacknowledged) < WINDOW:
            try:
                data = os.read(self._master, self.chunk)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.EIO:  # that is: nobody has the other end any more
                    raise
                data = b""
            if not data:
                self._over = True
                break
            out.append(self._send(1, data))
        return out + self._end()

    def _take(self, frame: Raw) -> list[bytes]:
        out = super()._take(frame)
        if self._complete and frame.payload_type == 1:
            self._write(frame.payload)
        elif self._complete and frame.payload_type == 3:
            self._size(self.sizes[-1]["cols"], self.sizes[-1]["rows"])
        elif self.terminated:
            self.end()
        return out

    def _write(self, data: bytes) -> None:
        self._unwritten += data
        if self._unwritten and self._master >= 0:
            with suppress(BlockingIOError):
                self._unwritten = self._unwritten[os.write(self._master, self._unwritten) :]

    def _size(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def _end(self) -> list[bytes]:
        return self._close("") if self._over and not self._unacknowledged else []

    def end(self) -> None:
        """End the command, as the agent does when its session is over. Harmless again."""
        if self.process is not None and self.process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        if self._master >= 0:
            os.close(self._master)
            self._master = -1
