"""What is to be sent to the server, in order, on disk until the server has it.

    spool.bin   a line `#<generation>`, then records: 8 hex digits of the length, 8 of the CRC-32,
                a space, the JSON, a newline
    spool.ack   `<generation> <offset>`: everything before is acknowledged

A record is whole or not there: a torn end (power, kill -9) is cut off when the file is opened. At least
once: each record carries its idempotency key. A generation is a fresh file; an `ack` of another one
counts nothing.
"""

from __future__ import annotations

import json
import os
import threading
import zlib
from pathlib import Path
from typing import Any, BinaryIO, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

from agent_hooks.errors import HooksError
from agent_hooks.ids import new_key
from agent_hooks.state import write_private

Record = Dict[str, Any]
"""`{"op": "event", "event": {…}}`, `{"op": "confirm", …}` or `{"op": "release", …}`."""
HEAD = 17
MAX_BYTES = 64 * 1024 * 1024
AFTER_DROPPING = 0.75
"""How full it is after log lines were dropped: not one rewrite of the file for each new record."""


class SpoolFull(HooksError):
    """Nothing is left that may be dropped."""


class Batch(NamedTuple):
    """Records in order; `end` is what to acknowledge, a place in generation `generation`."""

    records: List[Record]
    generation: str
    end: int


def frame(record: Record) -> bytes:
    """A record as it stands in the file."""
    data = json.dumps(record, ensure_ascii=True, separators=(",", ":")).encode()
    return b"%08x%08x %s\n" % (len(data), zlib.crc32(data), data)


class Spool:
    """The file and its end that is acknowledged. Safe for several threads; one process at a time."""

    def __init__(self, folder: Path, *, max_bytes: int = MAX_BYTES) -> None:
        self._path = folder / "spool.bin"
        self._ack_path = folder / "spool.ack"
        self._max_bytes = max_bytes
        self._lock = threading.RLock()
        self._file, self._generation, self._size = self._open()
        self._acked = self._read_ack()
        self._unsynced = False
        self.arrived = threading.Condition(self._lock)

    def append(self, records: List[Record], *, durable: bool = True) -> None:
        """Add all of them. `durable`: on the disk, not only in the system's cache, when it returns.

        Raises SpoolFull.
        """
        data = b"".join(frame(record) for record in records)
        with self._lock:
            if self._size - self._acked + len(data) > self._max_bytes:
                self._drop_logs(len(data))
            self._file.seek(self._size)
            self._file.write(data)
            self._file.flush()
            self._size += len(data)
            self._unsynced = True
            if durable:
                self._sync()
            self.arrived.notify_all()

    def sync(self) -> None:
        """Put on the disk what was appended without `durable`."""
        with self._lock:
            self._sync()

    def next_batch(self, *, max_events: int = 100, max_bytes: int = 256 * 1024) -> Batch:
        """The first records that are not acknowledged: as many events as go in one request, or one
        record of another kind. At least one record, if there is any."""
        with self._lock:
            records: List[Record] = []
            end = self._acked
            for record, after in self._records():
                event = record["op"] == "event"
                if records and (
                    not event or len(records) >= max_events or after - self._acked > max_bytes
                ):
                    break
                records.append(record)
                end = after
                if not event:
                    break
            return Batch(records, self._generation, end)

    def acknowledge(self, batch: Batch) -> None:
        """The server has everything up to the end of this batch."""
        with self._lock:
            if batch.generation != self._generation:
                # log lines were dropped in the meantime: the rest is sent again, keys make it harmless
                return
            if batch.end >= self._size:
                self._begin_generation(b"")
            else:
                self._acked = max(self._acked, batch.end)
                self._write_ack()

    def pending_bytes(self) -> int:
        with self._lock:
            return self._size - self._acked

    def find(self, wanted: Callable[[Record], bool]) -> bool:
        """Whether such a record is still to be sent."""
        with self._lock:
            return any(wanted(record) for record, _ in self._records())

    def close(self) -> None:
        with self._lock:
            self._sync()
            self._file.close()

    # --- the file ---------------------------------------------------------------------------------

    def _open(self) -> Tuple[BinaryIO, str, int]:
        descriptor = os.open(str(self._path), os.O_RDWR | os.O_CREAT, 0o600)
        file = os.fdopen(descriptor, "r+b")
        first = file.readline(64)
        if not (first.startswith(b"#") and first.endswith(b"\n")):
            file.close()
            return self._fresh(b"")
        end = len(first)
        while True:
            found = _read_record(file, end)
            if found is None:
                break
            end = found[1]
        file.truncate(end)
        return file, first[1:-1].decode("ascii", "replace"), end

    def _fresh(self, content: bytes) -> Tuple[BinaryIO, str, int]:
        generation = new_key()
        head = b"#%s\n" % generation.encode()
        write_private(self._path, head + content)
        return open(str(self._path), "r+b"), generation, len(head) + len(content)

    def _begin_generation(self, content: bytes) -> None:
        old = self._file
        self._file, self._generation, self._size = self._fresh(content)
        old.close()
        self._acked = self._size - len(content)
        self._unsynced = False

    def _read_ack(self) -> int:
        start = len(self._generation) + 2
        try:
            generation, _, offset = self._ack_path.read_text(encoding="ascii").partition(" ")
            acked = int(offset)
        except (OSError, ValueError):
            return start
        fits = generation == self._generation and start <= acked <= self._size
        return acked if fits else start

    def _write_ack(self) -> None:
        # not synced: an old value only means that something is sent again
        fresh = self._ack_path.with_suffix(".new")
        fresh.write_text(f"{self._generation} {self._acked}", encoding="ascii")
        os.replace(str(fresh), str(self._ack_path))

    def _sync(self) -> None:
        if self._unsynced:
            os.fsync(self._file.fileno())
            self._unsynced = False

    def _records(self) -> Iterator[Tuple[Record, int]]:
        position = self._acked
        while position < self._size:
            found = _read_record(self._file, position)
            if found is None:
                return
            yield found
            position = found[1]

    # --- the bound --------------------------------------------------------------------------------

    def _drop_logs(self, room: int) -> None:
        """Drop the oldest log lines, then the oldest steps; a line says how many lines went."""
        records = [record for record, _ in self._records()]
        sizes = [len(frame(record)) for record in records]
        goal = int(self._max_bytes * AFTER_DROPPING) - room
        total = sum(sizes)
        gone = set()
        for kind in ("log", "step"):
            for number, record in enumerate(records):
                if total <= goal:
                    break
                if _kind(record) == kind:
                    gone.add(number)
                    total -= sizes[number]
        if total + room > self._max_bytes:
            raise SpoolFull("The spool is full, and nothing in it may be dropped.")
        lost = [record for n, record in enumerate(records) if n in gone and _kind(record) == "log"]
        kept: List[Record] = []
        for number, record in enumerate(records):
            if number not in gone:
                kept.append(record)
            elif lost and record is lost[0]:
                kept.append(_dropped(lost))
        self._begin_generation(b"".join(frame(record) for record in kept))


def _kind(record: Record) -> Optional[str]:
    return record["event"]["kind"] if record["op"] == "event" else None


def _dropped(lost: List[Record]) -> Record:
    """A log line in place of those that are lost; it takes the number of the first of them."""
    count = sum(record.get("lost") or len(record["event"]["body"]["lines"]) for record in lost)
    text = f"[{count} lines are missing here: the server could not be reached for too long]"
    line = {"stream": "stderr", "text": text}
    body = {"first_line": lost[0]["event"]["body"]["first_line"], "lines": [line]}
    event = {"key": new_key(), "kind": "log", "body": body}
    return {"op": "event", "event": event, "lost": count}


def _read_record(file: BinaryIO, position: int) -> Optional[Tuple[Record, int]]:
    file.seek(position)
    head = file.read(HEAD)
    try:
        length, check = int(head[:8], 16), int(head[8:16], 16)
    except ValueError:
        return None
    data = file.read(length + 1)
    if len(data) != length + 1 or data[-1:] != b"\n" or zlib.crc32(data[:-1]) != check:
        return None
    value = json.loads(data)
    return (value, position + HEAD + length + 1) if isinstance(value, dict) else None
