"""Changes to single fields of a run's row, checked before they are written."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from pydantic import TypeAdapter

from chat.runs import Run


@cache
def _field(name: str) -> TypeAdapter[Any]:
    field = Run.model_fields.get(name)
    if field is None or name == "id":
        raise TypeError(f"A run has no field {name!r} that can be changed")
    annotation: Any = field.annotation
    return TypeAdapter(annotation)


def json_changes(changes: Mapping[str, Any]) -> dict[str, Any]:
    """The changes as plain JSON values.

    Raises TypeError for a field that a run does not have, pydantic's ValidationError for a value
    that the field does not take: both are mistakes in the calling code.
    """
    return {
        name: _field(name).dump_python(_field(name).validate_python(value), mode="json")
        for name, value in changes.items()
    }
