"""What people and agents send: the bodies of the API's requests, refused when a field is unknown."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from chat.events import Anchor, Checkpoint, Mode, Option, Text
from chat.runs import Frozen, Role, RunStatus, StartKind, Verdict

Key = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[\x21-\x7e]+$")]
"""An idempotency key: printable ASCII without spaces."""
ItemId = Annotated[str, Field(min_length=1, max_length=64)]
Handle = Annotated[str, Field(min_length=1, max_length=128)]


def _one_line(value: object) -> object:
    """Without what does not show: control, direction, zero-width and tag characters."""
    if not isinstance(value, str):
        return value
    return " ".join("".join(c if c.isprintable() else " " for c in value).split())


class CreateProject(Frozen):
    name: str = Field(min_length=1, max_length=120)


After = Annotated[list[ItemId], Field(max_length=50)]
"""The features of the same project whose pipelines must be done before one begins."""


class CreateFeature(Frozen):
    name: str = Field(min_length=1, max_length=120)
    description: str = Field(default="", max_length=8_000)
    after: After = Field(default_factory=list)


class ComesAfter(Frozen):
    after: After


class StartPipeline(Frozen):
    """From the first role to the last, but for those in `skip`."""

    skip: list[Role] = Field(default_factory=list, max_length=20)


class SkipRole(Frozen):
    role: Role


class RestartRole(Frozen):
    """Start a role (again); `note` is said to it, for example what is to be done otherwise."""

    role: Role
    note: str | None = Field(default=None, min_length=1, max_length=8_000)


class CreateRun(Frozen):
    feature_id: ItemId
    agent_id: ItemId
    start: StartKind = StartKind.LAUNCH


class RegisterRun(Frozen):
    """An agent somebody started by hand. Either `feature_id`, or names that are made when missing."""

    agent_id: ItemId
    feature_id: ItemId | None = None
    project: str | None = Field(default=None, min_length=1, max_length=120)
    feature: str | None = Field(default=None, min_length=1, max_length=120)


class PostMessage(Frozen):
    text: Text
    mode: Mode = Mode.STEER
    reply_to: ItemId | None = None
    anchor: Anchor | None = None


class EditMessage(Frozen):
    """At least one of them."""

    text: Text | None = None
    mode: Mode | None = None


class PostAnswer(Frozen):
    """One of the question's option values, or free text where the question allows it."""

    value: str | None = Field(default=None, min_length=1, max_length=200)
    text: Text | None = None


class AskQuestion(Frozen):
    handle: Handle
    text: Text
    options: list[Option] = Field(default_factory=list, max_length=20)
    allow_text: bool = True


class Confirm(Frozen):
    """The model was given `text` at `step`; `sha256` is the hex digest of its UTF-8 bytes."""

    ids: list[ItemId] = Field(min_length=1, max_length=200)
    step: int = Field(ge=0)
    text: str = Field(min_length=1, max_length=262_144)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Release(Frozen):
    """Give leases back; all of the holder's when `ids` is empty."""

    holder: Handle
    ids: list[ItemId] = Field(default_factory=list, max_length=200)


class Heartbeat(Frozen):
    holder: Handle
    step: int | None = Field(default=None, ge=0)


class ReportedEvent(Frozen):
    """One event of the agent's side; `body` by `kind` as in `chat.events`. `id` only for a message
    that was streamed before."""

    key: Key
    kind: Literal["message", "step", "log", "status", "error"]
    body: dict[str, Any]
    id: ItemId | None = None
    at: str | None = Field(default=None, max_length=32)


class Report(Frozen):
    events: list[ReportedEvent] = Field(min_length=1, max_length=100)


class Delta(Frozen):
    """Streamed text of a message that is still open; `offset` in UTF-16 code units."""

    message_id: ItemId
    offset: int = Field(ge=0, le=1_000_000)
    text: str = Field(min_length=1, max_length=32_768)


class FinishRequest(Frozen):
    """The agent wants to end; `last_seq` is the highest `seq` it knows. `verdict` is for a role that
    judges the work of another: in a pipeline `changes_requested` sends it back."""

    holder: Handle
    last_seq: int = Field(ge=0)
    outcome: Literal[RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.STOPPED]
    summary: str | None = Field(default=None, max_length=2_000)
    exit_code: int | None = None
    verdict: Verdict | None = None


class HoldRequest(Frozen):
    """Either `checkpoint`: the agent may be put on hold; or `failure`: why it may not, in words.
    `generation` says which of the run's processes speaks (OMAKASE_GENERATION)."""

    holder: Handle
    generation: int = Field(ge=0)
    checkpoint: Checkpoint | None = None
    failure: str | None = Field(default=None, min_length=1, max_length=500)


class OpenTerminal(Frozen):
    """A terminal in the agent's container. `reason` is kept in the run's log, as one line of what can be
    printed; the size is in characters."""

    reason: Annotated[str, BeforeValidator(_one_line)] = Field(min_length=1, max_length=500)
    cols: int = Field(ge=2, le=500)
    rows: int = Field(ge=2, le=300)
