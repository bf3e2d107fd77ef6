"""Projects and features."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from chat.access import Permission, Principal, demand
from chat.drafts import iso
from chat.errors import IdempotencyMismatch, NotFound
from chat.ids import hashed_id, new_id
from chat.requests import CreateFeature, CreateProject
from chat.runs import Feature, Project
from chat.service.context import Context


def keyed_id(prefix: str, principal: Principal, key: str | None) -> str:
    """An id that the same principal's same Idempotency-Key gives again; a fresh one without a key."""
    if key is None:
        return new_id(prefix)
    return hashed_id(prefix, principal.id, prefix, key)


class Catalog:
    """What is being built."""

    def __init__(
        self, context: Context, check_after: Callable[[str, str, Sequence[str]], None]
    ) -> None:
        """`check_after` is `Pipelines.check_after`."""
        self._context = context
        self._check_after = check_after
        self._store = context.store

    def create_project(
        self, principal: Principal, request: CreateProject, *, key: str | None = None
    ) -> tuple[Project, bool]:
        """A new project, and whether the same key had made it before."""
        demand(principal, Permission.CREATE, None)
        project_id = keyed_id("prj", principal, key)
        before = self._store.project(project_id) if key else None
        if before is not None:
            if before.name != request.name:
                raise IdempotencyMismatch("Use a new Idempotency-Key for another project.")
            return before, True
        project = Project(id=project_id, name=request.name, created_at=iso(self._context.now()))
        self._store.put_project(project)
        return project, False

    def projects(self, principal: Principal) -> list[Project]:
        """All projects."""
        demand(principal, Permission.READ, None)
        return self._store.projects()

    def project(self, principal: Principal, project_id: str) -> Project:
        """One project. Raises NotFound."""
        demand(principal, Permission.READ, None)
        project = self._store.project(project_id)
        if project is None:
            raise NotFound("There is no project with that id.")
        return project

    def create_feature(
        self,
        principal: Principal,
        project_id: str,
        request: CreateFeature,
        *,
        key: str | None = None,
    ) -> tuple[Feature, bool]:
        """A new feature of a project, and whether the same key had made it before."""
        demand(principal, Permission.CREATE, None)
        self.project(principal, project_id)
        feature_id = keyed_id("ftr", principal, key)
        before = self._store.feature(feature_id) if key else None
        if before is not None:
            if (before.project_id, before.name) != (project_id, request.name):
                raise IdempotencyMismatch("Use a new Idempotency-Key for another feature.")
            return before, True
        self._check_after(feature_id, project_id, request.after)
        feature = Feature(
            id=feature_id,
            project_id=project_id,
            name=request.name,
            description=request.description,
            created_at=iso(self._context.now()),
            after=tuple(dict.fromkeys(request.after)),
        )
        self._store.put_feature(feature)
        self._context.feature_changed(project_id, feature.id)
        return feature, False

    def features(self, principal: Principal, project_id: str) -> list[Feature]:
        """A project's features."""
        self.project(principal, project_id)
        return self._store.features(project_id)

    def feature(self, principal: Principal, feature_id: str) -> Feature:
        """One feature. Raises NotFound."""
        demand(principal, Permission.READ, None)
        feature = self._store.feature(feature_id)
        if feature is None:
            raise NotFound("There is no feature with that id.")
        return feature
