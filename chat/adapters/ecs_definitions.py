"""A run's own task definition: its role's, with agents.toml's image, size and command, and with its token.

ECS takes a secret from a task definition only, never from an override
(https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ContainerOverride.html), so each run gets
revision 1 of a family of its own, a copy of its role's definition with one secret more. What it was
first defined as it stays, whatever becomes of agents.toml or the role's definition between two tries:

    secret             {secret_prefix}{run_id}         the token; deleted when the run has ended
    task definition    {family_prefix}{role}-{run_id}  revision 1; deregistered then
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import structlog
from botocore.exceptions import ClientError

from chat.adapters.ecs_faults import asking_aws, code_of, fault
from chat.adapters.ecs_shape import Shape, fitted
from chat.errors import Invalid, Unavailable
from chat.runs import Run

log = structlog.get_logger("ecs")
TOKEN_VARIABLE: Final = "OMAKASE_TOKEN"  # noqa: S105 - its name, not the token
_REVISIONS_MAX: Final = 100
_KNOWS_IT_NOT: Final = frozenset({"ResourceNotFoundException", "ClientException"})


@dataclass(frozen=True, slots=True)
class Definition:
    """What a run's task is started from, its size, and where its output goes (awslogs)."""

    family: str
    cpu: int
    memory_mib: int
    log_group: str | None
    log_prefix: str | None


class Definitions:
    """Makes and takes away what belongs to one run alone. Every call may be repeated."""

    def __init__(
        self,
        ecs: Any,
        secrets: Any,
        *,
        container: str,
        family_prefix: str,
        secret_prefix: str,
        shape: Callable[[Run], Shape],
    ) -> None:
        self._ecs = ecs
        self._secrets = secrets
        self._container = container
        self._family_prefix = family_prefix
        self._secret_prefix = secret_prefix
        self._shape = shape

    def family_of(self, run: Run) -> str:
        """The run's own family, whose revision 1 it is started from."""
        return f"{self._family_prefix}{run.role.value}-{run.id}"

    def make(self, run: Run, token: str) -> Definition:
        """The run's secret and definition. Raises as `asking_aws` does."""
        with asking_aws():
            arn = self._secret(run, token)
            base = self._ecs.describe_task_definition(
                taskDefinition=f"{self._family_prefix}{run.role.value}"
            )["taskDefinition"]
            family = self.family_of(run)
            wanted = self._with_token(base, family, arn, self._shape(run))
            made = self._ecs.register_task_definition(**wanted)["taskDefinition"]
            # Somebody was here before, or an answer got lost: RunTask must be asked the same each time, or
            # its client token is refused, so only the first revision counts.
            revisions = range(2, int(made["revision"]) + 1)
            for revision in revisions:
                self._ecs.deregister_task_definition(taskDefinition=f"{family}:{revision}")
            if revisions:
                first = self._ecs.describe_task_definition(taskDefinition=f"{family}:1")
                made = first["taskDefinition"]
        logs = self._own(made).get("logConfiguration") or {}
        options: Mapping[str, str] = logs.get("options") or {}
        return Definition(
            family=family,
            cpu=int(made["cpu"]),
            memory_mib=int(made["memory"]),
            log_group=options.get("awslogs-group"),
            log_prefix=options.get("awslogs-stream-prefix"),
        )

    def take_away(self, run: Run) -> bool:
        """Delete both; False when AWS could not be asked."""
        try:
            with asking_aws():
                self._ignoring(
                    self._secrets.delete_secret,
                    SecretId=f"{self._secret_prefix}{run.id}",
                    ForceDeleteWithoutRecovery=True,
                )
                self._deregister(self.family_of(run))
        except Unavailable as error:
            log.warning("run_not_tidied", run_id=run.id, error=error.detail)
            return False
        except Invalid as error:
            log.error("run_not_tidied", run_id=run.id, error=error.detail)  # noqa: TRY400 - the words say it
        return True

    def _deregister(self, family: str) -> None:
        """Every revision: who made another may have been killed before they took it away."""
        self._ignoring(self._ecs.deregister_task_definition, taskDefinition=f"{family}:1")
        for _ in range(_REVISIONS_MAX):
            # the latest that is active; a refusal when none is
            found = self._ignoring(self._ecs.describe_task_definition, taskDefinition=family)
            if found is None or found["taskDefinition"].get("status") != "ACTIVE":
                return
            self._ecs.deregister_task_definition(
                taskDefinition=found["taskDefinition"]["taskDefinitionArn"]
            )

    def _ignoring(self, call: Any, **arguments: Any) -> Any:
        """The answer; None for something that is not there."""
        try:
            return call(**arguments)
        except ClientError as error:
            if code_of(error) not in _KNOWS_IT_NOT or isinstance(fault(error), Unavailable):
                raise
        return None

    def _secret(self, run: Run, token: str) -> str:
        name = f"{self._secret_prefix}{run.id}"
        try:
            made = self._secrets.create_secret(Name=name, SecretString=token)
        except ClientError as error:
            if code_of(error) != "ResourceExistsException":
                raise
            made = self._secrets.get_secret_value(SecretId=name)
            if made["SecretString"] != token:
                raise Invalid(f"The secret {name} holds another run's token.") from error
        return str(made["ARN"])

    def _own(self, definition: Mapping[str, Any]) -> Mapping[str, Any]:
        for one in definition["containerDefinitions"]:
            if one["name"] == self._container:
                found: Mapping[str, Any] = one
                return found
        raise Invalid(
            f"The task definition {definition['family']} has no container '{self._container}'."
        )

    def _with_token(
        self, base: Mapping[str, Any], family: str, arn: str, shape: Shape
    ) -> dict[str, Any]:
        known = self._ecs.meta.service_model.operation_model("RegisterTaskDefinition").input_shape
        self._own(base)
        wanted = {name: base[name] for name in known.members if name in base}
        wanted |= {**fitted(base, self._container, shape), "family": family}
        for one in wanted["containerDefinitions"]:
            if one["name"] == self._container:
                others = [s for s in one.get("secrets", []) if s["name"] != TOKEN_VARIABLE]
                one["secrets"] = [*others, {"name": TOKEN_VARIABLE, "valueFrom": arn}]
        return wanted
