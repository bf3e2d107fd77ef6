"""The agent's side: the mailbox's sidecar, the wrapper, thin hooks and a small library.

Standard library only, Python 3.9 or later; speaks HTTP to the server (docs/wire.md).
"""

__version__ = "1"
