"""Build build/agent-hooks.pyz from agent_hooks/: the same bytes from the same sources, anywhere.

python scripts/build_pyz.py [TARGET]
"""

from __future__ import annotations

import hashlib
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHEBANG = b"#!/usr/bin/env python3\n"
MAIN = b"""\
import sys
from agent_hooks.__main__ import main
if __name__ == "__main__":
    sys.exit(main())
"""
EPOCH = (1980, 1, 1, 0, 0, 0)
"""The oldest time a zip can hold: when a file was touched says nothing about what is in it."""


def build(target: Path) -> str:
    """Write the zipapp; the sha256 of it, hex."""
    sources = sorted((ROOT / "agent_hooks").glob("**/*.py"))
    entries = [("__main__.py", MAIN)]
    entries += [(path.relative_to(ROOT).as_posix(), path.read_bytes()) for path in sources]
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(target.name + ".new")
    with fresh.open("wb") as file:
        file.write(SHEBANG)
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for name, data in entries:
                info = zipfile.ZipInfo(name, EPOCH)
                info.compress_type = zipfile.ZIP_DEFLATED
                info.create_system = 3
                info.external_attr = 0o644 << 16
                archive.writestr(info, data)
    fresh.chmod(0o755)
    fresh.replace(target)
    return hashlib.sha256(target.read_bytes()).hexdigest()


if __name__ == "__main__":
    place = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "agent-hooks.pyz"
    print(f"{build(place)}  {place}")
