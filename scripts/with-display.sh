#!/usr/bin/env bash
# Runs a command on the display there is, or on a virtual one: with-display.sh COMMAND [ARGUMENT...]
set -euo pipefail

if "$(dirname "$0")/has-display.sh"; then
    exec "$@"
fi
# Nothing sets this on a machine without a desktop, and Qt warns where it is missing.
runtime=$(mktemp -d)
trap 'rm -rf "$runtime"' EXIT
XDG_RUNTIME_DIR=$runtime xvfb-run --auto-servernum --server-args="-screen 0 1600x1000x24" "$@"
