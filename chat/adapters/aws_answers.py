"""An answer of AWS that broke off on its way, whole for HTTP and not for JSON.

botocore reads such a body as an empty answer (`parsers._parse_body_as_json`): a task that was started would
be one that was not, and a row that is there one that is not. Here it is no answer at all, and the caller
asks again. Costs one more reading of the JSON, by orjson.
"""

from __future__ import annotations

from typing import Any, Final

import orjson
from botocore.exceptions import HTTPClientError

_SERVER_ERROR: Final = 500
"""From here on the status says all there is to know."""
_CODE: Final = "x-amzn-errortype"


class HalfAnswer(HTTPClientError):
    """The body is not the JSON that the operation answers with."""

    fmt = "The answer to {operation} broke off after {size} bytes"


def whole_answers(client: Any) -> Any:
    """The client, which from now on raises HalfAnswer. For services that speak JSON."""
    client.meta.events.register("before-parse", _check, unique_id="whole-answers")
    return client


def _check(operation_model: Any, response_dict: Any, **_: Any) -> None:
    status, body = response_dict["status_code"], response_dict["body"]
    if status >= _SERVER_ERROR or (not body and _CODE in response_dict["headers"]):
        return
    try:
        whole = isinstance(orjson.loads(body), dict)
    except orjson.JSONDecodeError:
        whole = False
    if not whole:
        raise HalfAnswer(operation=operation_model.name, size=len(body), error="no JSON")
