import stat
import tomllib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from chat.errors import Invalid
from chat.settings import Settings, load_settings


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"STATE_DIR": str(tmp_path)}


def test_an_empty_environment_is_enough(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)

    settings = load_settings({})

    assert settings.state_dir == tmp_path / ".omakase"
    assert settings.sqlite_path == tmp_path / ".omakase" / "omakase.db"
    assert settings.broker_url == settings.redis_url
    assert settings.public_url == "http://127.0.0.1:8000"
    assert settings.agent_url == settings.public_url
    assert settings.allowed_origins == ("http://localhost:8000", "http://127.0.0.1:8000")
    assert settings.local_sign_in
    assert settings.dynamodb is None


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ({}, "http://127.0.0.1:5555"),
        ({"FLOWER_PORT": "7000"}, "http://127.0.0.1:7000"),
        ({"PUBLIC_URL": "https://omakase.example"}, None),
        (
            {"PUBLIC_URL": "https://o.example", "FLOWER_URL": "https://f.example/"},
            "https://f.example",
        ),
    ],
)
def test_flower_is_where_people_can_reach_it_or_nowhere(
    environ: dict[str, str], given: dict[str, str], url: str | None
):
    assert load_settings(environ | given).flower_url == url


def test_an_empty_variable_counts_as_not_set(environ: dict[str, str]):
    assert load_settings(environ | {"PORT": " ", "AGENT": ""}).port == 8000


def test_settings_cannot_be_changed(settings: Settings):
    with pytest.raises(ValueError, match="frozen"):
        settings.port = 1  # type: ignore[misc]


def test_what_is_not_ours_is_not_read(environ: dict[str, str]):
    assert load_settings(environ | {"PATH": "/bin", "WHATEVER": "1"}).port == 8000


@pytest.mark.parametrize(
    ("name", "value", "takes"),
    [
        ("PORT", "x", "PORT takes a whole number, not 'x'."),
        ("PORT", "70000", "PORT takes a whole number of at most 65535, not '70000'."),
        ("LEASE_MS", "0", "LEASE_MS takes a whole number of at least 100, not '0'."),
        ("HOLD_AFTER_S", "soon", "HOLD_AFTER_S takes"),
        ("PRICE_VCPU_HOUR", "-1", "PRICE_VCPU_HOUR takes"),
        ("RUNTIME", "k8s", "RUNTIME takes 'local' or 'ecs', not 'k8s'."),
        ("AGENT", "gpt", "AGENT takes 'demo', 'claude' or 'none', not 'gpt'."),
        ("DATABASE", "postgres://x/y", "DATABASE takes sqlite:///PATH or dynamodb://"),
        ("DATABASE", "dynamodb://?prefx=a", "DATABASE takes sqlite:///PATH or dynamodb://"),
        ("REDIS_URL", "http://x", "REDIS_URL takes redis://HOST:PORT/0"),
        ("PUBLIC_URL", "omakase.example", "PUBLIC_URL takes http(s)://HOST[:PORT]"),
        ("ALLOWED_ORIGINS", "*", "ALLOWED_ORIGINS takes exact origins"),
        ("ALLOWED_ORIGINS", "https://a.example/", "ALLOWED_ORIGINS takes exact origins"),
        ("LOCAL_SIGN_IN", "yes", "LOCAL_SIGN_IN takes auto, on or off."),
        ("LOCAL_SIGN_IN_FROM", "here", "LOCAL_SIGN_IN_FROM takes networks"),
        ("LOG_LEVEL", "loud", "LOG_LEVEL takes 'DEBUG', 'INFO', 'WARNING' or 'ERROR', not 'LOUD'."),
        (
            "AGENTS_FILE",
            "/nowhere/agents.toml",
            "AGENTS_FILE takes a file like chat/agents.toml (agents.toml cannot be read: ",
        ),
        (
            "AGENTS_FILE",
            __file__,
            "AGENTS_FILE takes a file like chat/agents.toml (test_settings.py: ",
        ),
        ("TEXT_MAX", "99999999", "TEXT_MAX takes a whole number of at most 32768"),
    ],
)
def test_a_bad_value_gives_one_line_with_its_name_and_what_it_takes(
    environ: dict[str, str], name: str, value: str, takes: str
):
    with pytest.raises(Invalid) as refusal:
        load_settings(environ | {name: value})

    assert refusal.value.detail.startswith(takes)
    assert "\n" not in refusal.value.detail
    assert list(Path(environ["STATE_DIR"]).iterdir()) == []


def test_a_short_secret_is_refused_without_being_shown(environ: dict[str, str]):
    with pytest.raises(Invalid, match="SECRET_KEY takes at least 32 characters") as refusal:
        load_settings(environ | {"SECRET_KEY": "hunter2"})

    assert "hunter2" not in refusal.value.detail


def test_the_secret_is_never_in_a_printed_settings(settings: Settings):
    assert settings.secret_key not in repr(settings)


def test_the_secret_is_made_once_and_only_its_owner_reads_it(environ: dict[str, str]):
    with ThreadPoolExecutor(8) as pool:
        secrets = {
            settings.secret_key
            for settings in pool.map(lambda _: load_settings(environ), range(32))
        }

    path = Path(environ["STATE_DIR"]) / "secret"
    assert secrets == {path.read_text()}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(Path(environ["STATE_DIR"]).iterdir()) == [path]


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),  # noqa: S104
        ("10.0.0.7", False),
        ("omakase.example", False),
        ("localhost.evil.example", False),
    ],
)
def test_local_sign_in_is_on_by_itself_only_on_loopback(
    make_settings: Callable[..., Settings], host: str, allowed: bool
):
    assert make_settings(HOST=host).local_sign_in is allowed


def test_local_sign_in_beyond_loopback_must_say_for_whom(make_settings: Callable[..., Settings]):
    with pytest.raises(Invalid, match="LOCAL_SIGN_IN_FROM"):
        make_settings(HOST="0.0.0.0", LOCAL_SIGN_IN="on")  # noqa: S104

    settings = make_settings(
        HOST="0.0.0.0",  # noqa: S104
        LOCAL_SIGN_IN="on",
        LOCAL_SIGN_IN_FROM="172.30.55.1/32",
    )

    assert settings.local_sign_in
    assert settings.local_sign_in_from == ("172.30.55.1/32",)


def test_dynamodb_takes_prefix_endpoint_and_region(make_settings: Callable[..., Settings]):
    settings = make_settings(
        DATABASE="dynamodb://?prefix=dev-&endpoint=http://127.0.0.1:8001&region=eu-central-1"
    )

    assert settings.sqlite_path is None
    assert settings.dynamodb is not None
    assert settings.dynamodb.model_dump() == {
        "prefix": "dev-",
        "endpoint": "http://127.0.0.1:8001",
        "region": "eu-central-1",
    }


def test_idle_agents_go_on_hold_by_themselves_only_where_they_cost_something(
    make_settings: Callable[..., Settings],
):
    assert make_settings().hold_after_s == 0
    assert make_settings(RUNTIME="ecs").hold_after_s == 3_600
    assert make_settings(RUNTIME="ecs", HOLD_AFTER_S="0").hold_after_s == 0
    assert make_settings(HOLD_AFTER_S="60").hold_after_s == 60


def test_the_prices_that_are_shown_are_those_that_the_months_costs_are_made_of(settings: Settings):
    text = (Path(__file__).parents[2] / "infra" / "prices.toml").read_text()
    prices = tomllib.loads(text)["prices"]

    assert settings.price_vcpu_hour == prices["fargate_vcpu_hour"]
    assert settings.price_gib_hour == prices["fargate_gb_hour"]


def test_sqlite_paths_may_be_relative_or_absolute(make_settings: Callable[..., Settings]):
    assert make_settings(DATABASE="sqlite:///a/b.db").sqlite_path == Path("a/b.db")
    assert make_settings(DATABASE="sqlite:////a/b.db").sqlite_path == Path("/a/b.db")


def test_a_state_folder_that_cannot_be_made_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(Invalid, match="STATE_DIR takes a folder"):
        load_settings({"STATE_DIR": str(tmp_path / "file" / "state")})
