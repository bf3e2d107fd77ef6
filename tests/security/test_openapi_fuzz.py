"""Bad input at every door of the API: whatever fits or breaks the description, never a 5xx."""

from __future__ import annotations

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from openapi_spec_validator import validate
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, status_code_conformance

from tests.serving import Api, Attached, Server, attach
from web.endpoint import OPERATIONS

EXAMPLES = 12
_SKIPPED = {"streams_stream"}  # never ends; tests/integration/web/test_streams.py reads it


def test_the_description_is_valid_openapi(server: Server):
    document = Api(server.port).get("/api/openapi.json").json
    validate(document)
    assert document["openapi"].startswith("3.1")
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation["summary"], (method, path)
            assert "429" in operation["responses"], (method, path)


def _credentials(run: Attached, who: str) -> dict[str, str]:
    return run.agent.headers if who == "agent" else run.person.headers


@pytest.mark.parametrize(
    "operation",
    [one for one in OPERATIONS if one.name not in _SKIPPED],
    ids=lambda one: f"{one.method} {one.path}",
)
def test_no_input_makes_a_server_error(server: Server, operation):
    document = Api(server.port).get("/api/openapi.json").json
    run = attach(server)
    asked = run.agent.post(run.path("/questions"), {"handle": "h", "text": "?"})
    schema = schemathesis.openapi.from_dict(document)
    card = run.person.get(run.path()).json["run"]
    names = {
        "run_id": run.id,
        "project_id": card["project_id"],
        "feature_id": card["feature_id"],
        "question_id": asked.json["event"]["id"],
        "message_id": run.say("first").json["event"]["id"],
    }
    named = [part for part in names if f"{{{part}}}" in operation.path]
    described = schema[operation.path][operation.method]
    strategies = [
        described.as_strategy(generation_mode=mode)
        for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)
    ]

    @settings(
        max_examples=EXAMPLES, database=None, derandomize=True,
        suppress_health_check=list(HealthCheck), phases=[Phase.generate],
    )  # fmt: skip
    @given(
        case=st.one_of(strategies),
        real=st.sampled_from([True, True, False]),
        signed_in=st.sampled_from([True] * 4 + [False]),
    )
    def sent(case, real, signed_in) -> None:
        if real:
            for part in named:
                case.path_parameters[part] = names[part]
        headers = _credentials(run, operation.who.value) if signed_in else {}
        case.headers["Prefer"] = "wait=0"
        response = case.call(
            base_url=server.origin, headers=headers, timeout=30, allow_redirects=False
        )
        case.validate_response(
            response,
            checks=[not_a_server_error, content_type_conformance, status_code_conformance],
        )

    sent()
