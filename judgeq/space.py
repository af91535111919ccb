"""The demo as a Hugging Face Space: which files of a checkout it needs, and whether they may be published.

Reads files and git only: needs no network, and knows nothing of what the demo does.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from judgeq.errors import InputError

NEEDED = ("app.py", "requirements.txt", "README.md", "LICENSE")
NEEDED_FOLDERS = ("app", "judgeq", "assets/samples", "assets/soft_tokens")
SHOWN = ("assets/screenshot.png", "assets/results/ablation.png")
"""Pictures in README.md, which is the page of the Space's repository."""

LARGEST_FILE = 20_000_000
"""Bytes; soft tokens of the embedded model take half of that, and nothing else comes near."""

CACHES = {"__pycache__", ".ipynb_checkpoints", ".gradio", ".cache", "flagged", "node_modules"}
WEIGHTS = {".bin", ".ckpt", ".gguf", ".h5", ".npz", ".onnx", ".pkl", ".pt", ".pth", ".safetensors"}
SOFT_TOKENS = PurePosixPath("assets/soft_tokens")
SECRET_NAME = re.compile(r"\.env(\..+)?|\.netrc|\.pypirc|id_(rsa|dsa|ecdsa|ed25519)|.*\.(pem|key|p12|pfx)")
SECRETS = {
    "a token of the Hub": re.compile(rb"\bhf_[A-Za-z0-9]{30,}"),
    "a token of GitHub": re.compile(rb"\b(gh[pousr]_[A-Za-z0-9]{30,}|github_pat_\w{30,})"),
    "a key of AWS": re.compile(rb"\bAKIA[0-9A-Z]{16}\b"),
    "a private key": re.compile(rb"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----"),
}


@dataclass(frozen=True)
class SpaceFile:
    """One file as it is going to be published.

    Attributes:
        path: in the repository, parted by slashes.
        size: bytes.
    """

    path: str
    size: int


def checkout() -> Path:
    """The root of the checkout that this library belongs to, or else that we stand in.

    Raises:
        InputError: there is none: an installed wheel has no demo to send.
    """
    marks = (*NEEDED, "app/ui.py", "judgeq/space.py")
    for folder in (Path(__file__).resolve().parents[1], Path.cwd()):
        if (folder / ".git").exists() and all((folder / mark).is_file() for mark in marks):
            return folder
    raise InputError(
        "A Space is made from a git checkout of this project, and there is none here: clone it, and run this command "
        "in its folder"
    )


def space_files(root: Path) -> list[SpaceFile]:
    """What a Space needs of a clean checkout, all of it tracked by git, in order of the paths.

    Raises:
        InputError: something is not committed, or must not be published.
    """
    if changed := _changed(root):
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        raise InputError(
            f"The tree is not clean ({', '.join(changed[:3])}{more}): commit, stash or remove that first, so that what "
            "is published has a commit"
        )
    tracked = _git(root, "ls-files", "-z")
    for path in tracked:
        if SECRET_NAME.fullmatch(PurePosixPath(path).name):
            raise InputError(
                f"{path} looks like a secret and is tracked by git: take it out of the history first"
            )
    chosen = sorted(path for path in tracked if _is_needed(path))
    return [_checked(root, path) for path in chosen]


def _is_needed(path: str) -> bool:
    return path in (*NEEDED, *SHOWN) or path.startswith(tuple(f"{folder}/" for folder in NEEDED_FOLDERS))


def _checked(root: Path, path: str) -> SpaceFile:
    """A file that may be published; see `space_files`."""
    file, pure = root / path, PurePosixPath(path)
    if file.is_symlink():
        raise InputError(f"{path} is a link, which a Space would not follow: put the file in its place")
    size = file.stat().st_size
    for problem in _problems(pure, size):
        raise InputError(f"{path} {problem}")
    content = file.read_bytes()
    for what, pattern in SECRETS.items():
        if pattern.search(content):
            raise InputError(f"{path} holds what looks like {what}: take it out, and have it revoked")
    return SpaceFile(path, size)


def _problems(path: PurePosixPath, size: int) -> Iterator[str]:
    if CACHES & set(path.parts) or path.suffix == ".pyc":
        yield "is a cache and tracked by git: remove it with `git rm --cached`"
    if path.suffix.lower() in WEIGHTS and not path.is_relative_to(SOFT_TOKENS):
        yield "looks like a model's weights, which belong into a model repository: remove it"
    if size > LARGEST_FILE:
        yield f"has {size:,} bytes and a Space takes at most {LARGEST_FILE:,} here: make it smaller"


def _changed(root: Path) -> list[str]:
    """Paths that are not as the last commit has them, untracked ones included."""
    entries = iter(_git(root, "status", "--porcelain=v1", "-z"))
    changed = []
    for entry in entries:
        changed.append(entry[3:])
        if entry[0] in "RC":
            next(entries, None)  # where it came from
    return changed


def _git(root: Path, *words: str) -> Sequence[str]:
    """What git lists, parted by NUL."""
    try:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, check=False)
    except FileNotFoundError:
        raise InputError("git is not installed, and says what belongs into a Space: install it") from None
    if done.returncode:
        said = (done.stderr.decode(errors="replace").strip().splitlines() or ["it failed"])[-1]
        raise InputError(f"git cannot read the checkout {root} ({said}): mend that first")
    return [part for part in done.stdout.decode().split("\0") if part]
