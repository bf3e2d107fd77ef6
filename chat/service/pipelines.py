"""Pipelines as people see and steer them: started, skipped in part, started again, put in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from chat.access import Permission, Principal, demand
from chat.drafts import digest
from chat.errors import Conflict, IdempotencyMismatch, Invalid, NotFound, Unavailable
from chat.pipeline import UNDER_WAY, Over, State, attempt_of, decide, next_step, round_of
from chat.requests import ComesAfter, RestartRole, SkipRole, StartPipeline
from chat.roles import Roles
from chat.runs import Feature, Frozen, Pipeline, Turn, Why
from chat.service.advance import Advance
from chat.service.context import Context

_TRIES_MAX = 50
"""Of a change that others were faster with."""
_HASH = 32
"""Characters of `drafts.digest`."""
Json = dict[str, Any]


class Pipelines:
    """Each change is one compare and swap of the feature's row; then a worker takes it on."""

    def __init__(self, context: Context, roles: Roles, advance: Advance) -> None:
        self._context = context
        self._roles = roles
        self._advance = advance
        self._progress = advance.progress

    def advance(self, feature_id: str) -> State:
        """Take a feature's pipeline as far as it goes now. May be done by anybody, any number of times."""
        return self._advance.on(feature_id)

    def sweep(self) -> int:
        """Take on every pipeline that is not over; returns how many there were."""
        return self._advance.sweep()

    def start(
        self,
        principal: Principal,
        feature_id: str,
        request: StartPipeline,
        *,
        key: str | None = None,
    ) -> tuple[Json, bool]:
        """Start a pipeline; the view of it, and whether the same key had started it before. Raises
        Conflict while one is under way, IdempotencyMismatch, Invalid when every role is skipped."""
        demand(principal, Permission.PIPELINE, None)
        skipped = tuple(role for role in self._roles.line if role in request.skip)
        if len(skipped) == len(self._roles.line):
            raise Invalid("At least one role must be left to do the work.")
        asked = _asked(principal, "start", key, request)
        self._advance.enter(self._feature(feature_id))  # first: what has a place is swept
        repeated = False

        def begin(feature: Feature, pipeline: Pipeline | None) -> Pipeline | None:
            nonlocal repeated
            before = pipeline.request if pipeline is not None else None
            repeated = asked is not None and before == asked
            if repeated:
                return None
            if asked is not None and before is not None and before[:_HASH] == asked[:_HASH]:
                raise IdempotencyMismatch("Use a new Idempotency-Key for another pipeline.")
            if pipeline is not None and not self._is_over(feature, pipeline):
                raise self._conflict("A pipeline of this feature is under way.", feature)
            number = pipeline.number + 1 if pipeline is not None else 1
            return Pipeline(number=number, skipped=skipped, request=asked)

        feature = self._change(feature_id, begin)
        return self._taken_on(feature), repeated

    def skip(self, principal: Principal, feature_id: str, request: SkipRole) -> Json:
        """Leave a role out from now on; one that failed or was stopped counts as done. Raises Conflict
        while that role is at work."""
        demand(principal, Permission.PIPELINE, None)
        role = request.role

        def leave_out(feature: Feature, pipeline: Pipeline | None) -> Pipeline | None:
            pipeline = self._started(pipeline)
            if pipeline.turns and pipeline.turns[-1].role is role and self._at_work(feature):
                name = self._roles.role[role].name
                raise self._conflict(f"{name} is at work: stop it first, then skip it.", feature)
            if role in pipeline.skipped:
                return None
            wanted = pipeline.wanted
            return pipeline.model_copy(
                update={
                    "skipped": (*pipeline.skipped, role),
                    "wanted": None if wanted is not None and wanted.role is role else wanted,
                }
            )

        self._enter_again(feature_id)
        return self._taken_on(self._change(feature_id, leave_out))

    def restart(
        self, principal: Principal, feature_id: str, request: RestartRole, *, key: str | None = None
    ) -> tuple[Json, bool]:
        """Start a role (again) by hand; the roles after it follow. With a note this is how a person
        sends the work back. Raises Conflict while a role is at work, IdempotencyMismatch."""
        demand(principal, Permission.PIPELINE, None)
        asked = _asked(principal, "restart", key, request)
        wanted = Turn(
            role=request.role, why=Why.BY_HAND, by=principal.name, note=request.note, request=asked
        )
        repeated = False

        def start_again(feature: Feature, pipeline: Pipeline | None) -> Pipeline | None:
            nonlocal repeated
            pipeline = self._started(pipeline)
            known = {turn.request for turn in (*pipeline.turns, pipeline.wanted) if turn}
            repeated = asked is not None and asked in known
            if repeated or pipeline.wanted == wanted:
                return None
            if asked and any(one and one[:_HASH] == asked[:_HASH] for one in known):
                raise IdempotencyMismatch("Use a new Idempotency-Key to start another role.")
            if self._at_work(feature):
                name = self._roles.role[pipeline.turns[-1].role].name
                raise self._conflict(f"{name} is at work: stop it first.", feature)
            skipped = tuple(role for role in pipeline.skipped if role is not request.role)
            return pipeline.model_copy(update={"wanted": wanted, "skipped": skipped})

        self._enter_again(feature_id)
        feature = self._change(feature_id, start_again)
        return self._taken_on(feature), repeated

    def put_after(self, principal: Principal, feature_id: str, request: ComesAfter) -> Json:
        """Say which features have to be done before this one begins. Raises Invalid for a feature of
        another project, or when the features would wait for one another in a circle."""
        demand(principal, Permission.PIPELINE, None)
        for _ in range(_TRIES_MAX):
            feature = self._feature(feature_id)
            after = tuple(dict.fromkeys(request.after))
            self.check_after(feature.id, feature.project_id, after)
            changed = feature.model_copy(update={"after": after, "version": feature.version + 1})
            if not self._context.store.swap_feature(changed):
                continue
            # two at once may each have seen no circle: whoever wrote last sees it now, and takes it back
            try:
                self.check_after(feature.id, feature.project_id, after)
            except Invalid:
                back = {"after": feature.after, "version": changed.version + 1}
                self._context.store.swap_feature(changed.model_copy(update=back))
                raise
            self._context.tasks.enqueue("advance", feature_id)
            self._context.feature_changed(feature.project_id, feature.id)
            return self._shown(changed)
        raise Unavailable("The feature is being changed by others.")

    def check_after(self, feature_id: str, project_id: str, after: Sequence[str]) -> None:
        """Refuse what `put_after` refuses; `feature_id` need not be there yet."""
        ways = [(one, "this feature") for one in after]
        seen = set()
        while ways:
            one, way = ways.pop()
            if one == feature_id:
                raise Invalid(f"They would wait for one another: {way} after this feature.")
            if one in seen:
                continue
            seen.add(one)
            found = self._context.store.feature(one)
            if found is None or found.project_id != project_id:
                raise Invalid(f"'after' names '{one}', which is no feature of this project.")
            ways += [(further, f"{way} after '{found.name}'") for further in found.after]

    def view(self, principal: Principal, feature_id: str) -> Json:
        """A feature's pipeline: where it is and why, each turn with its run, and what it waits for."""
        demand(principal, Permission.READ, None)
        return self._shown(self._feature(feature_id))

    def of_project(self, principal: Principal, project_id: str) -> list[Json]:
        """The pipelines of all features of a project, as `view` shows them. Raises NotFound."""
        demand(principal, Permission.READ, None)
        if self._context.store.project(project_id) is None:
            raise NotFound("There is no project with that id.")
        return [self._shown(one) for one in self._context.store.features(project_id)]

    def states(self, features: Sequence[Feature]) -> dict[str, State]:
        """Where each feature is."""
        return {one.id: next_step(self._roles, self._progress.facts(one)).state for one in features}

    # --- how a row is changed ---

    def _feature(self, feature_id: str) -> Feature:
        feature = self._context.store.feature(feature_id)
        if feature is None:
            raise NotFound("There is no feature with that id.")
        return feature

    def _change(
        self,
        feature_id: str,
        change: Callable[[Feature, Pipeline | None], Pipeline | None],
    ) -> Feature:
        """Replace the feature's pipeline by what `change` makes of it; None leaves it as it is."""
        for _ in range(_TRIES_MAX):
            feature = self._feature(feature_id)
            changed = change(feature, feature.pipeline)
            if changed is None:
                return feature
            if self._advance.swap(feature, changed):
                return feature.model_copy(
                    update={"pipeline": changed, "version": feature.version + 1}
                )
        raise Unavailable("The feature is being changed by others.")

    def _enter_again(self, feature_id: str) -> None:
        """Before a decision is written: only what has a place is swept, should we be killed behind it."""
        feature = self._feature(feature_id)
        if feature.pipeline is not None:
            self._advance.enter(feature)

    def _taken_on(self, feature: Feature) -> Json:
        if feature.pipeline is not None and not self._is_over(feature, feature.pipeline):
            self._advance.enter(feature)
        self._context.tasks.enqueue("advance", feature.id)
        self._context.feature_changed(feature.project_id, feature.id)
        return self._shown(feature)

    @staticmethod
    def _started(pipeline: Pipeline | None) -> Pipeline:
        if pipeline is None:
            raise Conflict("No pipeline of this feature was started.")
        return pipeline

    def _is_over(self, feature: Feature, pipeline: Pipeline) -> bool:
        return isinstance(decide(self._roles, pipeline, self._progress.result(feature)), Over)

    def _at_work(self, feature: Feature) -> bool:
        return self._progress.result(feature) in UNDER_WAY

    def _conflict(self, detail: str, feature: Feature) -> Conflict:
        return Conflict(detail, current_state=self._shown(feature))

    # --- how it is shown ---

    def _shown(self, feature: Feature) -> Json:
        action = next_step(self._roles, self._progress.facts(feature))
        pipeline = feature.pipeline
        waiting = set(self._progress.waits_for(feature))
        after = ((one, self._context.store.feature(one)) for one in feature.after)
        shown: Json = {
            "feature_id": feature.id,
            "state": action.state,
            "reason": action.why,
            "number": pipeline.number if pipeline else None,
            "turns": self._turns(feature, pipeline) if pipeline else [],
            "skipped": list(pipeline.skipped) if pipeline else [],
            "wanted": pipeline.wanted.role if pipeline and pipeline.wanted else None,
            "after": [
                {"feature_id": one, "name": found.name if found else "", "done": one not in waiting}
                for one, found in after
            ],
        }
        return shown

    def _turns(self, feature: Feature, pipeline: Pipeline) -> list[Json]:
        made = []
        for index, turn in enumerate(pipeline.turns):
            ended = self._progress.outcome(feature, pipeline, index)
            agent = self._roles.role.get(turn.role)  # None: the file has lost it since
            made.append(
                {
                    "turn": index + 1,
                    "role": turn.role,
                    "agent_id": agent.agent_id if agent else turn.role.value,
                    "agent_name": agent.name if agent else turn.role.value,
                    "attempt": attempt_of(pipeline, index),
                    "round": round_of(pipeline, index),
                    "why": turn.why,
                    "by": turn.by,
                    "note": turn.note,
                    "run_id": self._progress.run_id(feature.id, pipeline, index),
                    "result": ended.result,
                    "summary": ended.detail,
                }
            )
        return made


def _asked(principal: Principal, what: str, key: str | None, request: Frozen) -> str | None:
    """A request's hash, of who and which key in the first half and of its words in the second."""
    return digest(principal.id, what, key) + digest(request) if key is not None else None
