"""The web process that these tests talk to."""

from tests.serving import anna, attached, own_server, server, web_redis

__all__ = ["anna", "attached", "own_server", "server", "web_redis"]
