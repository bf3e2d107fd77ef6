"""An agent that is killed again and again: reads its mail, confirms it, answers, and keeps a journal.

    PYTHONPATH=agent-hooks.pyz python agent.py JOURNAL REPLIES

Journal, one JSON array a line, each on the disk before the next thing is done:
["given", message id] the words were acted on · ["says", n] reply n is about to be said · ["said", n] it
is durable. A reply with `says` and no `said` may or may not be there: the kill came in between.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import IO, Any

from agent_hooks.errors import Ended, HooksError
from agent_hooks.loop import Agent, Interrupted, Stopped

END = "END"


class Journal:
    """What the agent remembers across its own death."""

    def __init__(self, path: Path) -> None:
        self.next_reply = 1
        if path.exists():
            for line in path.read_bytes().split(b"\n")[:-1]:
                what, value = json.loads(line)
                if what == "says":
                    self.next_reply = value + 1
        self._file: IO[bytes] = path.open("ab", buffering=0)

    def write(self, *entry: Any) -> None:
        """Durable when it returns."""
        self._file.write(json.dumps(entry).encode() + b"\n")
        os.fsync(self._file.fileno())


def say_next(agent: Agent, journal: Journal) -> None:
    """The next reply, by its number."""
    number = journal.next_reply
    journal.next_reply += 1
    journal.write("says", number)
    agent.say(f"reply {number}")
    journal.write("said", number)


def work(agent: Agent, journal: Journal, replies: int) -> None:
    """Read, answer, and end through the barrier once somebody says END."""
    ending = False
    while True:
        try:
            agent.wait(0.05)
        except Interrupted:
            continue
        for mail in agent.drain(task_end=ending):
            journal.write("given", mail.id)
            agent.confirm([mail.id], text=mail.text)
            ending = ending or mail.text == END
            if journal.next_reply <= replies:
                say_next(agent, journal)
        if ending:
            while journal.next_reply <= replies:
                say_next(agent, journal)
            unread = agent.finish("Everything was read.")
            if not unread:
                return
            for mail in unread:
                journal.write("given", mail.id)
                agent.confirm([mail.id], text=mail.text)


def main() -> None:
    journal = Journal(Path(sys.argv[1]))
    while True:
        try:
            with Agent.connect() as agent:
                work(agent, journal, int(sys.argv[2]))
                return
        except Stopped as stop:
            with Agent.connect() as agent:
                agent.finish(str(stop), outcome="stopped")
            return
        except Ended:
            return
        except HooksError as error:
            # its sidecar was killed, or the server is away: an agent of the real world tries again
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            time.sleep(0.2)


if __name__ == "__main__":
    main()
    signal.pause()  # the run is over; whoever started us would only start us again
