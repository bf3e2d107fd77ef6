"""Serve the story on a port of your choice (default 8899) until interrupted."""

from __future__ import annotations

import sys

from .kitchen import Kitchen
from .server import UiServer
from .story import serve

kitchen = Kitchen()
serve(kitchen)
with UiServer(kitchen, int(sys.argv[1]) if len(sys.argv) > 1 else 8899) as server:
    print(server.url, flush=True)
    server.thread.join()
