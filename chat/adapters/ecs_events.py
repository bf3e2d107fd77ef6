"""What ECS says of its tasks by itself: "ECS Task State Change", by EventBridge into an SQS queue.

Events are hints: they come twice, late, in any order or never, and say only which task to look at.
One that cannot be read is not deleted, so SQS puts it into the dead-letter queue after some receptions
(https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs_task_events.html).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

import boto3
import structlog
from pydantic import BaseModel, Field, ValidationError

from chat.adapters.aws_answers import whole_answers
from chat.adapters.ecs_faults import CONFIG, asking_aws
from chat.ids import is_id
from chat.ports import Hint

log = structlog.get_logger("ecs")
BATCH: Final = 10
"""Messages of one reception, as many as SQS gives."""
BATCHES_MAX: Final = 20


class _Detail(BaseModel):
    started_by: str = Field(default="", alias="startedBy")
    task_arn: str = Field(alias="taskArn")
    version: int


class _Event(BaseModel):
    """The part of the event that is read; EventBridge adds fields as it likes."""

    source: Literal["aws.ecs"]
    detail_type: Literal["ECS Task State Change"] = Field(alias="detail-type")
    detail: _Detail


def queue_client(*, region: str | None, endpoint_url: str | None = None) -> Any:
    """A client of SQS; credentials and region by boto3's own rules."""
    return whole_answers(
        boto3.client("sqs", region_name=region, endpoint_url=endpoint_url, config=CONFIG)
    )


class TaskEvents:
    """`ports.Hints` on a queue."""

    def __init__(self, sqs: Any, queue_url: str) -> None:
        self._sqs = sqs
        self._url = queue_url

    def receive(self) -> list[Hint]:
        """What is there, BATCH * BATCHES_MAX at most. Does not wait: a worker's process is too dear."""
        hints: list[Hint] = []
        for _ in range(BATCHES_MAX):
            with asking_aws():
                answer = self._sqs.receive_message(
                    QueueUrl=self._url, MaxNumberOfMessages=BATCH, WaitTimeSeconds=0
                )
            messages = answer.get("Messages") or []
            for message in messages:
                hint = _read(message)
                if hint is not None:
                    hints.append(hint)
            if not messages:
                break
        return hints

    def done(self, hints: Sequence[Hint]) -> None:
        """Delete their messages."""
        for first in range(0, len(hints), BATCH):
            entries = [
                {"Id": str(number), "ReceiptHandle": hint.receipt}
                for number, hint in enumerate(hints[first : first + BATCH])
            ]
            with asking_aws():
                self._sqs.delete_message_batch(QueueUrl=self._url, Entries=entries)


def _read(message: dict[str, Any]) -> Hint | None:
    """The hint in a message. None when it cannot be read; a task that no run of ours started counts as
    one of nobody and is read, so that it goes away."""
    try:
        event = _Event.model_validate_json(message["Body"])
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        log.warning(
            "event_not_understood",
            message_id=message.get("MessageId"),
            where=".".join(str(part) for part in fault["loc"]),
            error=fault["msg"],
        )
        return None
    detail = event.detail
    return Hint(
        run_id=detail.started_by if is_id(detail.started_by, "run") else "",
        handle=detail.task_arn,
        version=detail.version,
        receipt=str(message["ReceiptHandle"]),
    )
