"""What every store promises (chat.ports.Store), asked of each of them in the same words."""

from concurrent.futures import ThreadPoolExecutor
from random import Random
from threading import Barrier

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from chat.errors import Invalid, NotFound
from chat.events import Kind
from chat.ids import new_id
from chat.ports import Page, Record, Slice
from chat.runs import Feature, Pipeline, Place, Project, Role, RunStatus, Turn, Why

HAN = [chr(0x4E00 + number) for number in range(20_000)]
"""Letters of three bytes each; text of them drawn at random shrinks by little."""


def seqs(page):
    return [record.seq for record in page.records]


def at(second):
    return f"2026-11-22T09:33:{second:02d}.000Z"


# --- one run's log ---


def test_what_was_written_is_read_back_byte_for_byte_and_in_order(store, new_run, event):
    run = new_run()
    records = [event(run, seq) for seq in range(1, 31)]
    store.put_events(run, list(reversed(records)))
    assert store.events(run.id) == Page(records, has_more=False)
    assert store.event(run.id, 7) == records[6]


def test_writing_again_changes_nothing_and_an_overlapping_batch_adds_only_what_is_new(
    store, new_run, event
):
    run = new_run()
    records = [event(run, seq) for seq in range(1, 61)]
    store.put_events(run, records[:40])
    store.put_events(run, records[:40])
    store.put_events(run, records[30:] + records[50:])
    assert store.events(run.id, limit=1_000) == Page(records, has_more=False)
    found = store.feature_events(run.feature_id, cursor=None, limit=1_000)
    assert found == Slice(records, cursor=None)


def test_nothing_written_is_nothing_read(store, new_run):
    run = new_run()
    store.put_events(run, [])
    assert store.last_seq(run.id) == 0
    assert store.event(run.id, 1) is None
    assert store.events(run.id) == Page([], has_more=False)
    assert store.events(run.id, after=5) == Page([], has_more=False)
    assert store.feature_events(run.feature_id, cursor=None, limit=10) == Slice([], None)
    assert store.project_events(run.project_id, since=None, cursor=None, limit=10) == Slice(
        [], None
    )


def test_the_last_seq_is_the_highest_of_that_run_alone(store, new_run, event):
    run, other = new_run(), new_run()
    store.put_events(run, [event(run, seq) for seq in (1, 2, 3, 9, 10, 11)])
    store.put_events(other, [event(other, seq) for seq in (1, 2)])
    assert store.last_seq(run.id) == 11
    assert store.last_seq(other.id) == 2


@pytest.mark.parametrize(
    ("window", "expected", "has_more"),
    [
        ({}, [7, 8, 9, 10], True),
        ({"before": 5}, [1, 2, 3, 4], False),
        ({"before": 6}, [2, 3, 4, 5], True),
        ({"before": 1}, [], False),
        ({"before": 0}, [], False),
        ({"before": 10**30}, [7, 8, 9, 10], True),
        ({"after": 0}, [1, 2, 3, 4], True),
        ({"after": -3}, [1, 2, 3, 4], True),
        ({"after": 6}, [7, 8, 9, 10], False),
        ({"after": 10}, [], False),
        ({"after": 10**30}, [], False),
        ({"after": 2, "before": 6}, [3, 4, 5], False),
        ({"after": 2, "before": 7}, [3, 4, 5, 6], False),
        ({"after": 2, "before": 8}, [3, 4, 5, 6], True),
        ({"after": 6, "before": 6}, [], False),
        ({"after": 9, "before": 2}, [], False),
    ],
)
def test_a_page_starts_where_it_was_asked_to_and_knows_whether_there_is_more(
    store, new_run, event, window, expected, has_more
):
    run = new_run()
    store.put_events(run, [event(run, seq) for seq in range(1, 11)])
    page = store.events(run.id, limit=4, **window)
    assert seqs(page) == expected
    assert page.has_more is has_more


def test_an_event_outside_of_the_log_is_none(store, new_run, event):
    run = new_run()
    store.put_events(run, [event(run, 1), event(run, 2)])
    assert [store.event(run.id, seq) for seq in (-1, 0, 3, 10**30)] == [None] * 4


def test_kinds_and_sender_are_filtered_before_the_page_is_cut(store, new_run, event):
    run = new_run()
    kinds = [Kind.LOG, Kind.MESSAGE, Kind.LOG, Kind.QUESTION, Kind.LOG, Kind.STATUS]
    store.put_events(
        run,
        [
            event(run, seq, kind=kinds[seq % 6], sender_id="usr_anna" if seq % 4 else "usr_bo")
            for seq in range(1, 721)
        ],
    )
    said = frozenset({Kind.MESSAGE, Kind.QUESTION})
    messages = [seq for seq in range(1, 721) if seq % 6 in {1, 3}]
    page = store.events(run.id, limit=3, kinds=said)
    assert (seqs(page), page.has_more) == (messages[-3:], True)
    page = store.events(run.id, after=0, limit=238, kinds=said)
    assert (seqs(page), page.has_more) == (messages[:238], True)
    page = store.events(run.id, after=0, limit=240, kinds=said)
    assert (seqs(page), page.has_more) == (messages, False)
    page = store.events(run.id, before=17, limit=10, sender_id="usr_bo")
    assert (seqs(page), page.has_more) == ([4, 8, 12, 16], False)
    page = store.events(run.id, limit=1, kinds=frozenset({Kind.LOG}), sender_id="usr_bo")
    assert (seqs(page), page.has_more) == ([720], True)
    assert store.events(run.id, sender_id="usr_cy") == Page([], has_more=False)
    assert store.events(run.id, kinds=frozenset({Kind.ANSWER})) == Page([], has_more=False)
    assert store.events(run.id, kinds=frozenset()) == Page([], has_more=False)


def test_every_script_and_every_escape_comes_back_as_it_was(store, new_run, event):
    run = new_run()
    text = "寿司 🍣 naïve \u0000 \u2028 \"'; DROP TABLE events;-- \U0001f469‍\U0001f4bb שלום"
    records = [event(run, 1, text=text), event(run, 2, sender_id="usr_Ω'\"")]
    store.put_events(run, records)
    assert store.events(run.id).records == records
    assert store.events(run.id, sender_id="usr_Ω'\"").records == records[1:]


def test_a_log_chunk_of_300_kb_and_one_that_cannot_be_compressed_come_back_whole(
    store, new_run, event
):
    run = new_run()
    words = "".join(
        f"line {number}: compiled in {number * 7919 % 1000} ms\n" for number in range(12_000)
    )
    noise = "".join(Random(7).choices(HAN, k=400_000))
    records = [
        event(run, 1, kind=Kind.LOG, text=words[:300_000]),
        event(run, 2, kind=Kind.LOG, text=noise),
        event(run, 3),
    ]
    assert len(records[0].data) > 300_000
    assert len(records[1].data) > 1_200_000
    store.put_events(run, records)
    store.put_events(run, records)
    assert store.events(run.id).records == records
    assert store.event(run.id, 2) == records[1]
    assert store.last_seq(run.id) == 3
    assert store.feature_events(run.feature_id, cursor=None, limit=10).records == records


def test_a_page_larger_than_one_answer_of_the_database_is_still_whole(store, new_run, event):
    run = new_run()
    chunks = [
        event(run, seq, kind=Kind.LOG, text="".join(Random(seq).choices(HAN, k=60_000)))
        for seq in range(1, 16)
    ]
    store.put_events(run, chunks)
    assert store.events(run.id, after=0, limit=15) == Page(chunks, has_more=False)
    assert store.events(run.id, limit=14) == Page(chunks[1:], has_more=True)
    assert store.feature_events(run.feature_id, cursor=None, limit=15).records == chunks


def test_a_thousand_events_in_batches_are_all_there(store, new_run, event):
    run = new_run()
    records = [event(run, seq, text="x" * (seq % 300)) for seq in range(1, 1_001)]
    for start in range(0, 1_000, 100):
        store.put_events(run, records[start : start + 100])
    read, after = [], 0
    while True:
        page = store.events(run.id, after=after, limit=170)
        read += page.records
        if not page.has_more:
            break
        after = page.records[-1].seq
    assert read == records


def test_two_writers_of_the_same_batch_at_once_leave_it_there_once(store, new_run, event):
    run = new_run()
    records = [event(run, seq) for seq in range(1, 121)]
    together = Barrier(4)

    def write():
        together.wait(timeout=30)
        store.put_events(run, records)

    with ThreadPoolExecutor(4) as threads:
        for writing in [threads.submit(write) for _ in range(4)]:
            writing.result()
    assert store.events(run.id, limit=1_000) == Page(records, has_more=False)
    found = store.project_events(run.project_id, since=None, cursor=None, limit=1_000)
    assert found == Slice(records, None)


@settings(
    max_examples=15,
    # the store is shared by the examples: each has a run of its own
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    batches=st.lists(st.lists(st.integers(1, 60), max_size=35), max_size=6),
    limit=st.integers(1, 25),
    forwards=st.booleans(),
)
def test_any_batches_read_back_as_their_sorted_set_under_any_paging(
    store, new_run, event, batches, limit, forwards
):
    run = new_run()
    for batch in batches:
        store.put_events(run, [event(run, seq) for seq in batch])
    expected = sorted({seq for batch in batches for seq in batch})
    assert store.last_seq(run.id) == max(expected, default=0)
    read: list[int] = []
    has_more = True
    while has_more:
        if forwards:
            page = store.events(run.id, after=read[-1] if read else 0, limit=limit)
            read += seqs(page)
        else:
            page = store.events(run.id, before=read[0] if read else None, limit=limit)
            read = seqs(page) + read
        has_more = page.has_more
        assert len(page.records) == limit or not has_more
    assert read == expected
    sliced, cursor = [], None
    while True:
        part = store.feature_events(run.feature_id, cursor=cursor, limit=limit)
        sliced += seqs(part)
        cursor = part.cursor
        if cursor is None:
            break
    assert sliced == expected


# --- several runs by time ---


def places(records):
    events = [orjson.loads(record.data) for record in records]
    return [(event["at"], event["run_id"], event["seq"]) for event in events]


def test_a_feature_is_read_across_its_runs_by_time_then_run_then_number(store, new_run, event):
    feature, project = new_id("ftr"), new_id("prj")
    runs = [new_run(feature_id=feature, project_id=project) for _ in range(3)]
    stranger = new_run(project_id=project)
    for run in [*runs, stranger]:
        # ten events in each second, so that most of them share their time with others
        store.put_events(run, [event(run, seq, at=at((seq - 1) // 10)) for seq in range(1, 41)])
    expected = sorted((at((seq - 1) // 10), run.id, seq) for run in runs for seq in range(1, 41))
    read, cursor, rounds = [], None, 0
    while True:
        part = store.feature_events(feature, cursor=cursor, limit=7)
        read += part.records
        rounds += 1
        cursor = part.cursor
        if cursor is None:
            break
    assert places(read) == expected
    assert rounds == 18  # 120 in sevens: the last page knows that it is the last
    assert part.records
    exact = store.feature_events(feature, cursor=None, limit=120)
    assert (len(exact.records), exact.cursor) == (120, None)


def test_a_feature_is_filtered_by_kind_across_pages(store, new_run, event):
    feature = new_id("ftr")
    runs = [new_run(feature_id=feature) for _ in range(2)]
    for run in runs:
        store.put_events(
            run,
            [
                event(run, seq, at=at(seq // 30), kind=Kind.MESSAGE if seq % 25 == 0 else Kind.LOG)
                for seq in range(1, 601)
            ],
        )
    expected = sorted((at(seq // 30), run.id, seq) for run in runs for seq in range(25, 601, 25))
    first = store.feature_events(feature, cursor=None, limit=20, kinds=frozenset({Kind.MESSAGE}))
    assert first.cursor is not None
    rest = store.feature_events(
        feature, cursor=first.cursor, limit=100, kinds=frozenset({Kind.MESSAGE})
    )
    assert places(first.records + rest.records) == expected
    assert rest.cursor is None
    assert store.feature_events(feature, cursor=None, limit=5, kinds=frozenset()) == Slice([], None)


def test_a_project_is_read_since_a_time_that_is_included(store, new_run, event):
    project = new_id("prj")
    runs = [new_run(project_id=project) for _ in range(3)]
    for run in runs:
        store.put_events(run, [event(run, seq, at=at(seq)) for seq in range(1, 11)])
    expected = sorted((at(seq), run.id, seq) for run in runs for seq in range(1, 11))

    def read(since, limit):
        found, cursor = [], None
        while True:
            part = store.project_events(project, since=since, cursor=cursor, limit=limit)
            found += part.records
            cursor = part.cursor
            if cursor is None:
                return places(found)

    assert read(None, 4) == expected
    assert read(at(6), 4) == [place for place in expected if place[0] >= at(6)]
    assert read(at(6), 15) == [place for place in expected if place[0] >= at(6)]
    assert read("2026-11-22T09:33:06", 100) == [place for place in expected if place[0] >= at(6)]
    assert read("2026-11-22T09:34", 4) == []


def test_what_comes_later_is_found_by_the_cursor_of_an_earlier_page(store, new_run, event):
    run = new_run()
    store.put_events(run, [event(run, seq) for seq in (1, 2)])
    first = store.feature_events(run.feature_id, cursor=None, limit=1)
    store.put_events(run, [event(run, seq) for seq in (3, 4)])
    rest = store.feature_events(run.feature_id, cursor=first.cursor, limit=10)
    assert seqs(first) + seqs(rest) == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "cursor", ["", "x", "ä", "bnVsbA", "W10", "WyJhIiwiYiIsMF0", "WzEsMiwzXQ", "A" * 5_000]
)
def test_a_cursor_that_was_never_given_out_is_invalid(store, new_run, cursor):
    with pytest.raises(Invalid):
        store.feature_events(new_run().feature_id, cursor=cursor, limit=1)
    with pytest.raises(Invalid):
        store.project_events(new_run().project_id, since=None, cursor=cursor, limit=1)


# --- rows ---


def test_projects_are_listed_oldest_first_and_replaced_whole(store):
    ids = [new_id("prj") for _ in range(3)]
    made = [Project(id=ids[n], name=f"P{n} 寿司", created_at=at(9 - n)) for n in range(3)]
    for project in made:
        store.put_project(project)
    assert store.projects() == made[::-1]
    renamed = made[1].model_copy(update={"name": "Renamed"})
    store.put_project(renamed)
    assert store.project(ids[1]) == renamed
    assert store.projects() == [made[2], renamed, made[0]]
    assert store.project(new_id("prj")) is None


def test_features_are_listed_for_their_project_oldest_first(store):
    project = new_id("prj")

    def feature(second, project_id=project, description=""):
        return Feature(
            id=new_id("ftr"),
            project_id=project_id,
            name="Cart",
            description=description,
            created_at=at(second),
        )

    made = [feature(3, description="übergroß " * 500), feature(1), feature(2)]
    other = feature(0, project_id=new_id("prj"))
    for row in [*made, other]:
        store.put_feature(row)
    assert store.features(project) == [made[1], made[2], made[0]]
    assert store.feature(made[0].id) == made[0]
    assert store.feature(new_id("ftr")) is None
    assert store.features(new_id("prj")) == []


def a_feature(**more):
    place = {"id": new_id("ftr"), "project_id": new_id("prj"), "created_at": at(1)}
    return Feature(name="Cart", **(place | more))


def test_a_features_pipeline_and_what_it_comes_after_are_kept_as_they_are(store):
    turn = Turn(role=Role.CODER, why=Why.BY_HAND, by="Änna", note="Ω", request="ab" * 32)
    pipeline = Pipeline(
        number=2, turns=(turn, Turn(role=Role.CODER, why=Why.RETRY)), skipped=(Role.TESTER,),
        wanted=turn, told=1, request="k",
    )  # fmt: skip
    feature = a_feature(after=("ftr_1", "ftr_2"), pipeline=pipeline, version=3)
    store.put_feature(feature)
    assert store.feature(feature.id) == feature
    assert store.features(feature.project_id) == [feature]
    places = (Place(feature_id=feature.id, admitted=True), Place(feature_id="ftr_2"))
    project = Project(id=new_id("prj"), name="Shop", created_at=at(1), places=places, version=7)
    store.put_project(project)
    assert store.project(project.id) == project


def test_a_row_is_swapped_only_for_the_next_version_of_itself(store):
    feature = a_feature()
    assert not store.swap_feature(feature.model_copy(update={"version": 1}))
    assert store.feature(feature.id) is None
    store.put_feature(feature)
    first = feature.model_copy(update={"version": 1, "pipeline": Pipeline(number=1)})
    late = feature.model_copy(update={"version": 1, "after": ("ftr_1",)})
    assert store.swap_feature(first)
    assert not store.swap_feature(first)
    assert not store.swap_feature(late)
    assert not store.swap_feature(late.model_copy(update={"version": 3}))
    assert store.feature(feature.id) == first
    project = Project(id=new_id("prj"), name="Shop", created_at=at(1))
    store.put_project(project)
    entered = project.model_copy(update={"version": 1, "places": (Place(feature_id="f"),)})
    assert store.swap_project(entered)
    assert not store.swap_project(project.model_copy(update={"version": 1}))
    assert store.project(project.id) == entered


def test_of_many_who_swap_at_once_one_wins_each_version(store):
    feature = a_feature()
    store.put_feature(feature)
    together = Barrier(4)

    def swap(number):
        together.wait()
        changed = feature.model_copy(update={"version": 1, "after": (f"ftr_{number}",)})
        return store.swap_feature(changed)

    with ThreadPoolExecutor(4) as pool:
        won = list(pool.map(swap, range(4)))
    assert won.count(True) == 1
    assert store.feature(feature.id).after == (f"ftr_{won.index(True)}",)


def test_a_run_is_added_once_and_whoever_comes_second_gets_the_row_that_stands(store, new_run):
    run = new_run(pipeline=1, turn=2)
    assert store.add_run(run) == run
    store.update_run(run.id, status=RunStatus.WORKING, handle="h")
    again = store.add_run(run.model_copy(update={"created_at": at(9)}))
    assert again == store.run(run.id)
    assert (again.status, again.handle, again.created_at) == ("working", "h", run.created_at)
    assert (again.pipeline, again.turn) == (1, 2)


def test_a_run_is_replaced_whole_and_its_fields_are_changed_one_by_one(store, new_run):
    run = new_run(command=["python3", "-m", "agent", "Ω", ""], token_sha256="ab" * 32)
    store.put_run(run)
    assert store.run(run.id) == run
    changes = {
        "status": RunStatus.FAILED,
        "ended_at": at(5),
        "handle": "arn:…",
        "token_sha256": None,
    }
    store.update_run(run.id, **changes)
    changed = run.model_copy(update=changes)
    assert store.run(run.id) == changed
    assert store.runs(status=RunStatus.FAILED) == [changed]
    assert store.runs(status=RunStatus.QUEUED) == []
    store.update_run(run.id, command=[])
    store.update_run(run.id, status="queued")
    store.update_run(run.id)
    assert store.run(run.id) == changed.model_copy(
        update={"command": [], "status": RunStatus.QUEUED}
    )
    store.put_run(run)
    assert store.run(run.id) == run


def test_of_many_who_swap_a_field_of_a_run_at_once_one_wins(store, new_run):
    run = new_run()
    store.put_run(run)

    def swap(number: int, before: str | None) -> bool:
        return store.update_run_if(run.id, {"nudged_at": before}, nudged_at=at(number))

    with ThreadPoolExecutor(4) as pool:
        first = list(pool.map(swap, range(4), [None] * 4))
        assert first.count(True) == 1
        stands = at(first.index(True))
        second = list(pool.map(swap, range(4, 8), [stands] * 4))
    assert second.count(True) == 1
    assert store.run(run.id) == run.model_copy(update={"nudged_at": at(4 + second.index(True))})
    gone = {"nudged_at": stands}
    assert not store.update_run_if(run.id, gone, nudged_at=at(9)), "that is long gone"
    assert not store.update_run_if(new_id("run"), {"nudged_at": None}, nudged_at=at(9))
    with pytest.raises(TypeError):
        store.update_run_if(run.id, {"nudged_at": None}, nonsense=at(9))


def test_changing_a_run_that_is_not_there_is_refused_and_makes_none(store, new_run):
    run = new_run()
    with pytest.raises(NotFound):
        store.update_run(run.id, status=RunStatus.FAILED)
    with pytest.raises(NotFound):
        store.update_run(run.id)
    assert store.run(run.id) is None
    assert store.runs(feature_id=run.feature_id) == []


def test_a_change_that_no_run_can_have_is_a_mistake_of_the_caller_and_changes_nothing(
    store, new_run
):
    run = new_run()
    store.put_run(run)
    for change in ({"nonsense": 1}, {"id": new_id("run")}):
        with pytest.raises(TypeError):
            store.update_run(run.id, **change)
    with pytest.raises(ValidationError):
        store.update_run(run.id, status="asleep")
    assert store.run(run.id) == run


def test_a_change_that_expects_something_is_made_only_while_that_is_so(store, new_run):
    run = new_run()
    store.put_run(run)
    assert store.update_run_if(
        run.id, {"handle": None, "generation": 0}, handle="h", launch_tries=1
    )
    assert store.update_run_if(run.id, {"generation": 0}, handle="h"), "again is harmless"
    assert not store.update_run_if(run.id, {"handle": None, "generation": 0}, handle="other")
    assert store.update_run_if(run.id, {"handle": "h"}, handle=None, generation=1)
    assert not store.update_run_if(run.id, {"handle": "h"}, generation=2)
    found = store.run(run.id)
    assert (found.handle, found.generation, found.launch_tries) == (None, 1, 1)
    assert not store.update_run_if("run_unknown", {"handle": None}, handle="h")


def test_runs_are_listed_newest_first_by_project_feature_or_status(store, new_run):
    project, feature = new_id("prj"), new_id("ftr")
    runs = [
        new_run(
            project_id=project,
            feature_id=feature if n % 2 else new_id("ftr"),
            status=RunStatus.WORKING if n < 4 else RunStatus.COMPLETED,
            created_at=at(n // 2),
        )
        for n in range(8)
    ]
    for run in runs:
        store.put_run(run)
    newest = sorted(runs, key=lambda run: (run.created_at, run.id), reverse=True)
    assert store.runs(project_id=project) == newest
    assert store.runs(project_id=project, limit=3) == newest[:3]
    assert store.runs(feature_id=feature) == [run for run in newest if run.feature_id == feature]
    assert store.runs(status=RunStatus.WORKING) == [
        run for run in newest if run.status is RunStatus.WORKING
    ]
    store.update_run(runs[0].id, status=RunStatus.STOPPED)
    assert store.runs(status=RunStatus.STOPPED) == [
        runs[0].model_copy(update={"status": RunStatus.STOPPED})
    ]
    assert store.runs(project_id=new_id("prj")) == []


def test_creating_the_schema_again_keeps_what_is_there(store, new_run, event):
    run = new_run()
    store.put_run(run)
    store.put_events(run, [event(run, 1)])
    store.create_schema()
    assert store.run(run.id) == run
    assert store.events(run.id).records == [event(run, 1)]


def test_a_record_is_what_comes_back_and_never_a_view_of_the_database(store, new_run, event):
    run = new_run()
    store.put_events(run, [event(run, 1)])
    [record] = store.events(run.id).records
    assert type(record) is Record
    assert type(record.seq) is int
    assert type(record.data) is bytes
