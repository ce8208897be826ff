#!/usr/bin/env bash
# Opens napari with the sample, the dock and the default model; without a display it replays a
# click session on a virtual one and leaves labels and a screenshot in demo-output/.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/setup-venv.sh all
scripts/system-libraries.sh
if scripts/has-display.sh; then
    exec .venv/bin/napari-fctsfn demo
fi
echo "No display here: replaying a click session on a virtual one."
exec scripts/with-display.sh .venv/bin/napari-fctsfn demo --replay demo-output
