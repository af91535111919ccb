"""The version, written only here, since pyproject.toml reads it; and those of what it runs with."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__version__ = "0.1.0"


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Of this library, of Python and of those of the packages that are installed."""
    import contextlib
    import platform
    from importlib import metadata  # slow, and `import judgeq` needs none of it

    found = {"judgeq": __version__, "python": platform.python_version()}
    for name in packages:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
