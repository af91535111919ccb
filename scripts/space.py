"""Publish the demo as a Hugging Face Space, from a clean checkout.

    python -m scripts.space --repo OWNER/NAME --dry-run
    python -m scripts.space --repo OWNER/NAME

Sends the files that the demo needs and git tracks, and refuses those that should not be published.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, SpaceHardware
from huggingface_hub.errors import RepositoryNotFoundError

from judgeq.cli import run
from judgeq.commands.common import add_flag, add_json, add_option, finish
from judgeq.errors import InputError
from judgeq.models.download_process import ANSWER_SECONDS
from judgeq.soft_tokens.hub import ALWAYS_THERE, check_hub_id, check_kind, clear_errors, signed_in

ROOT = Path(__file__).resolve().parents[1]

NEEDED = ("app.py", "requirements.txt", "README.md", "LICENSE")
NEEDED_FOLDERS = ("app", "judgeq", "assets/samples", "assets/soft_tokens")
NOT_NEEDED = "assets/soft_tokens/smollm2-135m-documents/"
"""For documents before any question: the demo has the question when it reads."""
SHOWN = ("assets/screenshot.png", "assets/results/ablation.png")
"""Pictures in README.md, which is the page of the Space's repository."""

SPACE_MARK = "judgeq/__init__.py"
"""File by which a Space is known to hold this demo."""
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
    """One file as it is going to be published: its path in the repository, and bytes."""

    path: str
    size: int


def space_files(root: Path) -> list[SpaceFile]:
    """What a Space needs of a clean checkout, all of it tracked by git, in order of the paths.

    Raises:
        InputError: no checkout, something is not committed, or must not be published.
    """
    if not (root / ".git").exists():
        raise InputError("A Space is made from a git checkout, and this folder is none: clone the project first")
    if changed := _changed(root):
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        raise InputError(
            f"The tree is not clean ({', '.join(changed[:3])}{more}): commit, stash or remove that first, so that what "
            "is published has a commit"
        )
    tracked = _git(root, "ls-files", "-z")
    for path in tracked:
        if SECRET_NAME.fullmatch(PurePosixPath(path).name):
            raise InputError(f"{path} looks like a secret and is tracked by git: take it out of the history first")
    below = tuple(f"{folder}/" for folder in NEEDED_FOLDERS)
    needed = (path for path in tracked if path in (*NEEDED, *SHOWN) or path.startswith(below))
    chosen = sorted(path for path in needed if not path.startswith(NOT_NEEDED))
    return [_checked(root, path) for path in chosen]


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


def check_hardware(name: str | None) -> None:
    """Nothing if a Space can have this hardware, or None, else an `InputError`."""
    known = [each.value for each in SpaceHardware]
    if name is not None and name not in known:
        raise InputError(f"There is no hardware {name!r} for a Space: choose from {', '.join(known)}")


def push_space(
    files: Mapping[str, Path], repo_id: str, *, private: bool, hardware: str | None, message: str
) -> CommitInfo:
    """Make these files, by their paths there, all that the Gradio Space `repo_id` holds, in one commit.

    Args:
        private: only the owner may see a new Space; a public one is left alone.
        hardware: name as in `SpaceHardware`; None leaves it as it is.

    Raises:
        InputError: no such name, no token, no permission, a Space that holds something else, or no answer.
    """
    api = signed_in(repo_id, None)
    wanted = None if hardware is None else SpaceHardware(hardware)
    there: set[str] = set()
    existed = True
    with clear_errors(repo_id):
        try:
            found = api.space_info(repo_id, timeout=ANSWER_SECONDS)
        except RepositoryNotFoundError:
            existed = False
            api.create_repo(
                repo_id, repo_type="space", space_sdk="gradio", space_hardware=wanted, private=private or None
            )
        else:
            check_kind(found, SPACE_MARK, private)
            there = {file.rfilename for file in found.siblings or []} - ALWAYS_THERE
        done = api.create_commit(
            repo_id,
            [
                *(CommitOperationAdd(name, path) for name, path in files.items()),
                *(CommitOperationDelete(name, is_folder=False) for name in sorted(there - set(files))),
            ],
            repo_type="space",
            commit_message=message,
        )
        if existed and wanted is not None:
            api.request_space_hardware(repo_id, wanted)
        return done


def main(argv: Sequence[str] | None = None) -> int:
    """Publish, or only say what would be sent; returns the exit code."""
    return run(parser(), argv)


def parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.space", description="Publish the demo as a Hugging Face Space."
    )
    parser.set_defaults(run=publish)
    add_option(parser, "--repo", "OWNER/NAME", "created on the Hub where there is none", required=True)
    add_flag(parser, "--dry-run", "only list what would be sent; asks no network")
    add_option(parser, "--hardware", "NAME", "such as cpu-basic or zero-a10g (default: as it is, new: cpu-basic)")
    add_flag(parser, "--private", "only you may see a new Space")
    parser.add_argument("--message", default="The demo as it is", metavar="TEXT", help="of the commit")
    add_json(parser)
    return parser


def publish(arguments: argparse.Namespace) -> None:
    """What the command does."""
    check_hub_id(arguments.repo)
    check_hardware(arguments.hardware)
    files = space_files(ROOT)
    total = sum(file.size for file in files)
    result: dict[str, Any] = {
        "repository": arguments.repo,
        "files": [{"path": file.path, "bytes": file.size} for file in files],
        "bytes": total,
    }
    if arguments.dry_run:
        lines = [f"{file.size:>12,}  {file.path}" for file in files]
        said = f"{len(files)} files, {total:,} bytes, would be sent to {arguments.repo}"
    else:
        done = push_space(
            {file.path: ROOT / file.path for file in files},
            arguments.repo,
            private=arguments.private,
            hardware=arguments.hardware,
            message=arguments.message,
        )
        lines = []
        said = f"{len(files)} files, {total:,} bytes, are on the Hub: {done.repo_url}"
        result |= {"commit": done.oid, "url": str(done.repo_url)}
    finish(arguments, result, *lines, said)


if __name__ == "__main__":
    sys.exit(main())
