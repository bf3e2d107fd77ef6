"""What only the SQLite store promises: several processes on one file, whole batches, forks."""

import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from chat.adapters.sqlite_schema import SchemaTooNew
from chat.adapters.sqlite_store import SqliteStore
from chat.errors import Unavailable

ROOT = Path(__file__).parents[2]
WRITER = """
import sys
from pathlib import Path
import orjson
from chat.adapters.sqlite_store import SqliteStore
from chat.ports import Record
from chat.runs import Run

path, run_json, batches, forks = sys.argv[1:]
run = Run.model_validate_json(run_json)
store = SqliteStore(Path(path))
store.create_schema()

def event(seq):
    return Record(seq, orjson.dumps({"seq": seq, "kind": "log", "at": "t", "sender": {"id": "usr_a"}}))

if forks == "forks":
    import os
    assert store.last_seq(run.id) == 0
    if os.fork() == 0:
        store.put_events(run, [event(1)])
        os._exit(0)
    assert os.wait()[1] == 0
    store.put_events(run, [event(2)])
for batch in range(int(batches)):
    store.put_events(run, [event(batch * 10 + n) for n in range(1, 11)])
    print(batch * 10 + 10, flush=True)
"""


def writer(path, run, batches, forks="no"):
    command = [sys.executable, "-c", WRITER, str(path), run.model_dump_json(), str(batches), forks]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_several_processes_create_and_write_the_same_file_at_once(tmp_path, new_run):
    path = tmp_path / "store.sqlite3"
    run, other = new_run(), new_run()
    writers = [writer(path, which, 40) for which in (run, run, other)]
    for process in writers:
        process.communicate(timeout=60)
        assert process.returncode == 0
    store = SqliteStore(path)
    for which in (run, other):
        seqs = [record.seq for record in store.events(which.id, after=0, limit=1_000).records]
        assert seqs == list(range(1, 401))
    store.close()


def test_a_writer_that_is_killed_leaves_whole_batches_and_all_it_had_reported(tmp_path, new_run):
    path = tmp_path / "store.sqlite3"
    run = new_run()
    with writer(path, run, 1_000_000) as process:
        assert process.stdout is not None
        reported = [int(process.stdout.readline()) for _ in range(30)][-1]
        process.kill()
        reported = max([reported, *map(int, process.stdout.read().split())])
    store = SqliteStore(path)
    store.create_schema()
    last = store.last_seq(run.id)
    page = store.events(run.id, after=0, limit=10 * last)
    assert last >= reported
    assert last % 10 == 0
    assert [record.seq for record in page.records] == list(range(1, last + 1))
    store.close()


def test_a_forked_process_uses_a_connection_of_its_own(tmp_path, new_run):
    path = tmp_path / "store.sqlite3"
    run = new_run()
    with writer(path, run, 0, "forks") as process:
        process.communicate(timeout=60)
    assert process.returncode == 0
    store = SqliteStore(path)
    assert [record.seq for record in store.events(run.id).records] == [1, 2]
    store.close()


def test_the_file_is_in_wal_mode_and_every_commit_waits_for_the_disk(tmp_path):
    store = SqliteStore(tmp_path / "store.sqlite3")
    store.create_schema()
    with store._connection() as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    store.close()


def test_a_file_that_another_keeps_locked_is_unavailable_and_usable_afterwards(
    tmp_path, new_run, event
):
    path = tmp_path / "store.sqlite3"
    store = SqliteStore(path, busy_s=0.05)
    store.create_schema()
    run = new_run()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable) as refused:
        store.put_events(run, [event(run, 1)])
    assert isinstance(refused.value.__cause__, sqlite3.OperationalError)
    assert store.events(run.id).records == []
    other.execute("ROLLBACK")
    other.close()
    store.put_events(run, [event(run, 1)])
    assert store.last_seq(run.id) == 1
    store.close()


def test_a_folder_that_is_not_there_and_a_schema_never_made_are_unavailable(tmp_path):
    with pytest.raises(Unavailable):
        SqliteStore(tmp_path / "nowhere" / "store.sqlite3").projects()
    with pytest.raises(Unavailable):
        SqliteStore(tmp_path / "empty.sqlite3").projects()


def test_a_file_of_a_later_version_is_left_alone(tmp_path):
    path = tmp_path / "store.sqlite3"
    later = sqlite3.connect(path)
    later.execute("PRAGMA user_version = 99")
    later.close()
    with pytest.raises(SchemaTooNew):
        SqliteStore(path).create_schema()
    later = sqlite3.connect(path)
    assert later.execute("PRAGMA user_version").fetchone() == (99,)
    assert later.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,)
    later.close()


def test_no_query_of_a_log_reads_more_than_its_index_gives(tmp_path):
    store = SqliteStore(tmp_path / "store.sqlite3")
    store.create_schema()
    plans = []
    with store._connection() as connection:
        connection.set_trace_callback(plans.append)
    store.events("run_a", after=0, limit=5)
    store.events("run_a", limit=5, kinds=frozenset({"message", "question"}))
    store.feature_events("ftr_a", cursor=None, limit=5)
    store.project_events("prj_a", since="2026", cursor=None, limit=5)
    store.runs(status="working")
    with store._connection() as connection:
        connection.set_trace_callback(None)
        steps = [
            step[3]
            for sql in plans
            for step in connection.execute("EXPLAIN QUERY PLAN " + sql).fetchall()
        ]
    # what is scanned is the few numbers an index gave, never a table
    assert not [step for step in steps if re.match(r"SCAN (events|runs)", step)]
    for index in ("events_by_kind", "events_by_feature", "events_by_project", "runs_by_status"):
        assert [step for step in steps if index in step]
    store.close()
