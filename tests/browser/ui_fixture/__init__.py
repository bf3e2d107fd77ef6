"""A scripted server on the level of docs/wire.md, for the dashboard's own tests."""
