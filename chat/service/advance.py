"""Taking a pipeline on: one step after another, each of which may be done again by anybody."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from chat.access import SYSTEM
from chat.drafts import draft, iso
from chat.errors import NotFound, Unavailable
from chat.events import ErrorBody
from chat.pipeline import Action, Do, State, admitted, next_step
from chat.ports import Runtime
from chat.roles import Roles
from chat.runs import Feature, Pipeline, Place, Run, RunStatus, StartKind
from chat.service.context import Context
from chat.service.handover import Handover
from chat.service.lifecycle import Lifecycle
from chat.service.progress import Progress
from chat.service.tokens import Tokens

_STEPS_MAX = 50
"""More than any pipeline takes at once: beyond it others keep changing it, and the sweep comes again."""
_GRACE_S = 10.0
log = structlog.get_logger("pipelines")


class Advance:
    """`next_step` says what to do; here it is done, and looked at again, until there is nothing to do.

    What is decided is written by compare and swap on the feature's or the project's row; what is made
    has an id that follows from the decision. A worker killed anywhere leaves a state from which the
    next one goes on: it is woken by the end of a run, and by the sweep.
    """

    def __init__(
        self,
        context: Context,
        lifecycle: Lifecycle,
        roles: Roles,
        runtime: Callable[[], Runtime],
    ) -> None:
        self._context = context
        self._lifecycle = lifecycle
        self._roles = roles
        self._runtime = runtime
        self._tokens = Tokens(context)
        self.progress = Progress(context, roles)
        self._handover = Handover(context, roles, self.progress)

    def on(self, feature_id: str) -> State:
        """Take a feature's pipeline as far as it goes now; returns where the feature then is."""
        steps: dict[Do, Callable[[Feature, Pipeline, Action], bool]] = {
            Do.ADMIT: self._admit,
            Do.PLAN: self._plan,
            Do.BEGIN: self._begin,
            Do.END_LATE: self._end_late,
            Do.TELL: self._tell,
        }
        for _ in range(_STEPS_MAX):
            feature = self._context.store.feature(feature_id)
            if feature is None:
                raise NotFound("There is no feature with that id.")
            action = next_step(self._roles, self.progress.facts(feature))
            if action.do is Do.REST:
                return action.state
            again = True
            if action.do is Do.ENTER:
                self.enter(feature)
            elif action.do is Do.LEAVE:
                self._leave(feature)
            elif feature.pipeline is not None:
                again = steps[action.do](feature, feature.pipeline, action)
            self._context.feature_changed(feature.project_id, feature.id)
            if not again:
                return action.state
        raise Unavailable("The pipeline is being changed by others.")

    def enter(self, feature: Feature) -> None:
        """Give the feature a place in its project's queue; harmless when it has one."""
        self._queue(feature, lambda places: (*places, Place(feature_id=feature.id)), unless=True)

    def _leave(self, feature: Feature) -> None:
        self._queue(
            feature,
            lambda places: tuple(one for one in places if one.feature_id != feature.id),
            unless=False,
        )
        for place in self.progress.project(feature).places:
            if not place.admitted:
                self._context.tasks.enqueue("advance", place.feature_id)

    def _queue(
        self,
        feature: Feature,
        change: Callable[[tuple[Place, ...]], tuple[Place, ...]],
        *,
        unless: bool,
    ) -> None:
        """Change the queue, unless the feature is there (or is not there) already."""
        for _ in range(_STEPS_MAX):
            project = self.progress.project(feature)
            if any(one.feature_id == feature.id for one in project.places) is unless:
                return
            changes = {"places": change(project.places), "version": project.version + 1}
            if self._context.store.swap_project(project.model_copy(update=changes)):
                return
        raise Unavailable("The project's queue is being changed by others.")

    def _admit(self, feature: Feature, _pipeline: Pipeline, _action: Action) -> bool:
        """Let in whoever's turn it is, which is found out anew from the row that is then replaced."""
        project = self.progress.project(feature)
        after = admitted(
            project.places, self.progress.waiting(project), self._roles.pipeline.at_a_time
        )
        changes = {"places": after, "version": project.version + 1}
        if self._context.store.swap_project(project.model_copy(update=changes)):
            for before, now in zip(project.places, after, strict=True):
                if now != before and now.feature_id != feature.id:
                    self._context.tasks.enqueue("advance", now.feature_id)
        return True

    def _plan(self, feature: Feature, pipeline: Pipeline, action: Action) -> bool:
        turns = (*pipeline.turns, *([action.turn] if action.turn else []))
        planned = pipeline.model_copy(update={"turns": turns, "wanted": None})
        self.swap(feature, planned)
        return True

    def swap(self, feature: Feature, pipeline: Pipeline) -> bool:
        """Replace the pipeline of a feature's row; False when the row was changed since it was read."""
        changes = {"pipeline": pipeline, "version": feature.version + 1}
        return self._context.store.swap_feature(feature.model_copy(update=changes))

    def _begin(self, feature: Feature, pipeline: Pipeline, _action: Action) -> bool:
        index = len(pipeline.turns) - 1
        role = pipeline.turns[index].role
        agent = self._roles.role[role]
        run_id = self.progress.run_id(feature.id, pipeline, index)
        run = self._context.store.add_run(
            Run(
                id=run_id,
                project_id=feature.project_id,
                feature_id=feature.id,
                agent_id=agent.agent_id,
                agent_name=agent.name,
                role=role,
                start=StartKind.LAUNCH,
                created_at=iso(self._context.now()),
                token_sha256=self._tokens.sha256(self._tokens.of(run_id)),
                pipeline=pipeline.number,
                turn=index + 1,
            )
        )
        self._lifecycle.begin(run, self._handover.to(run, feature, pipeline, index))
        return False

    def _end_late(self, feature: Feature, pipeline: Pipeline, action: Action) -> bool:
        run_id = self.progress.run_id(feature.id, pipeline, len(pipeline.turns) - 1)
        run = self._context.store.run(run_id)
        if run is not None and run.handle is not None:
            self._runtime().stop(run.handle, grace_s=_GRACE_S)
        said = f"{action.why} That is the limit in agents.toml."
        self._lifecycle.end(run_id, RunStatus.FAILED, said)
        return False

    def _tell(self, feature: Feature, pipeline: Pipeline, action: Action) -> bool:
        """An error in the last run's log. It counts as told when the database has it."""
        turns = len(pipeline.turns)
        run_id = self.progress.run_id(feature.id, pipeline, turns - 1)
        body = ErrorBody(
            summary=f"The feature '{feature.name}' is failing. {action.why}",
            detail="Start a role again, or skip it, and the pipeline goes on.",
        )
        one = draft(
            run_id, SYSTEM.sender(), body, now=self._context.now(), after_end=True,
            idempotency_key=f"failing:{pipeline.number}:{turns}",
        )  # fmt: skip
        done = self._context.log.append(run_id, [one])[0]
        if self._context.store.last_seq(run_id) < done.record.seq:
            self._context.tasks.enqueue("store", run_id)
            return False  # the sweep comes again
        self.swap(feature, pipeline.model_copy(update={"told": turns}))
        return True

    def sweep(self) -> int:
        """Take on every pipeline that is not over; returns how many there were."""
        count = 0
        for project in self._context.store.projects():
            for place in project.places:
                count += 1
                try:
                    self.on(place.feature_id)
                except Exception as error:  # noqa: BLE001 - one pipeline's trouble must not stop the others
                    log.warning("advance_failed", feature_id=place.feature_id, error=repr(error))
        return count
