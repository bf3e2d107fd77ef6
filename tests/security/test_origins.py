"""Another site's page must not be able to open a live connection, or to post (security.md 3, 6)."""

from __future__ import annotations

import pytest
import websocket

from tests.serving import Api, Attached, Server

EVIL = [
    "https://evil.example",
    "null",
    "http://127.0.0.1.evil.example:{port}",
    "http://127.0.0.1:{port}.evil.example",
    "http://evil.example/?http://127.0.0.1:{port}",
    "https://127.0.0.1:{port}",
    "http://127.0.0.1",
    "http://127.0.0.1:{port}/",
    "HTTP://127.0.0.1:{port}",
]


@pytest.mark.parametrize("origin", EVIL)
def test_a_socket_from_another_origin_is_refused_before_the_handshake(
    server: Server, anna: Api, origin: str
):
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        server.live(anna, origin=origin.format(port=server.port))
    assert refused.value.status_code == 403
    assert b"bad_origin" in refused.value.resp_body


def test_a_cookie_without_an_origin_is_refused(server: Server, anna: Api):
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        server.live(anna, origin=None)
    assert refused.value.status_code == 403


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_our_own_pages_may_open_one(server: Server, anna: Api, name: str):
    with server.live(anna, origin=f"http://{name}:{server.port}") as live:
        assert live.next()["type"] == "hello"


def test_an_agents_token_opens_no_socket(server: Server, attached: Attached):
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        server.live(None, header=[f"Authorization: Bearer {attached.token}"])
    assert refused.value.status_code == 403


@pytest.mark.parametrize(
    ("header", "value"),
    [("Sec-WebSocket-Version", "8"), ("Sec-WebSocket-Key", "short"), ("Sec-WebSocket-Key", "%%%")],
)
def test_a_broken_handshake_is_a_400(server: Server, anna: Api, header: str, value: str):
    sent = {
        "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Origin": server.origin, header: value,
    }  # fmt: skip
    reply = anna.get("/api/live", **sent)
    assert (reply.status, reply.json["code"]) == (400, "bad_request")


def test_a_plain_get_is_told_that_this_is_a_socket(anna: Api):
    assert anna.get("/api/live").status == 400


def test_nothing_is_compressed(server: Server, anna: Api):
    with server.live(anna, header=["Sec-WebSocket-Extensions: permessage-deflate"]) as live:
        assert "sec-websocket-extensions" not in live.ws.headers


BODY = {"name": "Shop"}


@pytest.mark.parametrize("origin", EVIL)
def test_a_post_from_another_origin_changes_nothing(server: Server, anna: Api, origin: str):
    before = anna.get("/api/projects").json
    reply = anna.post("/api/projects", BODY, Origin=origin.format(port=server.port))
    assert (reply.status, reply.json["code"]) == (403, "bad_origin")
    assert anna.get("/api/projects").json == before


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Sec_Fetch_Site": "none"},
        {"Sec_Fetch_Mode": "no-cors"},
        {"Referer": "https://evil.example/"},
        {"Origin": "https://evil.example", "Sec_Fetch_Site": "same-origin"},
    ],
)
def test_a_browser_that_cannot_say_it_is_ours_is_refused(anna: Api, headers: dict):
    assert anna.post("/api/projects", BODY, **headers).status == 403


@pytest.mark.parametrize("headers", [{"Sec_Fetch_Site": "same-origin"}, {}, {"Origin": "{origin}"}])
def test_our_own_page_and_a_command_line_may_post(server: Server, anna: Api, headers: dict):
    sent = {name: value.format(origin=server.origin) for name, value in headers.items()}
    assert anna.post("/api/projects", BODY, **sent).status == 201


@pytest.mark.parametrize(
    "media", ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x"]
)
def test_what_a_form_can_send_is_refused_from_anywhere(server: Server, anna: Api, media: str):
    body = b'{"name":"Shop"}'
    assert anna.post("/api/projects", body, Content_Type=media).status == 415
    evil = anna.post("/api/projects", body, Content_Type=media, Origin="https://evil.example")
    assert evil.status == 403


@pytest.mark.parametrize("method", ["DELETE", "POST"])
def test_signing_in_and_out_is_guarded_too(anna: Api, method: str):
    reply = anna.call(method, "/api/session", BODY, Origin="https://evil.example")
    assert reply.status == 403


def test_a_name_that_is_not_ours_is_not_served(server: Server, anna: Api):
    for host in ("evil.example", f"evil.example:{server.port}", "127.0.0.1.evil.example", "[::"):
        assert anna.get("/api/projects", Host=host).status in {400, 421}
    assert anna.get("/api/projects", Host=f"localhost:{server.port}").status == 200
