"""The command line of agent-hooks.pyz. Errors: one line on stderr, and an exit code.

0  done; for `ask`: answered          1  it failed
2  wrong arguments or environment     3  `ask`: still open; `finish`: something is unread
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import List, Optional

from agent_hooks.errors import HooksError, Misused

DONE, FAILED, WRONG, OPEN = 0, 1, 2, 3


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="agent-hooks", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)

    register = commands.add_parser("register", help="join a run that you start by hand")
    register.add_argument("--server", required=True)
    register.add_argument("--feature", help="its name; made when missing")
    register.add_argument("--feature-id")
    register.add_argument("--project", help="its name; made when missing")
    register.add_argument("--agent", required=True, help="miso, nori, koji or toro")
    register.add_argument("--credential", default="", help="not needed on loopback")

    install = commands.add_parser("install", help="put the hooks into an agent's settings")
    install.add_argument("adapter", choices=["claude-code"])
    install.add_argument("--settings", default=".claude/settings.json")
    install.add_argument("--state-dir", help="bind to this run, not to OMAKASE_STATE_DIR")

    run = commands.add_parser("run", help="run a command as the agent: run -- COMMAND…")
    run.add_argument(
        "--checkpoint",
        default="",
        metavar="HOOK",
        help="a shell command that keeps what the agent needs to go on, and prints the rest (32 KB)",
    )
    run.add_argument("rest", nargs=argparse.REMAINDER)

    sidecar = commands.add_parser("sidecar", help="the process beside the agent")
    sidecar.add_argument("--state-dir", required=True)
    sidecar.add_argument("--watch-pid", type=int)
    sidecar.add_argument("--detach", action="store_true")

    hook = commands.add_parser(
        "hook", help="answer a hook (the settings call hook.py, it is faster)"
    )
    hook.add_argument("adapter", choices=["claude-code"])

    say = commands.add_parser("say", help="a message to the people")
    say.add_argument("text", nargs="?", help="else from stdin")
    say.add_argument("--stream", action="store_true", help="send stdin as it comes")
    say.add_argument("--reply-to")

    ask = commands.add_parser("ask", help="a question; prints the answer as JSON")
    ask.add_argument("--handle", required=True, help="the same handle finds the same question")
    ask.add_argument("--text", required=True)
    ask.add_argument("--option", action="append", default=[], metavar="value=label")
    ask.add_argument("--no-text", action="store_true", help="only the options")
    wait = ask.add_mutually_exclusive_group()
    wait.add_argument("--wait", type=float, metavar="S", help="at most so many seconds")
    wait.add_argument("--no-wait", action="store_true")

    commands.add_parser("status", help="the run and the connection, as JSON")
    commands.add_parser("look", help="fetch mail now (what a nudge from outside calls)")
    commands.add_parser("mailbox", help="what waits for the agent, as JSON lines")

    finish = commands.add_parser("finish", help="end the run")
    finish.add_argument("--summary")
    finish.add_argument(
        "--outcome", choices=["completed", "failed", "stopped"], default="completed"
    )
    finish.add_argument(
        "--verdict",
        choices=["approved", "changes_requested"],
        help="a reviewer's; changes_requested sends the work back",
    )
    return parser


def main(arguments: Optional[List[str]] = None) -> int:
    given = _parser().parse_args(arguments)
    if given.command == "hook":
        return _hook()
    try:
        return int(globals()[f"_{given.command}"](given))
    except Misused as error:
        print(f"agent-hooks: {error}", file=sys.stderr)
        return WRONG
    except (HooksError, OSError) as error:
        print(f"agent-hooks: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return 130


def _register(given: argparse.Namespace) -> int:
    import shlex

    from agent_hooks.register import register
    from agent_hooks.state import program

    if not given.feature and not given.feature_id:
        raise Misused("--feature or --feature-id is needed.")
    state = register(
        given.server,
        agent_id=given.agent,
        feature=given.feature,
        project=given.project,
        feature_id=given.feature_id,
        credential=given.credential,
    )
    config = state.config()
    me = " ".join(shlex.quote(part) for part in program())
    for name, value in (
        ("OMAKASE_SERVER", config.server),
        ("OMAKASE_RUN_ID", config.run_id),
        ("OMAKASE_STATE_DIR", str(state.path)),
    ):
        print(f"export {name}={shlex.quote(value)}")
    print(
        "# Claude Code, in the folder it works in (settings are merged into .claude/settings.json):"
    )
    print(f"#   {me} install claude-code && claude")
    print("# any other command:")
    print(f"#   {me} run -- COMMAND")
    return DONE


def _install(given: argparse.Namespace) -> int:
    from agent_hooks.install import install
    from agent_hooks.state import home

    bound = Path(given.state_dir).absolute() if given.state_dir else None
    path = install(Path(given.settings).absolute(), home().absolute(), bound)
    print(f"Hooks are in {path}")
    return DONE


def _run(given: argparse.Namespace) -> int:
    from agent_hooks.run import main as run

    command = given.rest[1:] if given.rest[:1] == ["--"] else given.rest
    if not command:
        raise Misused("run -- COMMAND: there is no command.")
    return run(command, checkpoint=given.checkpoint)


def _sidecar(given: argparse.Namespace) -> int:
    from agent_hooks.sidecar import main as sidecar

    return sidecar(Path(given.state_dir), watch_pid=given.watch_pid, detach=given.detach)


def _hook() -> int:
    """Never a broken agent: whatever happens, 0 and silence."""
    from agent_hooks.hook_script import script

    try:
        code = compile(script(), "hook.py", "exec")
        sys.argv = ["hook.py", *sys.argv[3:]]
        exec(code, {"__name__": "__main__"})  # noqa: S102 - the same text as the file's
    except Exception:
        return DONE
    return DONE


def _say(given: argparse.Namespace) -> int:
    from agent_hooks.loop import Agent

    agent = Agent.join()
    if given.stream:
        import codecs

        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        with agent.stream(reply_to=given.reply_to) as out:
            while True:
                data = os.read(0, 65_536)
                out.write(decoder.decode(data, not data))
                if not data:
                    return DONE
    text = sys.stdin.read() if given.text is None else given.text
    if not text.strip():
        raise Misused("There is nothing to say.")
    agent.say(text, reply_to=given.reply_to)
    return DONE


def _ask(given: argparse.Namespace) -> int:
    from agent_hooks.loop import Agent

    options = []
    for option in given.option:
        value, _, label = option.partition("=")
        options.append({"value": value, "label": label or value})
    answer = Agent.join().ask(
        given.handle,
        given.text,
        options=options,
        allow_text=not given.no_text,
        wait_s=0.0 if given.no_wait else given.wait,
    )
    if answer is None:
        print(json.dumps({"outcome": "open", "handle": given.handle}))
        return OPEN
    print(json.dumps(vars(answer), ensure_ascii=False))
    return DONE


def _status(_: argparse.Namespace) -> int:
    from agent_hooks import local
    from agent_hooks.state import StateDir

    answer = local.call(StateDir.from_environ(), "status")
    answer.pop("ok")
    print(json.dumps(answer, indent=2))
    return DONE


def _look(_: argparse.Namespace) -> int:
    """Only asks the sidecar that is there: who comes in by ECS Exec is another user, may not be able to open
    the run's folder, and must make none that the agent cannot write to."""
    from agent_hooks import local, looking
    from agent_hooks.state import StateDir

    server, run_id = os.environ.get("OMAKASE_SERVER"), os.environ.get("OMAKASE_RUN_ID")
    if not looking.EXISTS:
        local.call(StateDir.from_environ(), "look")
    elif server and run_id:
        looking.ask(server, run_id)
    else:
        config = StateDir.from_environ().config()
        looking.ask(config.server, config.run_id)
    print("omakase: looking")
    return DONE


def _mailbox(_: argparse.Namespace) -> int:
    from agent_hooks import local
    from agent_hooks.state import StateDir

    for item in local.call(StateDir.from_environ(), "mailbox")["items"]:
        print(json.dumps(item["event"], ensure_ascii=False))
    return DONE


def _finish(given: argparse.Namespace) -> int:
    from agent_hooks.loop import Agent

    agent = Agent.join()
    unread = agent.finish(given.summary, outcome=given.outcome, verdict=given.verdict)
    for mail in unread:
        print(json.dumps({"id": mail.id, "from": mail.author, "text": mail.text}))
    if unread:
        agent.close()  # shown, but nobody has acted on it: it is offered again
        print(f"agent-hooks: {len(unread)} unread, the run goes on.", file=sys.stderr)
    return OPEN if unread else DONE


if __name__ == "__main__":
    sys.exit(main())
