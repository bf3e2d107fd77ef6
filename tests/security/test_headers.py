"""Every route, and every way it can fail, tells the browser the same rules (security.md 18, 20)."""

from __future__ import annotations

import re

import pytest

from tests.serving import Api, Attached, Server, raw
from web.endpoint import OPERATIONS
from web.headers import ALWAYS

PATHS = sorted(
    {(one.method, one.path) for one in OPERATIONS if "stream" not in one.path}
    | {("GET", "/"), ("GET", "/sign-in"), ("GET", "/projects/x"), ("GET", "/projects/x/logs")}
    | {("GET", "/nowhere"), ("GET", "/static/nowhere.js"), ("GET", "/static/js/app.js")}
    | {("DELETE", "/api/projects"), ("TRACE", "/api/projects"), ("GET", "/api/live")}
)


def check(reply) -> None:
    for name, value in ALWAYS.items():
        assert reply.headers.get(name.lower()) == value, name
    assert reply.status < 500
    if reply.status >= 400:
        assert reply.headers["content-type"] == "application/problem+json"
        assert set(reply.json) >= {"type", "title", "status", "detail", "code"}
        assert reply.json["status"] == reply.status


@pytest.mark.parametrize(("method", "path"), PATHS)
def test_every_route_sends_them_whatever_it_answers(
    server: Server, anna: Api, attached: Attached, method: str, path: str
):
    here = path.replace("{run_id}", attached.id)
    there = re.sub(r"{\w+}", "nowhere", path)
    here = re.sub(r"{\w+}", "nowhere", here)
    for client in (Api(server.port), anna, attached.agent):
        for target in (here, there):
            check(client.call(method, target))
            if method != "GET":
                check(client.call(method, target, b"{", Content_Type="application/json"))
                check(client.call(method, target, {}))


def test_a_stream_sends_them_too(server: Server, attached: Attached):
    sock = raw(server.port)
    cookie = attached.person.headers["Cookie"]
    head = f"Host: 127.0.0.1\r\nCookie: {cookie}\r\n\r\n"
    sock.sendall(f"GET {attached.path('/messages/stream')} HTTP/1.1\r\n{head}".encode())
    with sock, sock.makefile("rb") as lines:
        got = {}
        lines.readline()
        while line := lines.readline().strip():
            name, _, value = line.decode().partition(": ")
            got[name.lower()] = value
    for name, value in ALWAYS.items():
        assert got[name.lower()] == value


def test_an_answer_of_the_api_is_kept_by_no_cache(anna: Api):
    reply = anna.get("/api/projects")
    assert reply.headers["cache-control"] == "no-store"
    assert "Cookie" in reply.headers["vary"]
