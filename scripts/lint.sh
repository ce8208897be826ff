#!/usr/bin/env bash
# Lint, format, types and import contracts.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/setup-venv.sh all train test lint
echo "== ruff: lint"
.venv/bin/ruff check .
echo "== ruff: format"
.venv/bin/ruff format --check .
echo "== mypy: types"
.venv/bin/mypy
echo "== import-linter: which room imports which"
.venv/bin/lint-imports
