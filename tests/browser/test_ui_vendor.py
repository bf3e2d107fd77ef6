"""What is vendored is what VENDOR.md says."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

VENDOR = Path(__file__).resolve().parents[2] / "web" / "static" / "vendor"


def test_every_vendored_file_has_the_hash_that_is_written_down() -> None:
    rows = re.findall(
        r"^\| (\S+\.(?:js|css)) \| (\d+) \| ([0-9a-f]{64}) \|$",
        (VENDOR / "VENDOR.md").read_text(),
        re.MULTILINE,
    )
    written = {name: digest for name, _, digest in rows}
    found = {
        str(path.relative_to(VENDOR)): hashlib.sha256(path.read_bytes()).hexdigest()
        for kind in ("*.js", "*.css")
        for path in VENDOR.rglob(kind)
    }
    assert found == written
    assert len(found) >= 20
