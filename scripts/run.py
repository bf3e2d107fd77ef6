"""`make run`: everything, on this machine, until Ctrl-C.

Starts Redis (unless REDIS_URL names one) and the Procfile's processes, waits until the page answers,
says where it is, and sets up the demo. What has been said is kept in STATE_DIR: a second `make run`
finds all of it again. Exit code 2: something must be changed first, and the one line says what.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from supervisor import TIED, Supervisor, services_of, spawn  # noqa: E402

from chat.adapters import embedded_redis  # noqa: E402
from chat.adapters.local_runtime import living  # noqa: E402
from chat.errors import ChatError, Invalid  # noqa: E402
from chat.settings import Settings, is_loopback, load_settings  # noqa: E402

REDIS_PORT = 6390
"""Preferred, so that redis-cli finds it; another when it is taken."""
READY_WITHIN_S = 90.0
WEB_ALONE_S = 15.0
"""Importing is what a start costs: the page gets the processor first, Celery follows."""
COLOURS = {"web": 36, "worker": 32, "beat": 34, "flower": 35, "redis": 31, "demo": 33}


class Terminal:
    """Writes whole lines, each behind the name of who said it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._colours = stream.isatty()

    def __call__(self, name: str, line: str) -> None:
        label = f"{name:<7}|"
        if self._colours:
            label = f"\x1b[{COLOURS.get(name, 0)}m{label}\x1b[0m"
        self.say(f"{label} {line}")

    def say(self, line: str) -> None:
        with self._lock:
            print(line, file=self._stream, flush=True)


def is_free(host: str, port: int) -> bool:
    """Whether we could listen there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def hold(state_dir: Path) -> TextIO:
    """Take this installation for us alone; the system lets go when we end, however we end."""
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = (state_dir / "run.lock").open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        raise Invalid(f"Omakase is already running on {state_dir} ({file.read()}).") from error
    return file


def demand_redis(url: str) -> None:
    """Raises Invalid when nothing answers there."""
    import redis  # noqa: PLC0415 - only where a Redis of one's own is named

    try:
        with redis.Redis.from_url(url, socket_connect_timeout=5, socket_timeout=5) as client:
            client.ping()
    except redis.RedisError as error:
        raise Invalid(
            f"REDIS_URL cannot be used ({error}): start that Redis, or unset REDIS_URL to have one "
            "started for you."
        ) from error


def prepared(environ: Mapping[str, str]) -> tuple[dict[str, str], Settings, int | None]:
    """The children's environment, the settings, and the port of the Redis that we start, if we do."""
    env = dict(environ)
    redis_port = None
    if not env.get("REDIS_URL"):
        redis_port = embedded_redis.free_port(REDIS_PORT)
        env["REDIS_URL"] = f"redis://{embedded_redis.HOST}:{redis_port}/0"
    settings = load_settings(env)
    if redis_port is None:
        demand_redis(settings.redis_url)
    if not is_free(settings.host, settings.port):
        raise Invalid(
            f"Port {settings.port} is taken by another program: stop that, "
            f"or take another port with 'make run PORT={settings.port + 1}'."
        )
    if not is_free("127.0.0.1", settings.flower_port):
        if env.get("FLOWER_PORT"):
            raise Invalid(f"FLOWER_PORT={settings.flower_port} is taken: choose another.")
        env["FLOWER_PORT"] = str(embedded_redis.free_port())
        settings = load_settings(env)
    env |= {
        "STATE_DIR": str(settings.state_dir),
        "HOST": settings.host,
        "PORT": str(settings.port),
        "FLOWER_PORT": str(settings.flower_port),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{env.get('PATH', os.defpath)}",
        "PYTHONUNBUFFERED": "1",
    }
    return env, settings, redis_port


def local_address(settings: Settings) -> str:
    """Where this machine itself reaches the web."""
    host = settings.host if is_loopback(settings.host) else "127.0.0.1"
    return f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"


def is_ready(address: str) -> bool:
    """Whether /readyz answers 200."""
    try:
        with urllib.request.urlopen(f"{address}/readyz", timeout=2) as answer:  # noqa: S310 - ours
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def build_agent_hooks() -> None:
    """Pack agent_hooks into the one file that agents fetch."""
    script = ROOT / "scripts" / "build_pyz.py"
    if script.exists():
        subprocess.run([sys.executable, str(script)], check=True, stdout=subprocess.DEVNULL)


def seed(env: Mapping[str, str], address: str, terminal: Terminal) -> None:
    """Make the demo's repository and let the four agents begin. Made twice, it changes nothing."""
    if not (ROOT / "demo" / "seed.py").exists():
        return
    process = subprocess.Popen(
        [*TIED, sys.executable, "-m", "demo.seed"],
        env={**env, "OMAKASE_URL": address},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdout is not None  # noqa: S101 - asked for above
    with process.stdout as lines:
        for line in lines:
            terminal("demo", line.decode(errors="replace").rstrip())
    if code := process.wait():
        terminal("demo", f"the demo could not be set up (code {code}); everything else runs")


def greet(
    env: Mapping[str, str],
    settings: Settings,
    supervisor: Supervisor,
    began: float,
    ready: threading.Event,
) -> None:
    """Wait for the page, say where it is, set up the demo."""
    terminal = Terminal(sys.stdout)
    address = local_address(settings)
    warned = False
    while not is_ready(address):
        if supervisor.stopping.wait(0.05):
            return
        if not warned and time.monotonic() - began > READY_WITHIN_S:
            warned = True
            terminal.say(
                f"The page does not answer after {READY_WITHIN_S:g} s: see the lines above."
            )
    ready.set()
    took_s = time.monotonic() - began
    terminal.say(
        f"\n  Omakase is at {settings.public_url} · Celery's work at "
        f"http://127.0.0.1:{settings.flower_port} · ready in {took_s:.1f} s · Ctrl-C stops it\n"
    )
    if settings.agent != "none":
        seed(env, address, terminal)


def main() -> int:
    began = time.monotonic()
    os.chdir(ROOT)
    try:
        with hold(load_settings(os.environ).state_dir) as lock:
            env, settings, redis_port = prepared(os.environ)
            lock.truncate(0)
            lock.write(f"process {os.getpid()}, {settings.public_url}")
            lock.flush()
            return serve(env, settings, redis_port, began)
    except ChatError as error:
        print(error.detail, file=sys.stderr)
        return 2


def start_redis(supervisor: Supervisor, folder: Path, port: int) -> str:
    """Start our Redis and have it kept running; its URL. Another `make run` may have taken the port since
    it was found free: then it gets another one."""
    first = embedded_redis.start(folder, port, otherwise_any=True, before=TIED)
    started = iter([first.process])
    supervisor.add(
        "redis",
        lambda: next(started, None) or embedded_redis.spawn(folder, first.port, before=TIED),
    )
    return first.url


def serve(env: dict[str, str], settings: Settings, redis_port: int | None, began: float) -> int:
    """Run until a signal says stop, which is how it ends well: 0."""
    build_agent_hooks()
    terminal = Terminal(sys.stdout)
    supervisor = Supervisor(terminal, adopted=lambda: living(settings.state_dir / "runs"))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: supervisor.stopping.set())

    if redis_port is not None:
        env["REDIS_URL"] = start_redis(supervisor, settings.state_dir / "redis", redis_port)
    (first, command), *others = services_of(ROOT / "Procfile").items()
    supervisor.add(first, lambda: spawn(command, env))
    ready = threading.Event()
    threading.Thread(
        target=greet, args=(env, settings, supervisor, began, ready), daemon=True
    ).start()
    while not (supervisor.stopping.is_set() or ready.wait(0.1)):
        supervisor.look()
        if time.monotonic() > began + WEB_ALONE_S:
            break
    for name, line in [] if supervisor.stopping.is_set() else others:
        supervisor.add(name, lambda line=line: spawn(line, env))  # type: ignore[misc]
    supervisor.run()
    terminal.say("Stopped. What was said is kept in " + str(settings.state_dir))
    return 0


if __name__ == "__main__":
    sys.exit(main())
