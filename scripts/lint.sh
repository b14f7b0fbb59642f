#!/usr/bin/env bash
# Lint, format and types; each runs even if the one before found something.
set -uo pipefail

cd "$(dirname "$0")/.."
status=0
.venv/bin/ruff check . || status=1
.venv/bin/ruff format --check . || status=1
.venv/bin/mypy || status=1
exit $status
