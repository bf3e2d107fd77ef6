"""The tables of the SQLite store, as steps from one version of the schema to the next.

    events    (run_id, seq) -> kind, sender_id, at, feature_id, project_id, data   data: the event's JSON, last, so
                                                                                   that a filter never reads it
    projects  id -> created_at, row                                                row: the model as JSON
    features  id -> project_id, created_at, row
    runs      id -> project_id, feature_id, status, created_at, row

What is searched by is a column; the rest of a row is in `row`, so a new field of a model needs no
new schema. `PRAGMA user_version` counts the steps that were taken.
"""

from __future__ import annotations

import sqlite3
from typing import Final

_FIRST: Final = (
    """CREATE TABLE events (
        run_id TEXT NOT NULL,
        seq INTEGER NOT NULL,
        kind TEXT NOT NULL,
        sender_id TEXT NOT NULL,
        feature_id TEXT NOT NULL,
        project_id TEXT NOT NULL,
        at TEXT NOT NULL,
        data BLOB NOT NULL,
        PRIMARY KEY (run_id, seq)
    ) WITHOUT ROWID""",
    "CREATE INDEX events_by_kind ON events (run_id, kind, seq, sender_id)",
    "CREATE INDEX events_by_feature ON events (feature_id, at, run_id, seq, kind)",
    "CREATE INDEX events_by_project ON events (project_id, at, run_id, seq, kind)",
    "CREATE TABLE projects (id TEXT PRIMARY KEY, created_at TEXT NOT NULL, row BLOB NOT NULL)",
    """CREATE TABLE features (
        id TEXT PRIMARY KEY,
        project_id TEXT NOT NULL,
        created_at TEXT NOT NULL,
        row BLOB NOT NULL
    )""",
    "CREATE INDEX features_by_project ON features (project_id, created_at, id)",
    """CREATE TABLE runs (
        id TEXT PRIMARY KEY,
        project_id TEXT NOT NULL,
        feature_id TEXT NOT NULL,
        status TEXT NOT NULL,
        created_at TEXT NOT NULL,
        row BLOB NOT NULL
    )""",
    "CREATE INDEX runs_by_project ON runs (project_id, created_at, id)",
    "CREATE INDEX runs_by_feature ON runs (feature_id, created_at, id)",
    "CREATE INDEX runs_by_status ON runs (status, created_at, id)",
)
STEPS: Final = (_FIRST,)


class SchemaTooNew(RuntimeError):
    """The file was written by a later version of this program, whose rules are not known here."""


def migrate(connection: sqlite3.Connection) -> None:
    """Take the steps that are missing; runs inside the caller's write transaction."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(STEPS):
        raise SchemaTooNew(f"Schema version {version}, but only {len(STEPS)} is known here")
    for step in STEPS[version:]:
        for statement in step:
            connection.execute(statement)
    # A pragma takes no bound parameter; the value is a length of our own.
    connection.execute(f"PRAGMA user_version = {len(STEPS)}")
