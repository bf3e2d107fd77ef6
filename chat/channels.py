"""Where live readers listen in Redis: one channel a run, one a project."""

from __future__ import annotations


def run_channel(run_id: str) -> str:
    """Every event of a run, and its frames that are not kept; in the run's own hash slot."""
    return f"run:{{{run_id}}}:live"


def project_channel(project_id: str) -> str:
    """Hints that a project's runs, or its features and their pipelines, have changed."""
    return f"project:{project_id}:live"
