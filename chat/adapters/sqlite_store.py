"""The store in one SQLite file, for one machine: web and worker processes open it side by side.

Write-ahead log (readers never wait for the writer), `synchronous=FULL` (a commit is on the disk
when it returns), one write transaction per batch. https://sqlite.org/wal.html
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import orjson
from pydantic import BaseModel

from chat.adapters.event_keys import Position, distinct, keys_of, window
from chat.adapters.run_changes import json_changes
from chat.adapters.sqlite_schema import migrate
from chat.errors import NotFound, Unavailable
from chat.events import Kind
from chat.ports import Page, Record, Slice
from chat.runs import Feature, Project, Run, RunStatus

BUSY_S: Final = 15.0
"""How long a writer waits for another process's transaction before it gives up with Unavailable."""

_PUT_EVENT: Final = """
    INSERT INTO events (run_id, seq, kind, sender_id, feature_id, project_id, at, data)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (run_id, seq) DO UPDATE SET
        kind = excluded.kind, sender_id = excluded.sender_id, at = excluded.at, data = excluded.data
    WHERE data IS NOT excluded.data"""
_PUT_PROJECT: Final = "INSERT OR REPLACE INTO projects (id, created_at, row) VALUES (?, ?, ?)"
_PUT_FEATURE: Final = (
    "INSERT OR REPLACE INTO features (id, project_id, created_at, row) VALUES (?, ?, ?, ?)"
)
_PUT_RUN: Final = """
    INSERT OR REPLACE INTO runs (id, project_id, feature_id, status, created_at, row)
    VALUES (?, ?, ?, ?, ?, ?)"""


class SqliteStore:
    """`Store` in the file at `path`; its folder must exist. Any thread and process may use it."""

    def __init__(self, path: Path, *, busy_s: float = BUSY_S) -> None:
        self._path = path
        self._busy_s = busy_s
        self._idle: deque[sqlite3.Connection] = deque()
        self._pid = os.getpid()

    # --- connections and transactions ---

    def _connect(self) -> sqlite3.Connection:
        # A connection is used by one thread at a time, though not always by the same one.
        connection = sqlite3.connect(
            self._path, timeout=self._busy_s, isolation_level=None, check_same_thread=False
        )
        connection.execute("PRAGMA synchronous = FULL")
        return connection

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        if self._pid != os.getpid():
            # SQLite forbids carrying a connection over a fork; the parent's are left to the parent.
            self._idle, self._pid = deque(), os.getpid()
        try:
            try:
                connection = self._idle.pop()
            except IndexError:
                connection = self._connect()
            try:
                yield connection
            except BaseException:
                # Closing rolls back, and a connection of unknown state is not used again.
                connection.close()
                raise
            self._idle.append(connection)
        except sqlite3.OperationalError as error:
            raise Unavailable(f"The store cannot be used: {error}") from error

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._connection() as connection:
            # IMMEDIATE: a transaction that reads first and writes later could not wait its turn.
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")

    def _rows(self, sql: str, *parameters: Any) -> list[Any]:
        with self._connection() as connection:
            return connection.execute(sql, parameters).fetchall()

    def close(self) -> None:
        """Close the idle connections; using the store again opens new ones."""
        while self._idle:
            self._idle.pop().close()

    def create_schema(self) -> None:
        """Create or migrate the tables; several processes may call it at once."""
        deadline = time.monotonic() + self._busy_s
        while True:
            with self._connection() as connection:
                try:
                    connection.execute("PRAGMA journal_mode = WAL")
                    break
                except sqlite3.OperationalError:
                    # Changing the mode takes an exclusive lock for which SQLite does not wait.
                    if time.monotonic() > deadline:
                        raise
            time.sleep(0.02)
        with self._writing() as connection:
            migrate(connection)

    # --- events ---

    def put_events(self, run: Run, records: Sequence[Record]) -> None:
        """Write events of one run in one transaction; on the disk when it returns."""
        rows = []
        for record in distinct(records):
            kind, sender_id, at = keys_of(record)
            rows.append(
                (
                    run.id,
                    record.seq,
                    kind,
                    sender_id,
                    run.feature_id,
                    run.project_id,
                    at,
                    record.data,
                )
            )
        if rows:
            with self._writing() as connection:
                connection.executemany(_PUT_EVENT, rows)

    def last_seq(self, run_id: str) -> int:
        """The highest stored `seq`, 0 when there is none."""
        [(seq,)] = self._rows("SELECT coalesce(max(seq), 0) FROM events WHERE run_id = ?", run_id)
        return int(seq)

    def event(self, run_id: str, seq: int) -> Record | None:
        """One event."""
        first, last = window(seq - 1, seq + 1)
        rows = self._rows(
            "SELECT seq, data FROM events WHERE run_id = ? AND seq BETWEEN ? AND ?",
            run_id,
            first,
            last,
        )
        return Record(*rows[0]) if rows else None

    def events(
        self,
        run_id: str,
        *,
        after: int | None = None,
        before: int | None = None,
        limit: int = 100,
        kinds: frozenset[Kind] | None = None,
        sender_id: str | None = None,
    ) -> Page:
        """A page of a run's log, ascending; see the port."""
        if kinds == frozenset():
            return Page([], has_more=False)
        order = "DESC" if after is None else "ASC"
        where = "run_id = ? AND seq BETWEEN ? AND ?"
        parameters: list[Any] = [run_id, *window(after, before)]
        if sender_id is not None:
            where += " AND sender_id = ?"
            parameters.append(sender_id)
        if kinds is None:
            numbers = f"SELECT seq FROM events WHERE {where}"  # noqa: S608 - words of our own
        else:
            # Each kind's numbers stand in order in an index: so many are read and no more, also
            # where the kind is one in a thousand.
            of_kind = f"""SELECT seq FROM (
                SELECT seq FROM events WHERE {where} AND kind = ? ORDER BY seq {order} LIMIT ?
            )"""  # noqa: S608 - words of our own; values are bound
            numbers = " UNION ALL ".join([of_kind] * len(kinds))
            parameters = [
                value for kind in sorted(kinds) for value in (*parameters, kind, limit + 1)
            ]
        # The inner query finds the numbers; only what is returned has its data read.
        rows = self._rows(
            f"""SELECT seq, data FROM events
                WHERE run_id = ? AND seq IN ({numbers} ORDER BY seq {order} LIMIT ?)
                ORDER BY seq {order}""",  # noqa: S608 - words of our own; values are bound
            run_id,
            *parameters,
            limit + 1,
        )
        records = [Record(*row) for row in rows[:limit]]
        return Page(records if order == "ASC" else records[::-1], has_more=len(rows) > limit)

    def feature_events(
        self,
        feature_id: str,
        *,
        cursor: str | None,
        limit: int,
        kinds: frozenset[Kind] | None = None,
    ) -> Slice:
        """Events of all runs of a feature in order of (at, run_id, seq); see the port."""
        return self._slice("feature_id", feature_id, None, cursor, limit, kinds)

    def project_events(
        self,
        project_id: str,
        *,
        since: str | None,
        cursor: str | None,
        limit: int,
        kinds: frozenset[Kind] | None = None,
    ) -> Slice:
        """Events of all runs of a project with `at` >= since; see the port."""
        return self._slice("project_id", project_id, since, cursor, limit, kinds)

    def _slice(
        self,
        column: str,
        owner_id: str,
        since: str | None,
        cursor: str | None,
        limit: int,
        kinds: frozenset[Kind] | None,
    ) -> Slice:
        start = Position(since or "", "", 0)  # before every event of that time
        if cursor is not None:
            start = max(start, Position.parse(cursor))
        chosen = "" if kinds is None else f"AND kind IN ({', '.join('?' * len(kinds))})"
        rows = self._rows(
            f"""SELECT at, run_id, seq, data FROM events WHERE (run_id, seq) IN (
                    SELECT run_id, seq FROM events
                    WHERE {column} = ? AND (at, run_id, seq) > (?, ?, ?) {chosen}
                    ORDER BY at, run_id, seq LIMIT ?)
                ORDER BY at, run_id, seq""",  # noqa: S608 - words of our own; values are bound
            owner_id,
            *start,
            *sorted(kinds or ()),
            limit + 1,
        )
        found = rows[:limit]
        return Slice(
            [Record(seq, data) for _, _, seq, data in found],
            cursor=Position(*found[-1][:3]).cursor() if len(rows) > limit else None,
        )

    # --- projects, features, runs ---

    def _put(self, sql: str, *parameters: Any) -> None:
        with self._writing() as connection:
            connection.execute(sql, parameters)

    def put_project(self, project: Project) -> None:
        """Create the project's row, or replace it."""
        self._put(_PUT_PROJECT, project.id, project.created_at, _row(project))

    def swap_project(self, project: Project) -> bool:
        """Replace the row if its version is the one before; see the port."""
        return self._swap("projects", project)

    def _swap(self, table: str, row: Project | Feature) -> bool:
        with self._writing() as connection:
            cursor = connection.execute(
                f"""UPDATE {table} SET row = ?
                    WHERE id = ? AND coalesce(json_extract(row, '$.version'), 0) = ?""",  # noqa: S608 - a table of ours
                (_row(row), row.id, row.version - 1),
            )
            return cursor.rowcount == 1

    def project(self, project_id: str) -> Project | None:
        """One project."""
        rows = self._rows("SELECT row FROM projects WHERE id = ?", project_id)
        return Project.model_validate_json(rows[0][0]) if rows else None

    def projects(self) -> list[Project]:
        """All projects, oldest first."""
        rows = self._rows("SELECT row FROM projects ORDER BY created_at, id")
        return [Project.model_validate_json(row) for (row,) in rows]

    def put_feature(self, feature: Feature) -> None:
        """Create the feature's row, or replace it."""
        self._put(_PUT_FEATURE, feature.id, feature.project_id, feature.created_at, _row(feature))

    def swap_feature(self, feature: Feature) -> bool:
        """Replace the row if its version is the one before; see the port."""
        return self._swap("features", feature)

    def feature(self, feature_id: str) -> Feature | None:
        """One feature."""
        rows = self._rows("SELECT row FROM features WHERE id = ?", feature_id)
        return Feature.model_validate_json(rows[0][0]) if rows else None

    def features(self, project_id: str) -> list[Feature]:
        """The features of a project, oldest first."""
        rows = self._rows(
            "SELECT row FROM features WHERE project_id = ? ORDER BY created_at, id", project_id
        )
        return [Feature.model_validate_json(row) for (row,) in rows]

    def put_run(self, run: Run) -> None:
        """Create the run's row, or replace it whole."""
        self._put(_PUT_RUN, *_run_columns(run))

    def add_run(self, run: Run) -> Run:
        """Create the run's row unless there is one; returns the row that stands."""
        with self._writing() as connection:
            connection.execute(_PUT_RUN.replace("OR REPLACE", "OR IGNORE"), _run_columns(run))
            found = connection.execute("SELECT row FROM runs WHERE id = ?", (run.id,)).fetchone()
        return Run.model_validate_json(found[0])

    def update_run(self, run_id: str, **changes: Any) -> None:
        """Set named fields of the run's row. Raises NotFound when there is no such run."""
        fields = json_changes(changes)
        with self._writing() as connection:
            found = connection.execute("SELECT row FROM runs WHERE id = ?", (run_id,)).fetchone()
            if found is None:
                raise NotFound("There is no run with that id.")
            run = Run.model_validate(orjson.loads(found[0]) | fields)
            connection.execute(_PUT_RUN, _run_columns(run))

    def update_run_if(self, run_id: str, expected: Mapping[str, Any], **changes: Any) -> bool:
        """The same while the named fields have these values; see the port."""
        wanted, fields = json_changes(expected), json_changes(changes)
        with self._writing() as connection:
            found = connection.execute("SELECT row FROM runs WHERE id = ?", (run_id,)).fetchone()
            if found is None:
                return False
            before = Run.model_validate_json(found[0]).model_dump(mode="json")
            if any(before[name] != value for name, value in wanted.items()):
                return False
            connection.execute(_PUT_RUN, _run_columns(Run.model_validate(before | fields)))
        return True

    def run(self, run_id: str) -> Run | None:
        """One run."""
        rows = self._rows("SELECT row FROM runs WHERE id = ?", run_id)
        return Run.model_validate_json(rows[0][0]) if rows else None

    def runs(
        self,
        *,
        project_id: str | None = None,
        feature_id: str | None = None,
        status: RunStatus | None = None,
        limit: int = 200,
    ) -> list[Run]:
        """Runs, newest first; exactly one of the filters is given."""
        given = [
            (column, value)
            for column, value in (
                ("project_id", project_id),
                ("feature_id", feature_id),
                ("status", status),
            )
            if value is not None
        ]
        [(column, value)] = given
        rows = self._rows(
            f"SELECT row FROM runs WHERE {column} = ? ORDER BY created_at DESC, id DESC LIMIT ?",  # noqa: S608 - a column of ours
            value,
            limit,
        )
        return [Run.model_validate_json(row) for (row,) in rows]


def _row(model: BaseModel) -> bytes:
    return model.model_dump_json().encode()


def _run_columns(run: Run) -> tuple[Any, ...]:
    return (run.id, run.project_id, run.feature_id, run.status, run.created_at, _row(run))
