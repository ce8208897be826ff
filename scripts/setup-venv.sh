#!/usr/bin/env bash
# Makes or reuses .venv with the package, editable, and the extras named: setup-venv.sh all test
# .venv/stamp holds one line "hash-of-pyproject.toml extra" for each extra that is installed.
set -euo pipefail
cd "$(dirname "$0")/.."

needed_gb=12
python=.venv/bin/python
stamp=.venv/stamp

if ! "$python" -c '' 2>/dev/null; then
    base=$(scripts/find-python.sh)
    echo "Making .venv with $("$base" --version)."
    "$base" -m venv --clear .venv
fi
hash=$("$python" -c 'import hashlib, pathlib
print(hashlib.sha256(pathlib.Path("pyproject.toml").read_bytes()).hexdigest())')

missing=()
for extra in "$@"; do
    grep -qsx "$hash $extra" "$stamp" || missing+=("$extra")
done

if ((${#missing[@]} == 0)); then
    echo "Reusing .venv: it has [$*] for this pyproject.toml (${hash:0:12})."
else
    free_gb=$(($(df -Pk . | awk 'NR == 2 {print $4}') / 1024 / 1024))
    if ((free_gb < needed_gb)); then
        echo "Only $free_gb GB of disk are free here; installing needs $needed_gb GB." \
            "Free some space and run this again." >&2
        exit 1
    fi
    extras=$(IFS=,; echo "$*")
    echo "Installing [$extras] into .venv for pyproject.toml ${hash:0:12}; torch is large," \
        "so this can take some minutes."
    "$python" -m pip install --quiet --disable-pip-version-check --editable ".[$extras]"
    kept=$(grep -s "^$hash " "$stamp" || true)
    { printf '%s\n' "$kept"; printf "$hash %s\n" "$@"; } | sed '/^$/d' | sort -u >"$stamp.new"
    mv "$stamp.new" "$stamp"
fi
"$python" scripts/check_torch.py
