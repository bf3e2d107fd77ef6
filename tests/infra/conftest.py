"""The template, and what stands in for AWS.

template   as it is written
stack      deployed on moto: logical name -> physical id, once for a module
node       a Redis as the template's MemoryDB is
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
from moto import mock_aws

from tests.deploying import REGION, Node, deploy, memorydb, read
from tests.serving import own_server, web_redis

__all__ = ["own_server", "web_redis"]


@pytest.fixture(scope="session")
def template() -> dict[str, Any]:
    return read()


@pytest.fixture(scope="module")
def stack(template: dict[str, Any]) -> Iterator[dict[str, str]]:
    names = {
        "AWS_ACCESS_KEY_ID": "of-moto",
        "AWS_SECRET_ACCESS_KEY": "of-moto",
        "AWS_DEFAULT_REGION": REGION,
    }
    with mock.patch.dict(os.environ, names), mock_aws():
        yield deploy(template)


@pytest.fixture(scope="module")
def node(template: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with memorydb(tmp_path_factory.mktemp("memorydb"), template) as running:
        yield running
