"""An agent that waits: woken at once, and holding no thread while it waits."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import redis

from tests.serving import Attached, Reply, Server, attach, raw, until


def mailbox(run: Attached, holder: str = "h1", wait_s: int = 20) -> Reply:
    return run.agent.get(run.path(f"/mailbox?holder={holder}"), Prefer=f"wait={wait_s}")


def parked(run: Attached) -> bool:
    """Whether the web process listens to the run."""
    channel = run.server.chat.live.run_channel(run.id)
    with redis.Redis.from_url(run.server.chat.settings.redis_url) as client:
        return bool(client.pubsub_numsub(channel)[0][1])


def test_a_waiting_agent_is_woken_when_a_message_is_stored(attached: Attached):
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(mailbox, attached)
        until(lambda: parked(attached))
        attached.say("look here")
        assert not waiting.done()
        began = time.monotonic()
        attached.store()
        reply = waiting.result()
        assert time.monotonic() - began < 2
    assert reply.headers["preference-applied"] == "wait=20"
    item = reply.json["items"][0]
    assert (item["event"]["body"]["text"], item["state"], item["attempt"]) == (
        "look here",
        "leased",
        1,
    )


def test_what_is_there_already_is_leased_without_waiting(attached: Attached):
    attached.say("one")
    attached.store()
    reply = mailbox(attached)
    assert len(reply.json["items"]) == 1
    assert "preference-applied" not in reply.headers


def test_an_empty_mailbox_is_empty_after_the_wait(attached: Attached):
    began = time.monotonic()
    reply = mailbox(attached, wait_s=1)
    assert (reply.status, reply.json["items"]) == (200, [])
    assert 0.9 < time.monotonic() - began < 10


def test_an_order_wakes_a_waiting_agent(attached: Attached):
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(mailbox, attached)
        until(lambda: parked(attached))
        reply = attached.person.post(attached.path("/orders"), {"action": "pause"})
        assert reply.status == 201, reply.data
        attached.store()
        assert waiting.result().json["items"][0]["event"]["kind"] == "order"


def test_an_answer_wakes_an_agent_that_waits_for_it(attached: Attached):
    asked = attached.agent.post(
        attached.path("/questions"),
        {"handle": "name", "text": "Which?", "options": [{"value": "a", "label": "A"}]},
    )
    assert asked.status == 201, asked.data
    question_id = asked.json["event"]["id"]

    def wait() -> Reply:
        return attached.agent.get(attached.path(f"/questions/{question_id}"), Prefer="wait=20")

    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(wait)
        until(lambda: parked(attached))
        answered = attached.person.post(
            attached.path(f"/questions/{question_id}/answer"), {"value": "a"}
        )
        assert answered.status == 201, answered.data
        assert waiting.result().json["answer"]["body"]["value"] == "a"


def test_what_was_leased_for_an_agent_that_has_gone_is_given_back(attached: Attached):
    gone = raw(attached.server.port)
    head = f"Host: 127.0.0.1\r\nAuthorization: Bearer {attached.token}\r\nPrefer: wait=20\r\n"
    gone.sendall(f"GET {attached.path('/mailbox?holder=gone')} HTTP/1.1\r\n{head}\r\n".encode())
    until(lambda: parked(attached))
    gone.close()
    attached.say("for whoever comes")
    attached.store()

    def leased_by_another() -> list:
        # the holder is the same sidecar, which asks again: what it may still hold is not waited for
        reply = attached.agent.get(attached.path("/mailbox?holder=gone"))
        return reply.json["items"]

    assert len(until(leased_by_another)) == 1


def test_two_hundred_waiting_agents_hold_no_thread(server: Server):
    run = attach(server)
    waiting = []
    head = f"Host: 127.0.0.1\r\nAuthorization: Bearer {run.token}\r\nPrefer: wait=30\r\n\r\n"
    for number in range(200):
        sock = raw(server.port)
        path = run.path(f"/mailbox?holder=h{number}")
        sock.sendall(f"GET {path} HTTP/1.1\r\n{head}".encode())
        waiting.append(sock)
    try:
        until(lambda: parked(run))
        began = time.monotonic()
        for _ in range(20):
            assert run.person.get("/api/projects").status == 200
        assert time.monotonic() - began < 10, "the plain requests stand behind the waiting ones"
        run.say("one of you")
        run.store()
        for sock in waiting:
            sock.setblocking(False)

        def one_has_it() -> bool:
            for sock in waiting:
                try:
                    data = sock.recv(65_536)
                except BlockingIOError:
                    continue
                return bool(json.loads(data.partition(b"\r\n\r\n")[2])["items"])
            return False

        until(one_has_it)
    finally:
        for sock in waiting:
            sock.close()


def test_a_server_that_ends_answers_who_waits(own_server: Callable[..., Server]):
    server = own_server()
    run = attach(server)
    replies: list[Reply] = []
    waiting = threading.Thread(target=lambda: replies.append(mailbox(run, wait_s=30)))
    waiting.start()
    until(lambda: parked(run))
    began = time.monotonic()
    server.process.terminate()
    waiting.join()
    assert time.monotonic() - began < 15
    assert (replies[0].status, replies[0].json["items"]) == (200, [])
    assert server.process.wait(20) == 0
