#!/usr/bin/env bash
# Proves the lowest napari that pyproject.toml allows: a second environment, .venv-floor, with that
# very version, a real window, our dock from the manifest and one click. torch is linked, not copied.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/setup-venv.sh all train test
scripts/system-libraries.sh

floor=$(sed -n 's/.*"napari\[all\]>=\([0-9.]*\)".*/\1/p' pyproject.toml)
python=.venv-floor/bin/python
stamp=.venv-floor/stamp
key="$(.venv/bin/python --version) $(cksum <pyproject.toml)"

if ! grep -qsx "$key" "$stamp" || ! "$python" -c '' 2>/dev/null; then
    echo "Making .venv-floor with napari $floor."
    .venv/bin/python -m venv --clear .venv-floor
    .venv/bin/python scripts/link_packages.py "$python" torch torchvision
    "$python" -m pip install --quiet --disable-pip-version-check --editable '.[all]' \
        "napari[all]==$floor"
    echo "$key" >"$stamp"
fi
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
HOME=$home NAPARI_FCTSFN_HOME=$home scripts/with-display.sh "$python" scripts/floor_smoke.py "$floor"
