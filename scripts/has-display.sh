#!/usr/bin/env bash
# Succeeds where a window can be opened: macOS, Windows, or an X or Wayland display.
set -euo pipefail

case "$(uname -s)" in
    Linux | *BSD) [[ -n "${DISPLAY:-}${WAYLAND_DISPLAY:-}" ]] ;;
    *) true ;;
esac
