"""Stop with one clear line where torch and torchvision were not built for each other."""

import sys
from importlib import metadata
from importlib.util import find_spec


def complaint() -> str | None:
    """Say what to do where torchvision cannot be imported; None where it can or is not there."""
    if find_spec("torchvision") is None:
        return None
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError, AttributeError, OSError) as error:
        versions = []
        for name in ("torch", "torchvision"):
            try:
                versions.append(f"{name} {metadata.version(name)}")
            except metadata.PackageNotFoundError:
                versions.append(f"no {name}")
        reason = str(error).strip().partition("\n")[0]
        return (
            f"{' and '.join(versions)} do not work together ({reason}); often a CPU-only torch "
            "lies beside the torchvision of PyPI. Install both from one place: "
            f"{sys.executable} -m pip install --force-reinstall torch torchvision"
        )
    return None


if __name__ == "__main__":
    sys.exit(complaint())
