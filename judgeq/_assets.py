"""Where the shipped files are: soft tokens, sample documents, published results.

A checkout and an editable install read the repository's `assets/`; a wheel carries the same folder as
`judgeq/assets`.
"""

from __future__ import annotations

from pathlib import Path

from judgeq.errors import InputError

_PACKAGE = Path(__file__).resolve().parent


def assets_path(*parts: str) -> Path:
    """The path of a shipped file or folder, `assets_path("soft_tokens", name)`; it need not exist.

    Raises:
        InputError: the parts lead out of the assets folder.
    """
    packaged = _PACKAGE / "assets"  # first: next to an installed package, "assets" may belong to another one
    root = packaged if packaged.is_dir() else _PACKAGE.parent / "assets"
    path = root.joinpath(*parts)
    if not path.resolve().is_relative_to(root.resolve()):
        raise InputError(f"parts={parts!r} leads out of the assets folder")
    return path
