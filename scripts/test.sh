#!/usr/bin/env bash
# Sets everything up and runs the test suite; arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/setup-venv.sh all train test
scripts/system-libraries.sh
exec scripts/with-display.sh .venv/bin/python -m pytest "$@"
