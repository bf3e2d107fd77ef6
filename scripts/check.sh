#!/bin/sh
# Everything that can be said about the code without running it. Runs all checks, then fails if one did.
set -u
cd "$(dirname "$0")/.." || exit
scripts/setup.sh dev || exit
bin=.venv/bin
failed=""

check() {
    name=$1
    shift
    printf '== %s\n' "$name"
    "$@" || failed="$failed $name"
}

check ruff $bin/ruff check --quiet .
check format $bin/ruff format --quiet --check --diff .
check mypy $bin/mypy --no-error-summary
check imports $bin/lint-imports
check hashes $bin/python scripts/hashes.py
check audit $bin/python scripts/audit.py

if [ -n "$failed" ]; then
    printf 'make check failed:%s\n' "$failed" >&2
    exit 1
fi
echo "make check: all good"
