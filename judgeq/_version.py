"""The version, written only here, since pyproject.toml reads it; and those of what it runs with."""

import contextlib
import platform
from collections.abc import Iterable
from importlib import metadata

__version__ = "0.1.0"


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Of this library, of Python and of those of the packages that are installed."""
    found = {"judgeq": __version__, "python": platform.python_version()}
    for name in packages:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
