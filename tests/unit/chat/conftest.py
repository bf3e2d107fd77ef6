from tests.ecs_world import aws, ecs, make_ecs
from tests.world import make_world, talk, world

__all__ = ["aws", "ecs", "make_ecs", "make_world", "talk", "world"]
