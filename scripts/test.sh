#!/usr/bin/env bash
# Lint, types and all tests, each run even if the one before failed; pytest's summary comes last.
#
# Arguments go to pytest. Its temporary files are gone afterwards; those of a failed run are moved
# to build/failed-tests. They are not made there at once, because a socket's path must be short.
set -uo pipefail

cd "$(dirname "$0")/.."
scripts/lint.sh
lint=$?

base=$(mktemp -d "${TMPDIR:-/tmp}/sn.XXXXXX") || exit 2
trap 'rm -rf "$base"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
rm -rf build/failed-tests
.venv/bin/python -m pytest --basetemp="$base/t" "$@"
tests=$?
if [ $tests -eq 1 ] && mkdir -p build; then
    mv "$base/t" build/failed-tests
fi
exit $((tests ? tests : lint))
