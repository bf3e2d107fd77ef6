"""How headers are read: hosts, origins, waiting, versions, and what limits count."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request

from chat.errors import Forbidden, Invalid
from chat.settings import Settings
from web import auth, csrf, paging
from web.limits import Limits
from web.problems import PreconditionRequired, RateSpent


def request(peer: str = "127.0.0.1", **headers: str) -> Request:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    builder = EnvironBuilder(headers=sent, environ_base={"REMOTE_ADDR": peer})
    return Request(builder.get_environ())


@pytest.mark.parametrize(
    ("prefer", "wait_s"),
    [
        ("wait=5", 5), ("wait=500", 30), ("respond-async, wait=10", 10), ('wait="7"', 7),
        ("WAIT = 3", 3), ("handling=lenient; wait=2", 2), ("wait=-1", 0), ("wait=x", 0), ("", 0),
        ("await=9", 0),
    ],
)  # fmt: skip
def test_prefer_wait_is_read_and_bounded(prefer: str, wait_s: int):
    assert paging.preferred_wait_s(request(Prefer=prefer), 30) == wait_s


@pytest.mark.parametrize(("tag", "version"), [('"v1"', 1), ('W/"v12"', 12), ("*", None)])
def test_if_match_names_a_version(tag: str, version: int | None):
    assert paging.expected_version(request(If_Match=tag)) == version


def test_if_match_must_be_there_and_one_of_ours():
    with pytest.raises(PreconditionRequired):
        paging.expected_version(request())
    for tag in ("v1", '"1"', '"v1", "v2"', '"v-1"', '"v99999999999"'):
        with pytest.raises(Invalid):
            paging.expected_version(request(If_Match=tag))


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("127.0.0.1:8000", True), ("localhost", True), ("[::1]:8000", True),
        ("LOCALHOST:1", True), ("evil.example", False), ("localhost.evil.example", False),
        ("", False), ("[::", False), ("localhost@evil.example", False),
    ],
)  # fmt: skip
def test_only_our_own_names_are_hosts(settings: Settings, host: str, known: bool):
    assert csrf.known_host(host, settings) is known


@pytest.mark.parametrize(
    ("peer", "near"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("10.0.0.1", False),
     ("192.168.1.1", False), ("", False), ("unix", False)],
)  # fmt: skip
def test_local_sign_in_looks_at_the_peer_itself(settings: Settings, peer: str, near: bool):
    assert auth.on_this_machine(request(peer), settings) is near


def test_the_same_name_is_the_same_person_again():
    assert auth.local_person(" Anna ").id == auth.local_person("anna").id
    assert auth.local_person("Anna").id != auth.local_person("Anne").id


def test_a_rate_is_counted_for_each_principal_alone(make_settings: Callable[..., Settings]):
    limits = Limits(make_settings(MESSAGES_PER_MINUTE="3"))
    anna, ben = auth.local_person("Anna"), auth.local_person("Ben")

    def spend() -> None:
        for _ in range(7):  # the minute may turn once meanwhile
            limits.hit("message", anna)

    with pytest.raises(RateSpent) as spent:
        spend()
    assert 1 <= spent.value.retry_after_s <= 60
    limits.hit("message", ben)
    limits.hit("read", anna)


def test_a_page_of_another_site_is_refused_whatever_else_it_says(settings: Settings):
    with pytest.raises(Forbidden):
        csrf.check(request(Origin="https://evil.example", Sec_Fetch_Site="same-origin"), settings)
