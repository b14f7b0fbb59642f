#!/usr/bin/env bash
# Lint, types and all tests, each run even if another failed; pytest's summaries come last.
#
# Arguments go to pytest. Files of tests are shared out to JOBS processes, 3 unless said otherwise:
# labs wait as much as they work, and each process has a network of its own. JOBS=0 for a debugger.
# Lint runs beside them and says what it found afterwards. Then come those that are marked alone,
# one by one.
#
# Where all unit tests run, they must reach every line and branch of sncontroller/core; tests of the
# data plane and of labs do not count for that.
#
# Pytest's temporary files are gone afterwards; those of a failed run are moved to
# build/failed-tests. They are not made there at once, because a socket's path must be short.
set -uo pipefail

cd "$(dirname "$0")/.."
base=$(mktemp -d "${TMPDIR:-/tmp}/sn.XXXXXX") || exit 2
scripts/lint.sh >"$base/lint" 2>&1 &
linting=$!
trap 'kill $linting 2>/dev/null; rm -rf "$base"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
export TMPDIR="$base"
unset PYTHONDONTWRITEBYTECODE # else each process of a test compiles the project anew
rm -rf build/failed-tests
measure=() lone=()
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

share=(-n "${JOBS:-3}" --dist loadfile --no-loadscope-reorder)
run t "${share[@]}" -m "not alone" "${measure[@]}" "$@"
together=$?
wait $linting
lint=$? linting=
cat "$base/lint"
[ $together -le 1 ] || [ $together -eq $none ] || exit $together
[ $# -gt 0 ] || mapfile -t lone < <(grep -rl --include='*.py' 'mark\.alone' tests) # no other is read
run a -m alone "$@" "${lone[@]}"
alone=$?

[ $together -ne $none ] || together=$alone
[ $alone -ne $none ] || alone=$together
exit $((together ? together : alone ? alone : lint))
