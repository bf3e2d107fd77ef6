"""Where pipelines stand: read from the features, their runs and the project's queue; changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import orjson

from chat.errors import NotFound
from chat.events import Action, EventJson, Kind
from chat.ids import hashed_id
from chat.pipeline import (
    Facts,
    Over,
    Result,
    State,
    admitted,
    attempt_of,
    decide,
    next_step,
)
from chat.roles import Roles
from chat.runs import ENDED, IDLE, Feature, Pipeline, Project, Run, RunStatus, Verdict
from chat.service.context import Context

_ORDERS = 200
"""Orders in which one to stop is looked for, from the last back."""
_MOVES = 10
"""Status events in which the agent's own last one is looked for."""
_ASKING = IDLE | {RunStatus.SUSPENDED}


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a turn went, and what its agent (or whoever ended it) said at the end."""

    result: Result
    detail: str | None = None
    status: RunStatus | None = None


class Progress:
    """Everything here is a consistent read by id: no index, which may be behind, decides anything."""

    def __init__(self, context: Context, roles: Roles) -> None:
        self._context = context
        self._roles = roles

    @staticmethod
    def run_id(feature_id: str, pipeline: Pipeline, index: int) -> str:
        """The run of a turn: the same for everybody who asks."""
        turn = pipeline.turns[index]
        attempt = attempt_of(pipeline, index)
        return hashed_id("run", "turn", feature_id, str(pipeline.number), turn.role, str(attempt))

    def outcome(self, feature: Feature, pipeline: Pipeline, index: int) -> Outcome:
        """How the turn at `index` stands."""
        run = self._context.store.run(self.run_id(feature.id, pipeline, index))
        if run is None or (run.status is RunStatus.QUEUED and run.handle is None):
            return Outcome(Result.NOT_BEGUN, status=run.status if run else None)
        if run.status not in ENDED:
            return Outcome(self._at_work(run), status=run.status)
        verdict, detail = self._at_its_end(run.id)
        if run.status is RunStatus.FAILED:
            return Outcome(Result.FAILED, detail, run.status)
        if run.status is RunStatus.STOPPED:
            # one that nobody ordered to stop was ended from outside: a host that was taken away, a signal
            result = Result.STOPPED if self._was_told_to_stop(run.id) else Result.FAILED
            return Outcome(result, detail, run.status)
        sent_back = verdict is Verdict.CHANGES_REQUESTED
        return Outcome(Result.SENT_BACK if sent_back else Result.PASSED, detail, run.status)

    def _at_work(self, run: Run) -> Result:
        if run.status in _ASKING:
            return Result.ASKING  # as long as it takes
        role = self._roles.role.get(run.role)
        waits_for_room = run.status is RunStatus.STARTING and run.launch_tries > 0
        if role is None or run.handle is None or waits_for_room:
            return Result.OPEN  # how long it may wait for room is the launch's to say
        since = self._last_move(run.id)
        limit = timedelta(minutes=role.timeout_min)
        if since is not None and self._context.now() - since > limit:
            return Result.LATE
        return Result.OPEN

    def _was_told_to_stop(self, run_id: str) -> bool:
        page = self._context.store.events(run_id, limit=_ORDERS, kinds=frozenset({Kind.ORDER}))
        orders = (orjson.loads(record.data)["body"] for record in page.records)
        return any(order["action"] == Action.STOP for order in orders)

    def _at_its_end(self, run_id: str) -> tuple[Verdict | None, str | None]:
        for event in self._moves(run_id, limit=1):
            verdict = event["body"].get("verdict")
            return Verdict(verdict) if verdict else None, event["body"].get("detail")
        return None, None

    def _last_move(self, run_id: str) -> datetime | None:
        """When the agent last changed its status. That it has gone quiet is no change of its own."""
        for event in self._moves(run_id, limit=_MOVES):
            if event["body"]["status"] != RunStatus.UNRESPONSIVE:
                return datetime.fromisoformat(event["at"]).astimezone(UTC)
        return None

    def _moves(self, run_id: str, *, limit: int) -> Iterator[EventJson]:
        """The stored status events of a run, the newest first."""
        page = self._context.store.events(run_id, limit=limit, kinds=frozenset({Kind.STATUS}))
        for record in reversed(page.records):
            event: EventJson = orjson.loads(record.data)
            yield event

    def result(self, feature: Feature) -> Result | None:
        """How the last turn of a feature's pipeline stands."""
        pipeline = feature.pipeline
        if pipeline is None or not pipeline.turns:
            return None
        return self.outcome(feature, pipeline, len(pipeline.turns) - 1).result

    def is_done(self, feature: Feature) -> bool:
        """Whether every role of the feature's pipeline is done."""
        if feature.pipeline is None:
            return False
        follows = decide(self._roles, feature.pipeline, self.result(feature))
        return isinstance(follows, Over) and follows.state is State.DONE

    def waits_for(self, feature: Feature) -> tuple[str, ...]:
        """The features before it that are not done."""
        before = ((one, self._context.store.feature(one)) for one in feature.after)
        return tuple(one for one, found in before if found is None or not self.is_done(found))

    def waiting(self, project: Project) -> set[str]:
        """The features of the project's queue that are not let in and wait for others."""
        found = set()
        for place in project.places:
            feature = None if place.admitted else self._context.store.feature(place.feature_id)
            if feature is not None and self.waits_for(feature):
                found.add(feature.id)
        return found

    def project(self, feature: Feature) -> Project:
        """The feature's project. Raises NotFound."""
        project = self._context.store.project(feature.project_id)
        if project is None:
            raise NotFound("There is no project with that id.")
        return project

    def facts(self, feature: Feature) -> Facts:
        """What `next_step` looks at."""
        project = self.project(feature)
        place = next((one for one in project.places if one.feature_id == feature.id), None)
        if feature.pipeline is None:
            return Facts(None, listed=place is not None)
        facts = Facts(
            feature.pipeline,
            self.result(feature),
            listed=place is not None,
            admitted=place is not None and place.admitted,
        )
        if place is None or place.admitted:
            return facts
        after = admitted(project.places, self.waiting(project), self._roles.pipeline.at_a_time)
        may_enter = any(one.feature_id == feature.id and one.admitted for one in after)
        return Facts(
            facts.pipeline, facts.result, listed=True, may_enter=may_enter,
            waits_for=self.waits_for(feature),
        )  # fmt: skip

    def states(self, features: Sequence[Feature]) -> dict[str, tuple[State, str]]:
        """Where each feature is, and why, in words for people."""
        found = {}
        for feature in features:
            action = next_step(self._roles, self.facts(feature))
            found[feature.id] = (action.state, action.why)
        return found
