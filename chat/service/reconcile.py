"""A log that came back from before: Redis was replaced by a copy that lacks what the store has by now.

An empty Redis is noticed by everybody (`Log`). One that is only behind looks whole: it hands out numbers
that the store knows already. So before anything is written into the store, the two are compared where they
overlap, and where they are not the same log any more it is rebuilt: what the store has, then what was said
since, under new numbers and in a new epoch. Nothing that was answered 2xx is written over.
"""

from __future__ import annotations

from collections.abc import Iterator

import orjson
import structlog

from chat.ports import Record
from chat.runs import Run
from chat.service.context import Context
from chat.service.restore import going_on, stored_state

_PAGE = 1_000
log = structlog.get_logger("delivery")


def reconcile(context: Context, run: Run) -> None:
    """Make sure that the run's log goes on where the store ends."""
    while not _goes_on(context, run):
        pass  # the store has got more in the meantime


def _goes_on(context: Context, run: Run) -> bool:
    """Whether it does, or was made to; False to look again."""
    brief = context.log.brief([run.id]).get(run.id)
    last = context.store.last_seq(run.id)
    # a log that is not there is rebuilt by whoever reads it
    if brief is None or last <= brief.stored:
        return True
    snapshot = context.log.snapshot(
        run.id
    )  # read after `last`: what the store has was in the log before
    parted = _parted(context, run.id, after=snapshot.stored, upto=last, head=snapshot.head)
    if parted is None:
        return True
    # what takes long comes first: an agent at work writes all the time
    keep = context.settings.stream_keep
    base = stored_state(context.store, run, keep=keep, since=parted)
    while True:
        now = context.log.snapshot(run.id)
        if now.epoch != snapshot.epoch or context.store.last_seq(run.id) != base.last:
            return False
        # read after the head that is to be replaced: what comes later moves it. What was sent again, and is
        # in the store, is there already
        since = [
            record for record in _held(context, run.id, parted - 1) if _id(record) not in base.ids
        ]
        state = going_on(base, run, now_ms=context.now_ms(), then=since)
        if context.log.rebuild(run.id, state, epoch=now.epoch, head=now.head):
            log.warning(
                "log_was_behind", run_id=run.id, parted=parted, stored=last, again=len(since)
            )
            return True


def _held(context: Context, run_id: str, after: int) -> Iterator[Record]:
    while records := context.log.read(run_id, after=after, limit=_PAGE):
        yield from records
        after = records[-1].seq


def _parted(context: Context, run_id: str, *, after: int, upto: int, head: int) -> int | None:
    """The first number up to `upto` under which the store has another event than the log; None when there is
    none. What the log has dropped was stored, and counts as the same."""
    ours = {record.seq: record for record in _held(context, run_id, after)}
    more = True
    while more:
        page = context.store.events(run_id, after=after, before=upto + 1, limit=_PAGE)
        for record in page.records:
            mine = ours.get(record.seq)
            if record.seq > head or (mine is not None and _id(mine) != _id(record)):
                return record.seq
        more = page.has_more
        after = page.records[-1].seq if page.records else after
    return None


def _id(record: Record) -> str:
    found: str = orjson.loads(record.data)["id"]
    return found
