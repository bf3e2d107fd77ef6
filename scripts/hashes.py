"""Whether what others made is what we chose: pinned and hashed requirements, vendored files.

Exit code 1, one line for each fault.
"""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENDOR = ROOT / "web" / "static" / "vendor"
PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+(?:\[[^\]]+\])?)==(?P<version>\S+)")
VENDORED = re.compile(r"^\| (?P<path>\S+) \| \d+ \| (?P<digest>[0-9a-f]{64}) \|$", re.MULTILINE)


def pins(path: Path) -> tuple[dict[str, str], list[str]]:
    """The versions a requirements file pins, and its faults."""
    versions: dict[str, str] = {}
    faults: list[str] = []
    for line in path.read_text().replace("\\\n", " ").splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        pin = PIN.match(line)
        if pin is None or "--hash=sha256:" not in line:
            faults.append(
                f"{path.name}: not pinned with a hash: {line.split(' --hash')[0].strip()}"
            )
        else:
            versions[pin["name"].lower()] = pin["version"]
    return versions, faults


def requirement_faults(root: Path) -> list[str]:
    """Faults of the requirements: no hash, or another version in tests than in production."""
    runtime, faults = pins(root / "requirements.txt")
    development, more = pins(root / "requirements-dev.txt")
    _, installer = pins(root / "scripts" / "uv.txt")
    faults += more + installer
    faults += [
        f"requirements-dev.txt: {name} is {development.get(name)}, production has {version}"
        for name, version in runtime.items()
        if development.get(name) != version
    ]
    for source, locked in (("requirements.in", runtime), ("requirements-dev.in", development)):
        for line in (root / source).read_text().splitlines():
            wanted, _, why = line.partition("#")
            name = re.split(r"[\[=<>~! ]", wanted.strip())[0]
            if not name or name.startswith("-"):
                continue
            if not why.strip():
                faults.append(f"{source}: {name} comes without a line of why")
            if name.lower() not in locked:
                faults.append(f"{source}: {name} is not locked: make lock")
    return faults


def vendor_faults(vendor: Path) -> list[str]:
    """Vendored files that VENDOR.md does not name, or names with another SHA-256."""
    if not (vendor / "VENDOR.md").exists():
        return []
    named = {
        match["path"]: match["digest"]
        for match in VENDORED.finditer((vendor / "VENDOR.md").read_text())
    }
    faults = [
        f"VENDOR.md names {path}, which is not there"
        for path in named
        if not (vendor / path).exists()
    ]
    for path in sorted([*vendor.rglob("*.js"), *vendor.rglob("*.css")]):
        name = path.relative_to(vendor).as_posix()
        if named.get(name) != hashlib.sha256(path.read_bytes()).hexdigest():
            faults.append(f"{name}: VENDOR.md holds another sha256, or none")
    return faults


def main() -> int:
    faults = requirement_faults(ROOT) + vendor_faults(VENDOR)
    for fault in faults:
        print(fault)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
