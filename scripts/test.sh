#!/usr/bin/env bash
# Lint, types and all tests, each run even if the one before failed; pytest's summary comes last.
#
# Arguments go to pytest. Files of tests are shared out to JOBS processes, 2 unless said otherwise:
# labs wait more than they work, and each process has a network of its own. JOBS=0 for a debugger.
#
# Where all unit tests run, they must reach every line and branch of sncontroller/core; tests of the
# data plane and of labs do not count for that.
#
# Pytest's temporary files are gone afterwards; those of a failed run are moved to
# build/failed-tests. They are not made there at once, because a socket's path must be short.
set -uo pipefail

cd "$(dirname "$0")/.."
scripts/lint.sh
lint=$?

base=$(mktemp -d "${TMPDIR:-/tmp}/sn.XXXXXX") || exit 2
trap 'rm -rf "$base"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
rm -rf build/failed-tests
measure=()
case "$*" in
"" | tests | tests/ | tests/unit | tests/unit/)
    measure=(--cov=sncontroller/core --cov-report=term-missing:skip-covered --cov-fail-under=100)
    ;;
esac
share=(-n "${JOBS:-2}" --dist loadfile --no-loadscope-reorder)
.venv/bin/python -m pytest "${share[@]}" --basetemp="$base/t" "${measure[@]}" "$@"
tests=$?
if [ $tests -eq 1 ] && mkdir -p build; then
    mv "$base/t" build/failed-tests
fi
exit $((tests ? tests : lint))
