#!/usr/bin/env bash
# Sees to the system libraries that Qt, OpenGL and a virtual display need on Linux: installs them
# with apt where it may, else says what to install. macOS and Windows need nothing.
set -euo pipefail

[[ "$(uname -s)" == Linux ]] || exit 0

libraries=(libEGL.so.1 libGL.so.1 libOpenGL.so.0 libdbus-1.so.3 libfontconfig.so.1
    libglib-2.0.so.0 libxkbcommon-x11.so.0 libxcb-cursor.so.0 libxcb-icccm.so.4
    libxcb-image.so.0 libxcb-keysyms.so.1 libxcb-randr.so.0 libxcb-render-util.so.0
    libxcb-shape.so.0 libxcb-xinerama.so.0 libxcb-xkb.so.1)
debian=(xvfb xauth libegl1 libgl1 libopengl0 libdbus-1-3 libfontconfig1 libglib2.0-0
    libxkbcommon-x11-0 libxcb-cursor0 libxcb-icccm4 libxcb-image0 libxcb-keysyms1
    libxcb-randr0 libxcb-render-util0 libxcb-shape0 libxcb-xinerama0 libxcb-xkb1)
fedora=(xorg-x11-server-Xvfb xorg-x11-xauth mesa-libEGL mesa-libGL libglvnd-opengl dbus-libs
    fontconfig glib2 libxkbcommon-x11 xcb-util-cursor xcb-util-wm xcb-util-image
    xcb-util-keysyms xcb-util-renderutil libxcb)

absent() {
    local known name
    if ! "$(dirname "$0")/has-display.sh"; then
        for name in Xvfb xvfb-run xauth; do
            command -v "$name" >/dev/null || echo "$name"
        done
    fi
    known=$(PATH="$PATH:/usr/sbin:/sbin" ldconfig -p)
    for name in "${libraries[@]}"; do
        [[ "$known" == *"$name "* ]] || echo "$name"
    done
}

mapfile -t wanted < <(absent)
((${#wanted[@]})) || exit 0
echo "Missing system libraries or programs: ${wanted[*]}"

sudo=()
if [[ "$(id -u)" != 0 ]]; then
    sudo=(sudo -n)
fi
if command -v apt-get >/dev/null && "${sudo[@]}" true 2>/dev/null; then
    echo "Installing them with apt-get."
    export DEBIAN_FRONTEND=noninteractive
    "${sudo[@]}" apt-get update -qq || true
    "${sudo[@]}" apt-get install -y -qq --no-install-recommends "${debian[@]}" >/dev/null || true
    mapfile -t wanted < <(absent)
    ((${#wanted[@]})) || exit 0
fi
echo "Please install them (missing: ${wanted[*]}) and run this again." >&2
echo "  Debian, Ubuntu: apt-get install ${debian[*]}" >&2
echo "  Fedora: dnf install ${fedora[*]}" >&2
exit 1
