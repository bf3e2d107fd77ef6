"""The demo: agents that follow rules instead of a model, at real work on a real git repository."""
