"""Celery workers: store, forward, sweep, launch, watch. A task is a few lines that call the service."""
