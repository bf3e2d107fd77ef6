#!/bin/sh
# Makes .venv and installs the pinned, hashed requirements into it, once: `setup.sh` what running
# needs, `setup.sh dev` what tests and checks need too. Needs Python 3.11 or later; no root, no
# system package. A stamp holds the hash of what was installed; nothing is done while it fits.
set -eu
cd "$(dirname "$0")/.."

requirements="requirements.txt"
[ "${1:-}" = dev ] && requirements="requirements-dev.txt"

digest=$(cat scripts/uv.txt requirements.txt requirements-dev.txt | cksum | tr ' ' -)
# the dev requirements hold everything that running needs
for stamp in ".venv/.installed-requirements-dev.txt" ".venv/.installed-$requirements"; do
    [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$digest" ] && [ -x .venv/bin/python ] && exit 0
done

python=${PYTHON:-}
if [ -z "$python" ]; then
    for name in python3 python3.11 python3.12 python3.13 python3.14; do
        if command -v "$name" >/dev/null 2>&1 &&
            "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            python=$name
            break
        fi
    done
fi
if [ -z "$python" ]; then
    echo "Omakase needs Python 3.11 or later: install it, or name it with PYTHON=/path/to/python3." >&2
    exit 2
fi

started=$(date +%s)
echo "Installing $requirements into .venv (once) ..."
if [ ! -x .venv/bin/python ]; then
    # Debian's bare python3 has venv but not ensurepip; any pip there is will do for the first step
    "$python" -m venv .venv >/dev/null 2>&1 ||
        { rm -rf .venv && "$python" -m venv --without-pip .venv; } ||
        { echo "This Python cannot make virtual environments: apt-get install python3-venv." >&2; exit 2; }
fi

pip() {
    if .venv/bin/python -c 'import pip' 2>/dev/null; then
        .venv/bin/python -m pip --disable-pip-version-check "$@"
    elif "$python" -m pip --version >/dev/null 2>&1; then
        "$python" -m pip --disable-pip-version-check --python .venv/bin/python "$@"
    else
        echo "This Python has no pip: apt-get install python3-venv, then run it again." >&2
        return 2
    fi
}

with_uv() {
    { [ -x .venv/bin/uv ] || pip install --quiet --require-hashes -r scripts/uv.txt; } &&
        .venv/bin/uv pip install --quiet --python .venv/bin/python --require-hashes -r "$requirements"
}

if ! with_uv; then
    echo "uv could not do it; trying pip, which takes longer ..." >&2
    pip install --quiet --require-hashes -r "$requirements"
fi
echo "$digest" > ".venv/.installed-$requirements"
echo "Installed in $(($(date +%s) - started)) s."
