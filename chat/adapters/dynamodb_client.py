"""The connection to DynamoDB: how long it may take, how often it repeats, what its errors mean here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import boto3
from botocore.config import Config
from botocore.exceptions import (
    ClientError,
    ConnectionError,  # noqa: A004 - botocore's own name; the builtin is not used here
    CredentialRetrievalError,
    HTTPClientError,
    NoCredentialsError,
)

from chat.adapters.aws_answers import whole_answers
from chat.errors import Unavailable

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

CONFIG: Final = Config(
    connect_timeout=3,
    read_timeout=10,
    max_pool_connections=32,
    # Standard: three attempts with jitter for throttling, 5xx and broken connections.
    # https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html
    retries={"mode": "standard", "total_max_attempts": 3},
)
_PASSING: Final = frozenset(
    {
        "InternalServerError",
        "LimitExceededException",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "ResourceInUseException",
        "ResourceNotFoundException",
        "ServiceUnavailable",
        "ThrottlingException",
        "ExpiredTokenException",
    }
)
"""Codes that another attempt, or an administrator, can cure; the rest are mistakes of ours."""
_SERVER_ERROR: Final = 500


def dynamodb_client(*, region: str, endpoint_url: str | None = None) -> DynamoDBClient:
    """A client; credentials are found by boto3's own rules (task role, profile, environment).

    `endpoint_url` names a stand-in such as dynamodb-local; None is AWS.
    """
    client: DynamoDBClient = whole_answers(
        boto3.client("dynamodb", region_name=region, endpoint_url=endpoint_url, config=CONFIG)
    )
    return client


@contextmanager
def reaching() -> Iterator[None]:
    """Turn what AWS and the network say about their own state into Unavailable."""
    try:
        yield
    except (
        ConnectionError,
        HTTPClientError,
        CredentialRetrievalError,
        NoCredentialsError,
    ) as error:
        raise Unavailable(f"The store cannot be reached: {error}") from error
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if code in _PASSING or status >= _SERVER_ERROR:
            raise Unavailable(f"The store is not ready: {code}") from error
        raise
