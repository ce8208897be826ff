#!/usr/bin/env bash
# Builds the documentation into site/; any warning is an error.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/setup-venv.sh all docs
# The theme's notice about its own future is not about this site.
export NO_MKDOCS_2_WARNING=1
exec .venv/bin/mkdocs build --strict --quiet
