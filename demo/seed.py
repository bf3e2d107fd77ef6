"""`python -m demo.seed [--again]`: the tea shop's project, its repository, and four agents at work on it.

Talks to a running server over its API, like a person at this machine. Made twice, it changes nothing:
agents whose last run has ended begin anew only with `--again`. OMAKASE_URL says where the server is.
Exit codes: 0 all is there, 1 the server or git said no.
"""

from __future__ import annotations

import argparse
import hashlib
import http.cookiejar
import json
import os
import shutil
import sys
import urllib.error
import urllib.request
from typing import Any, Final

from chat.errors import Invalid
from chat.settings import Settings, load_settings
from demo.workshop import TEMPLATE, GitFailed, create_repository

PROJECT: Final = "Tea shop"
FEATURE: Final = "Shopping Cart"
ABOUT: Final = (
    "A small shop in Python with a failing test suite. Nori fixes it, Toro adds tests, Koji reviews, "
    "Miso keeps the plan. Talk with any of them."
)
PERSON: Final = "Demo"
ENDED: Final = frozenset({"completed", "failed", "stopped"})
TIMEOUT_S = 20.0


class ApiRefused(RuntimeError):
    """What the server said."""


class Api:
    """The server's API, as a person at this machine uses it."""

    def __init__(self, address: str) -> None:
        self._address = address.rstrip("/")
        cookies = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), cookies)

    def get(self, path: str) -> Any:
        """The JSON there. Raises ApiRefused."""
        return self._call("GET", path, None, None)

    def post(self, path: str, body: dict[str, Any], *, key: str | None = None) -> Any:
        """The JSON of what was made. Raises ApiRefused."""
        return self._call("POST", path, body, key)

    def _call(self, method: str, path: str, body: dict[str, Any] | None, key: str | None) -> Any:
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if key is not None:
            headers["Idempotency-Key"] = key
        request = urllib.request.Request(  # noqa: S310 - the address is the operator's own
            self._address + path,
            data=None if body is None else json.dumps(body).encode(),
            headers=headers,
            method=method,
        )
        try:
            with self._opener.open(request, timeout=TIMEOUT_S) as answer:
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            with error:
                raise ApiRefused(f"{method} {path}: {error.code} {_detail(error)}") from error
        except (OSError, ValueError) as error:
            raise ApiRefused(f"{method} {path}: {error}") from error


def _detail(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.loads(error.read()).get("detail", ""))
    except (OSError, ValueError, AttributeError):
        return ""


def feature_of(api: Api, installation: str) -> dict[str, Any]:
    """The demo's feature, made with its project when they are missing.

    Ids follow from the Idempotency-Key: `installation` keeps those of two installations apart.
    """
    projects = api.get("/api/projects")["projects"]
    project = next((one for one in projects if one["name"] == PROJECT), None)
    if project is None:
        project = api.post("/api/projects", {"name": PROJECT}, key=f"demo-project-{installation}")
    path = f"/api/projects/{project['id']}/features"
    features = api.get(path)["features"]
    feature = next((one for one in features if one["name"] == FEATURE), None)
    if feature is None:
        body = {"name": FEATURE, "description": ABOUT}
        feature = api.post(path, body, key=f"demo-feature-{project['id']}")
    return dict(feature)


def start_agents(api: Api, feature_id: str, *, again: bool) -> tuple[list[str], list[str]]:
    """Start those that were never started, with `again` also those whose run has ended.

    Returns the names of the started, and of those who had ended and were left so.
    """
    runs = api.get(f"/api/agent-runs?feature_id={feature_id}")["runs"]
    started, ended = [], []
    for agent in api.get("/api/agents")["agents"]:
        own = [run for run in runs if run["agent_id"] == agent["id"]]
        if any(run["status"] not in ENDED for run in own):
            continue
        if own and not again:
            ended.append(agent["name"])
            continue
        body = {"feature_id": feature_id, "agent_id": agent["id"], "start": "launch"}
        # the same number of earlier runs gives the same key: two seeds at once start one run
        api.post("/api/agent-runs", body, key=f"demo-{feature_id}-{agent['id']}-{len(own)}")
        started.append(agent["name"])
    return started, ended


def seed(settings: Settings, address: str, *, again: bool) -> str:
    """Set everything up; what to tell the person at the terminal. Raises ApiRefused, GitFailed."""
    api = Api(address)
    api.post("/api/session", {"name": PERSON})
    installation = hashlib.sha256(f"demo {settings.secret_key}".encode()).hexdigest()[:16]
    feature = feature_of(api, installation)
    repo = settings.state_dir / "repos" / feature["id"]
    made = create_repository(repo, TEMPLATE)
    started, ended = start_agents(api, feature["id"], again=again)
    lines = [f"{'made' if made else 'found'} the repository {repo}"]
    if settings.agent == "claude" and shutil.which("claude") is None:
        lines.append("AGENT=claude, but there is no `claude` on the path: its runs will fail")
    if started:
        lines.append(f"{', '.join(started)} begin: talk with them on the page")
    if ended:
        lines.append(
            f"{', '.join(ended)} had ended last time: start them on the page, "
            "or all of them with: .venv/bin/python -m demo.seed --again"
        )
    if not started and not ended:
        lines.append("all four are still at work")
    return "\n".join(lines)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="demo.seed", description=__doc__)
    parser.add_argument("--again", action="store_true", help="also agents whose run has ended")
    given = parser.parse_args()
    if shutil.which("git") is None:
        print("The demo needs git: install it, then run `python -m demo.seed`.", file=sys.stderr)
        return 1
    try:
        settings = load_settings(os.environ)
        address = os.environ.get("OMAKASE_URL") or settings.public_url
        print(seed(settings, address, again=given.again), flush=True)
    except (ApiRefused, GitFailed, Invalid) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
