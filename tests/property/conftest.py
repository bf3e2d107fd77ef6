from tests.world import make_world, talk, world

__all__ = ["make_world", "talk", "world"]
