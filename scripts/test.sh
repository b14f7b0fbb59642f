#!/usr/bin/env bash
# Lint, types and all tests, each run even if the one before failed; pytest's summaries come last.
#
# Arguments go to pytest. Files of tests are shared out to JOBS processes, 2 unless said otherwise:
# labs wait more than they work, and each process has a network of its own. JOBS=0 for a debugger.
# Those that are marked alone come afterwards, one by one.
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
export TMPDIR="$base"
rm -rf build/failed-tests
measure=()
case "$*" in
"" | tests | tests/ | tests/unit | tests/unit/)
    measure=(--cov=sncontroller/core --cov-report=term-missing:skip-covered --cov-fail-under=100)
    ;;
esac
none=5 # pytest's word for "no test was chosen"

# Usage: run DIRECTORY ARGUMENT...: pytest, with its temporary files in that directory.
run() {
    .venv/bin/python -m pytest --basetemp="$base/$1" "${@:2}"
    local status=$?
    if [ $status -eq 1 ]; then
        mkdir -p build/failed-tests
        mv "$base/$1" build/failed-tests
    fi
    return $status
}

share=(-n "${JOBS:-2}" --dist loadfile --no-loadscope-reorder)
run t "${share[@]}" -m "not alone" "${measure[@]}" "$@"
together=$?
[ $together -le 1 ] || [ $together -eq $none ] || exit $together
run a -m alone "$@"
alone=$?

[ $together -ne $none ] || together=$alone
[ $alone -ne $none ] || alone=$together
exit $((together ? together : alone ? alone : lint))
