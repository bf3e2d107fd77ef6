"""The deployed web's own environment, on a real web process: who is signed in by name, and who is not.

A tunnel ends on the task's loopback (127.0.0.1 here); the load balancer adds X-Forwarded-For; an agent comes from
an address of its own (127.0.0.2 here), and may write any header.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.deploying import Node
from tests.serving import Server

PEOPLE = "https://o.example.com"
AGENTS = "web.omakase.internal:8000"


@pytest.fixture
def web(own_server: Callable[..., Server], template: dict[str, Any], node: Node) -> Server:
    resources = template["Resources"]
    (container,) = resources["WebTask"]["Properties"]["ContainerDefinitions"]
    filled: dict[str, Any] = {
        "PUBLIC_URL": PEOPLE,
        "AGENT_URL": f"http://{AGENTS}",
        "ALLOWED_ORIGINS": f"{PEOPLE},http://localhost:8000",
        "LOCAL_SIGN_IN": "on",
        "RUNTIME": "ecs",
        "AGENTS_FILE": "",
        "FLOWER_URL": "",
        "EXEC_TERMINAL": "off",
        "HOLD_AFTER_S": "3600",
        "PRICE_VCPU_HOUR": "0.04048",
        "PRICE_GIB_HOUR": "0.004445",
        "PRICE_CURRENCY": "$",
        "EXEC_TERMINAL_IDLE_S": "600",
        "ECS_CLUSTER": "agents",
        "LOG_LEVEL": "INFO",
    }
    # the store is the test's own, and Redis a node like the template's
    environ = {
        one["Name"]: filled.get(one["Name"], one["Value"])
        for one in container["Environment"]
        if one["Name"] != "DATABASE"
    }
    return own_server(REDIS_URL=node.url, **environ)


def sign_in(web: Server, *, source: str = "127.0.0.1", **headers: str) -> int:
    connection = http.client.HTTPConnection(
        "127.0.0.1", web.port, timeout=20, source_address=(source, 0)
    )
    sent = {"Content-Type": "application/json", "Host": "localhost:8000"}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        connection.request("POST", "/api/session", json.dumps({"name": "Ana"}), sent)
        return connection.getresponse().status
    finally:
        connection.close()


def test_who_comes_through_the_tunnel_is_signed_in_and_nobody_else(web: Server):
    tunnel = {"Origin": "http://localhost:8000"}

    assert sign_in(web, **tunnel) == 201
    # through the load balancer, whoever it says it comes from
    for forwarded in ("203.0.113.7", "127.0.0.1"):
        assert sign_in(web, Host="o.example.com", Origin=PEOPLE, X_Forwarded_For=forwarded) == 403
    # an agent, straight to the web's port
    assert sign_in(web, source="127.0.0.2", Host=AGENTS) == 403
    assert sign_in(web, source="127.0.0.2", Host=AGENTS, X_Forwarded_For="127.0.0.1") == 403


def test_a_page_through_the_tunnel_may_open_the_live_socket(web: Server):
    person = web.person("Ana")

    with web.live(person, origin="http://localhost:8000", host="localhost:8000") as live:
        live.send(type="pong")
