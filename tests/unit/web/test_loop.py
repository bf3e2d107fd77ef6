from __future__ import annotations

import threading

from flask import Flask, has_request_context

from web.loop import LoopThread


def test_what_the_loop_is_given_does_not_keep_the_request_it_came_from() -> None:
    loop, done, seen = LoopThread(), threading.Event(), []

    def look() -> None:
        seen.append(has_request_context())
        done.set()

    try:
        with Flask("here").test_request_context("/"):
            loop.call(look)
        assert done.wait(10)
    finally:
        loop.stop()
    assert seen == [False]
