#!/usr/bin/env bash
# Builds wheel and sdist and installs each into an empty environment outside the checkout, where only
# the base requirements can be seen (linked from .venv, no napari, no Qt), and tries them from there.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/setup-venv.sh all train test
checkout=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

.venv/bin/python -m build --outdir "$work/dist" . >"$work/build.log" 2>&1 ||
    { cat "$work/build.log" >&2; exit 1; }
ls -l "$work/dist"

for artifact in "$work"/dist/*; do
    echo "== ${artifact##*/}"
    environment=$work/${artifact##*.}
    mkdir -p "$work/empty"
    .venv/bin/python -m venv "$environment"
    .venv/bin/python scripts/link_packages.py "$environment/bin/python" napari-fctsfn \
        --without napari-fctsfn
    "$environment/bin/python" -m pip install --quiet --disable-pip-version-check "$artifact"
    (cd "$work/empty" && HOME=$work/empty NAPARI_FCTSFN_HOME=$work/empty/data \
        "$environment/bin/python" -P "$checkout/scripts/install_smoke.py")
    rm -rf "$work/empty"
done
