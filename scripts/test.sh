#!/usr/bin/env bash
# Sets everything up and runs the test suite; arguments go to pytest (-n 0: one test after the other).
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/setup-venv.sh all train test
scripts/system-libraries.sh
# As many tests at once as there are processors, four at most, since each worker holds torch and napari;
# torch takes one thread in each.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
exec scripts/with-display.sh .venv/bin/python -m pytest \
    --numprocesses logical --maxprocesses 4 --dist worksteal "$@"
