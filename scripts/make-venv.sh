#!/usr/bin/env bash
# Usage: make-venv.sh PYTHON STAMP: the project, editable and with its extras, in .venv.
#
# STAMP is a file inside .venv that says "complete". Where it is missing, .venv is made anew; where
# it is merely old, the project is installed over what is there.
set -euo pipefail

cd "$(dirname "$0")/.."
python=$1
stamp=$2

refuse() {
    echo "setup: $*" >&2
    exit 2
}

command -v "$python" >/dev/null || refuse "there is no $python; name one with make PYTHON=..."
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    refuse "$("$python" --version 2>&1) is too old: Python 3.11 or newer is needed (make PYTHON=...)"
if [ ! -e "$stamp" ]; then
    echo "setup: making .venv with $("$python" --version)"
    rm -rf .venv
    "$python" -m venv .venv || refuse "$python cannot make a virtual environment"
fi

export PIP_CACHE_DIR="${PIP_CACHE_DIR:-$PWD/build/pip-cache}"
export PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONWARNINGS=ignore
pip=(.venv/bin/python -m pip install --quiet)
echo "setup: installing the project into .venv"
"${pip[@]}" --upgrade 'pip >= 25.3' || refuse "pip could not fetch a pip with --build-constraint"
"${pip[@]}" --build-constraint build-constraints.txt --editable '.[lab,test]' ||
    refuse "pip could not install the project into .venv"
touch "$stamp"
