"""moto as a server, in a process of its own: `python tests/moto_process.py` prints its port, and ends with stdin.

moto's server asks for flask-cors, which is for pages that call AWS from a browser: nobody does that here, so
it gets an empty one.
"""

from __future__ import annotations

import sys
import types
import warnings


def main() -> None:
    """Serve until stdin ends."""
    cors = types.ModuleType("flask_cors")
    cors.CORS = lambda app: app  # type: ignore[attr-defined]  # a module made on the spot
    sys.modules["flask_cors"] = cors
    with warnings.catch_warnings(action="ignore"):
        from moto.server import ThreadedMotoServer  # noqa: PLC0415 - after what it asks for

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    print(server.get_host_and_port()[1], flush=True)  # noqa: T201 - whoever started it reads it
    sys.stdin.read()
    server.stop()


if __name__ == "__main__":
    main()
