"""Let a second environment see some of the packages of the one that runs this script.

The smoke tests need torch but not a second copy of its several gigabytes. Every installed
requirement of the packages named (and what those require in turn) is linked into one folder,
metadata included, and a `.pth` file puts that folder at the end of the other environment's
path: pip there counts the packages as installed and imports find them, and no other package
of this environment can be seen from there. The folder lies beside the other environment, not in
it: pip never uninstalls what is outside its environment, so it cannot delete through a link.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def installed_requirements(roots: Iterable[str]) -> dict[str, metadata.Distribution]:
    """Distributions installed here that the requirements need, themselves included.

    Parameters
    ----------
    roots : iterable of str
        Requirements such as ``"torch"`` or ``"napari-fctsfn[all]"``.

    Returns
    -------
    dict of str to Distribution
        Keyed by normalised name. Requirements that are not installed are left out: the
        other environment's pip then says what is missing.
    """
    found: dict[str, metadata.Distribution] = {}
    seen: set[tuple[str, str]] = set()
    queue = [Requirement(root) for root in roots]
    while queue:
        wanted = queue.pop()
        name = canonicalize_name(wanted.name)
        for extra in {"", *wanted.extras}:
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            try:
                found[name] = metadata.distribution(name)
            except metadata.PackageNotFoundError:
                break
            for line in found[name].requires or []:
                requirement = Requirement(line)
                if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                    queue.append(requirement)
    return found


def top_level_entries(distribution: metadata.Distribution) -> set[Path]:
    """Folders and files that a distribution owns directly inside its site-packages."""
    entries = set()
    for file in distribution.files or []:
        if file.parts[0] not in {"..", "__pycache__"}:
            entries.add(Path(str(distribution.locate_file(file.parts[0]))))
    return entries


def main() -> None:
    """Link the requirements given and write the `.pth` file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("python", help="interpreter of the other environment")
    parser.add_argument("requirements", nargs="+")
    parser.add_argument("--without", action="append", default=[], metavar="NAME")
    arguments = parser.parse_args()

    distributions = installed_requirements(arguments.requirements)
    for name in arguments.without:
        distributions.pop(canonicalize_name(name), None)
    query = "import sys, sysconfig; print(sys.prefix, sysconfig.get_path('purelib'), sep='\\n')"
    reply = subprocess.run(
        [arguments.python, "-c", query], check=True, capture_output=True, text=True
    )
    prefix, site = map(Path, reply.stdout.splitlines())
    folder = prefix.with_name(f"{prefix.name}-linked")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for distribution in distributions.values():
        for entry in top_level_entries(distribution):
            link = folder / entry.name
            if not link.exists():
                link.symlink_to(entry.resolve())
    (site / "linked_packages.pth").write_text(f"{folder}\n", encoding="utf-8")
    sys.stdout.write(f"linked {len(distributions)} packages into {folder}\n")


if __name__ == "__main__":
    main()
