#!/bin/sh
# Every test, from nothing. What a test needs and this machine lacks is installed where that is
# possible and named where it is not: such tests skip on a laptop and fail in CI (CI=1).
set -u
cd "$(dirname "$0")/.." || exit
scripts/setup.sh dev || exit
failed=0

has_browser() {
    command -v chromium || command -v chromium-browser || command -v google-chrome
}
if ! has_browser >/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "Installing Chromium for the browser tests (apt-get install chromium) ..."
        { apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
            apt-get install -qq -y --no-install-recommends chromium fonts-dejavu-core; } >/dev/null ||
            echo "apt-get could not install chromium: install it by hand." >&2
    else
        echo "No Chromium here: the browser tests need it (as root: apt-get install chromium)." >&2
    fi
fi

if [ -d tests/unit/js ]; then
    if command -v node >/dev/null; then
        # the dot reporter: pytest's summary is to be the last thing on the screen
        node --test --test-reporter=dot 'tests/unit/js/' || failed=1
    else
        echo "No Node here: tests/unit/js is not run (apt-get install nodejs npm)." >&2
        [ -n "${CI:-}" ] && failed=1
    fi
fi

# loadgroup: tests marked with the same xdist_group share one process and its servers
run() {
    processes=$1
    shift
    .venv/bin/python -m pytest -q -n "${TEST_PROCESSES:-$processes}" --dist loadgroup "$@" || failed=1
}
if [ $# -gt 0 ]; then
    run auto "$@"
else
    # more than there are cores: many tests wait for a process that they have started
    cores=$(getconf _NPROCESSORS_ONLN)
    # apart: the browser's driver leaves an event loop running in its process, under which no other
    # can be started, and switches greenlets under other tests' feet
    run $((cores + 2)) tests --ignore tests/browser
    run $((cores + 1)) tests/browser
fi
[ $failed = 0 ] || { echo "make test failed" >&2; exit 1; }
