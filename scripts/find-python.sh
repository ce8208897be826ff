#!/usr/bin/env bash
# Prints the path of a Python >= 3.11 that can make virtual environments; PYTHON=... comes first.
set -euo pipefail

good='import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))'
for name in ${PYTHON:+"$PYTHON"} python3 python3.14 python3.13 python3.12 python3.11 python; do
    if "$name" -c "$good" >/dev/null 2>&1; then
        "$name" -c 'import sys; print(sys.executable)'
        exit 0
    fi
done
echo "No Python >= 3.11 with venv found: install one (Debian: python3 python3-venv;" \
    "Fedora: python3) or name it, as in 'make test PYTHON=/path/to/python3.12'." >&2
exit 1
