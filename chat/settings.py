"""What the operator decides: read once from the environment, then frozen.

`load_settings` is the only reader of the environment. Each field is the environment variable of the
same name in capitals; docs/settings.md says what each is for, and a test holds the two together.
"""

from __future__ import annotations

import ipaddress
import os
import re
import secrets
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, cast
from urllib.parse import parse_qs, quote, urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from chat.errors import Invalid
from chat.events import TEXT_MAX
from chat.roles import load_roles

LOOPBACK_NETWORKS = ("127.0.0.0/8", "::1/128")


def _redis(value: str) -> str:
    if urlsplit(value).scheme not in {"redis", "rediss", "unix"}:
        raise ValueError("redis://HOST:PORT/0, rediss://… or unix://…")
    return value


def _broker(value: str) -> str:
    if "://" not in value:
        raise ValueError("a broker's address as Celery takes it, such as redis://… or sqs://")
    return value


def _database(value: str) -> str:
    parts = urlsplit(value)
    options = parse_qs(parts.query, keep_blank_values=True)
    if parts.scheme == "sqlite" and not parts.netloc and len(parts.path) > 1:
        return value
    if parts.scheme == "dynamodb" and set(options) <= {"prefix", "endpoint", "region"}:
        return value
    raise ValueError("sqlite:///PATH or dynamodb://[?prefix=…&endpoint=URL&region=…]")


def _url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("http(s)://HOST[:PORT]")
    return value.rstrip("/")


def _listed(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return tuple(cast("tuple[str, ...]", value))


def _origins(value: object) -> tuple[str, ...]:
    origins = _listed(value)
    if not all(re.fullmatch(r"https?://[^/?#\s*]+", origin) for origin in origins):
        raise ValueError("exact origins with commas between them: https://HOST[:PORT],…")
    return origins


def _networks(value: object) -> tuple[str, ...]:
    networks = _listed(value)
    try:
        for network in networks:
            ipaddress.ip_network(network)
    except ValueError as error:
        raise ValueError("networks with commas between them: 127.0.0.0/8,::1/128") from error
    return networks


def _agents_file(value: Path) -> Path:
    try:
        load_roles(value)
    except Invalid as error:
        raise ValueError(f"a file like chat/agents.toml ({error.detail})") from error
    return value


def _host_and_scheme(host: str, port: int) -> str:
    shown = "localhost" if host in {"0.0.0.0", "::"} else host  # noqa: S104 - compared, never bound
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"


def is_loopback(host: str) -> bool:
    """Whether a socket bound to `host` can only be reached from this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class DynamoDb(BaseModel):
    """Where the tables are: every table's name starts with `prefix`; None is the SDK's own default."""

    model_config = ConfigDict(frozen=True)
    prefix: str = ""
    endpoint: str | None = None
    region: str | None = None


class Settings(BaseModel):
    """Everything the operator may set. Fields in the order of docs/settings.md."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # where things are
    redis_url: Annotated[str, BeforeValidator(_redis)] = "redis://127.0.0.1:6390/0"
    broker_url: Annotated[str, BeforeValidator(_broker)]
    database: Annotated[str, BeforeValidator(_database)]
    runtime: Literal["local", "ecs"] = "local"
    state_dir: Path
    watch_every_s: float = Field(ge=1, le=300)

    # agents as tasks (RUNTIME=ecs)
    ecs_cluster: str | None = None
    ecs_task_family_prefix: str = "omakase-agent-"
    ecs_subnets: Annotated[tuple[str, ...], BeforeValidator(_listed)] = ()
    ecs_security_groups: Annotated[tuple[str, ...], BeforeValidator(_listed)] = ()
    ecs_assign_public_ip: Literal["ENABLED", "DISABLED"] = "DISABLED"
    ecs_capacity_provider: str | None = None
    ecs_events_queue_url: str | None = None
    run_token_secret_prefix: str = "omakase/run-token/"  # noqa: S105 - where tokens are kept, no token
    nudge_after_s: float = Field(default=30, ge=1, le=86_400)
    exec_terminal: Literal["off", "on"] = "off"
    exec_terminal_idle_s: int = Field(default=600, ge=1, le=1_200)

    # what a paused agent costs
    hold_after_s: float = Field(ge=0, le=2_592_000)
    price_vcpu_hour: float = Field(default=0.04048, ge=0, le=1_000_000)
    price_gib_hour: float = Field(default=0.004445, ge=0, le=1_000_000)
    price_currency: str = Field(default="$", min_length=1, max_length=8)

    # how it is reached
    host: str = Field(default="127.0.0.1", min_length=1)
    port: int = Field(default=8000, ge=1, le=65_535)
    flower_port: int = Field(default=5555, ge=1, le=65_535)
    flower_url: Annotated[str, BeforeValidator(_url)] | None = None
    public_url: Annotated[str, BeforeValidator(_url)]
    agent_url: Annotated[str, BeforeValidator(_url)]
    allowed_origins: Annotated[tuple[str, ...], BeforeValidator(_origins)]
    trusted_proxies: int = Field(default=0, ge=0, le=10)
    web_workers: int = Field(default=2, ge=1, le=64)
    web_threads: int = Field(default=16, ge=1, le=256)

    # who may come in
    secret_key: str = Field(min_length=32, repr=False)
    local_sign_in: bool
    local_sign_in_from: Annotated[tuple[str, ...], BeforeValidator(_networks)] = LOOPBACK_NETWORKS

    # the mailbox
    lease_ms: int = Field(default=60_000, ge=100, le=3_600_000)
    heartbeat_stale_ms: int = Field(default=60_000, ge=100, le=3_600_000)
    long_poll_max_s: int = Field(default=30, ge=0, le=120)

    # limits
    text_max: int = Field(default=TEXT_MAX, ge=1, le=TEXT_MAX)
    frame_max_bytes: int = Field(default=65_536, ge=1_024, le=16_777_216)
    body_max_bytes: int = Field(default=1_048_576, ge=1_024, le=67_108_864)
    messages_per_minute: int = Field(default=120, ge=1, le=1_000_000)
    connections_per_principal: int = Field(default=20, ge=1, le=1_000_000)
    run_message_budget: int = Field(default=10_000, ge=1, le=100_000_000)

    # what is kept
    stream_keep: int = Field(default=1_000, ge=1, le=1_000_000)
    idempotency_ttl_s: int = Field(default=86_400, ge=1, le=2_592_000)

    # the rest
    agent: Literal["demo", "claude", "none"] = "demo"
    agents_file: Annotated[Path, AfterValidator(_agents_file)] | None = None
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @property
    def sqlite_path(self) -> Path | None:
        """The database's file, or None when it is not SQLite: sqlite:///a is relative, //// absolute."""
        parts = urlsplit(self.database)
        return Path(parts.path[1:]) if parts.scheme == "sqlite" else None

    @property
    def dynamodb(self) -> DynamoDb | None:
        """Where the tables are, or None when the store is not DynamoDB."""
        parts = urlsplit(self.database)
        if parts.scheme != "dynamodb":
            return None
        options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        return DynamoDb(**options)


def _secret(state_dir: Path) -> str:
    """The secret of this installation: made once, readable by its owner alone.

    Several processes may start at the same moment: a link is made whole or not at all, and who
    comes second reads what the first one wrote.
    """
    path = state_dir / "secret"
    if not path.exists():
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=state_dir, prefix=".secret-")  # 0600 by itself
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(48))
        try:
            os.link(temporary, path)
        except FileExistsError:
            pass
        finally:
            Path(temporary).unlink()
    return path.read_text().strip()


def _local_sign_in(values: Mapping[str, Any], host: str) -> bool:
    choice = str(values.get("local_sign_in", "auto")).lower()
    if choice == "auto":
        return is_loopback(host)
    if choice == "off":
        return False
    if choice != "on":
        raise Invalid("LOCAL_SIGN_IN takes auto, on or off.")
    if not is_loopback(host) and "local_sign_in_from" not in values:
        raise Invalid(
            f"LOCAL_SIGN_IN=on lets people in without a password, and HOST={host} can be reached "
            "from elsewhere: say in LOCAL_SIGN_IN_FROM which networks that is for."
        )
    return True


def load_settings(environ: Mapping[str, str]) -> Settings:
    """Read the settings out of an environment; an empty variable counts as one that is not set.

    Makes `STATE_DIR/secret` when SECRET_KEY is not set. Raises errors.Invalid with one line that
    names the variable and what it takes.
    """
    values: dict[str, Any] = {
        name: environ[name.upper()].strip()
        for name in Settings.model_fields
        if environ.get(name.upper(), "").strip()
    }
    host = values.get("host", "127.0.0.1")
    local_sign_in = _local_sign_in(values, host)
    state_dir = Path(values.get("state_dir", ".omakase")).absolute()
    redis_url = values.get("redis_url", Settings.model_fields["redis_url"].default)
    port = values.get("port", Settings.model_fields["port"].default)
    values.setdefault("broker_url", redis_url)
    values.setdefault("database", f"sqlite:///{quote(str(state_dir / 'omakase.db'))}")
    values.setdefault("public_url", _host_and_scheme(host, port))
    values.setdefault("agent_url", values["public_url"])
    if is_loopback(urlsplit(str(values["public_url"])).hostname or ""):
        flower_port = values.get("flower_port", Settings.model_fields["flower_port"].default)
        values.setdefault("flower_url", f"http://127.0.0.1:{flower_port}")
    # ECS answers 20 DescribeTasks a second, and says by itself what changes
    values.setdefault("watch_every_s", 15.0 if values.get("runtime") == "ecs" else 3.0)
    # a process of this machine costs nothing while it waits
    values.setdefault("hold_after_s", 3600.0 if values.get("runtime") == "ecs" else 0.0)
    values.setdefault("allowed_origins", _default_origins(values["public_url"]))
    values["local_sign_in"] = local_sign_in
    values["state_dir"] = state_dir
    if "log_level" in values:
        values["log_level"] = values["log_level"].upper()
    try:
        # checked before a secret is made: a wrong setting leaves nothing behind on the disk
        if "secret_key" not in values:
            Settings.model_validate(values | {"secret_key": "x" * 32})
            values["secret_key"] = _secret(state_dir)
        return Settings.model_validate(values)
    except ValidationError as error:
        raise Invalid(_sentence(error)) from error
    except OSError as error:
        raise Invalid(f"STATE_DIR takes a folder that can be written: {error}.") from error


def _default_origins(public_url: str) -> tuple[str, ...]:
    """The public address, and on this machine its other name, since people type either."""
    parts = urlsplit(str(public_url))
    origin = f"{parts.scheme}://{parts.netloc}"
    try:
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return (origin,)
    if parts.hostname in {"localhost", "127.0.0.1"}:
        return tuple(f"{parts.scheme}://{name}{port}" for name in ("localhost", "127.0.0.1"))
    return (origin,)


def _sentence(error: ValidationError) -> str:
    """The first fault, as one line: `PORT takes a whole number from 1 to 65535, not 'x'.`"""
    fault = error.errors(include_url=False)[0]
    name = str(fault["loc"][0]).upper()
    given = "" if name == "SECRET_KEY" else f", not {fault['input']!r}"
    takes = _TAKES.get(fault["type"], "{msg}").format(msg=fault["msg"], **fault.get("ctx", {}))
    return f"{name} takes {takes}{given}."


_TAKES = {
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "greater_than_equal": "a whole number of at least {ge}",
    "less_than_equal": "a whole number of at most {le}",
    "literal_error": "{expected}",
    "string_too_short": "at least {min_length} characters",
    "value_error": "{error}",
}
