"""Files and folders that a user names to be written: links, devices and pipes are written through, and files
that judgeq has not written are never replaced.

A file is replaced whole or not at all, and so are the files of a folder. Knows nothing of what is written.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import stat
import sys
import uuid
from collections.abc import Collection, Iterator
from pathlib import Path

from safetensors import SafetensorError

from judgeq.errors import InputError

PART = ".judgeq-part-"
"""How names begin of what is being written; a process that was killed leaves one."""
COMPLETE = ".judgeq-complete"
"""Folder of files that are all there and move to their places now."""
MARKS = ("judgeq_config.json", "document.json")
"""Files that say of a folder that judgeq has written into it."""
IN_PLACE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY, errno.EXDEV}
"""Why a file cannot be replaced by another one and may be writable all the same, such as one that is mounted alone."""


# Files


def check_file(target: str | Path) -> None:
    """Refuse what cannot be written as a file, before the work for it is done; leaves no file.

    Raises:
        InputError: an empty name, a folder, a missing folder around it, or no right to write there.
    """
    if not os.fspath(target):
        raise InputError("The name of a file to write is empty: give a path")
    try:
        if (number := _descriptor(target)) is not None:
            os.write(number, b"")
            return
        path = _followed(target)
        try:
            kind = path.stat().st_mode
        except FileNotFoundError:
            tried = path.with_name(f"{PART}{uuid.uuid4().hex}")  # other processes of a run check the same path
            tried.open("xb").close()
            tried.unlink()
            return
        if stat.S_ISDIR(kind):
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        if stat.S_ISSOCK(kind) or not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except (OSError, ValueError) as error:
        raise _refusal(target, error) from None


def write_file(target: str | Path, data: str | bytes) -> None:
    """Write a file, text as UTF-8: through a link, straight into a device or pipe, else whole or not at all.

    Half characters, which UTF-8 cannot say, become `\\udc80`: JSON reads them again.

    Raises:
        InputError: it cannot be written.
    """
    content = data if isinstance(data, bytes) else data.encode("utf-8", "backslashreplace")
    try:
        if (number := _descriptor(target)) is not None:
            for stream in filter(None, (sys.stdout, sys.stderr)):
                stream.flush()
            with os.fdopen(os.dup(number), "wb") as file:
                file.write(content)
            return
        path = _followed(target)
        if _stays(path):
            path.write_bytes(content)
            return
        try:
            with replacing(path) as part:
                part.write_bytes(content)
        except OSError as error:
            if error.errno not in IN_PLACE or not path.is_file():
                raise
            path.write_bytes(content)
    except (OSError, ValueError) as error:
        raise _refusal(target, error) from None


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A new file next to `path`, which replaces it in one rename, or is deleted after an error."""
    part = path.with_name(f"{PART}{uuid.uuid4().hex}")
    try:
        yield part
        with contextlib.suppress(FileNotFoundError):
            shutil.copymode(path, part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def lies_on_disk(target: str | Path) -> bool:
    """Whether a path that `check_file` has taken means an ordinary file, and no device, pipe or open file."""
    path = Path(target)
    return _descriptor(target) is None and (path.is_file() or not path.exists())


def means_stdout(target: str | Path) -> bool:
    """Whether a path such as /dev/stdout is another name of standard output."""
    return _descriptor(target) == 1


def _descriptor(target: str | Path) -> int | None:
    """The number of the open file that a path such as /dev/stdout or /dev/fd/3 means."""
    path = os.path.abspath(target)  # noqa: PTH100 - Path.resolve would follow it to a name such as pipe:[4711]
    for _ in range(40):
        if found := re.fullmatch(rf"/(?:dev|proc/(?:self|thread-self|{os.getpid()}))/fd/(\d+)", path):
            return int(found[1])
        if not Path(path).is_symlink():
            return None
        path = os.path.normpath(Path(path).parent / Path(path).readlink())
    return None


def _followed(target: str | Path) -> Path:
    """Where a path leads through links; a device or pipe keeps the name that it was given."""
    path = Path(target)
    if os.fspath(target).endswith(("/", os.sep)):
        raise IsADirectoryError(errno.EISDIR, "it is the name of a folder")
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISREG(path.stat().st_mode):
            return path
    return Path(os.path.realpath(path))


def _stays(path: Path) -> bool:
    """Whether to write into what lies there: a device, a pipe, a file with several names or of another owner."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return False
    own = not hasattr(os, "geteuid") or found.st_uid == os.geteuid()
    return not (stat.S_ISREG(found.st_mode) and found.st_nlink == 1 and own)


def _refusal(target: str | Path, error: Exception, what: str = "give another path") -> InputError:
    reason = getattr(error, "strerror", None) or error
    return InputError(f"{target} cannot be written ({reason}): {what}")


# Folders


def check_folder(folder: str | Path, names: Collection[str], ours: Collection[str], *, shared: bool = False) -> None:
    """Refuse a folder where saving would replace files, or lie among files, that judgeq has not written.

    Hidden entries, such as `.git`, count as nothing. Leaves no file.

    Args:
        names: of everything that is going to be written.
        ours: those of them that an earlier save has written there.
        shared: other files may lie there, since they are known to belong to this work, or are not in its way.

    Raises:
        InputError: such a folder, no folder, or one that cannot be made or written.
    """
    if not os.fspath(folder):
        raise InputError("The name of a folder to write is empty: give a path")
    folder = Path(folder)
    try:
        if not folder.exists():
            above = next(each for each in folder.absolute().parents if each.exists())
            _try_to_write(above)
            return
        if not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "it is a file")
        there = sorted(entry.name for entry in folder.iterdir() if not _counts_as_nothing(entry))
        _try_to_write(folder)
    except (OSError, ValueError) as error:
        raise _refusal(folder, error, "give another folder") from None
    if foreign := [name for name in there if name in names and name not in ours]:
        raise InputError(
            f"{folder} holds a {foreign[0]} that judgeq has not written, or that was changed since: give another "
            "folder, or move that file away"
        )
    if there and not ours and not shared and not any(has_mark(folder / mark) for mark in MARKS):
        shown = ", ".join(there[:3]) + (", …" if len(there) > 3 else "")
        raise InputError(f"{folder} holds files that judgeq has not written ({shown}): give a new or an empty folder")


@contextlib.contextmanager
def saving(
    folder: str | Path, names: Collection[str], ours: Collection[str], *, shared: bool = False
) -> Iterator[Path]:
    """A folder to write files into, which take the places of an earlier save's in `folder` when all are there.

    Whenever it is interrupted, `saved` finds the files of the earlier save, or of this one, and never some of both.

    Args:
        names, ours, shared: see `check_folder`.

    Raises:
        InputError: see `check_folder`, or the disk is full.
    """
    check_folder(folder, names, ours, shared=shared)
    folder = Path(folder)
    part = folder / f"{PART}{uuid.uuid4().hex}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _settle(folder)
        for left_over in folder.glob(f"{PART}*"):
            shutil.rmtree(left_over, ignore_errors=True)
        part.mkdir()
        yield part
        for file in part.iterdir():
            with file.open("rb+") as opened:
                os.fsync(opened.fileno())
        part.rename(folder / COMPLETE)
        _settle(folder)
    except (OSError, SafetensorError) as error:
        raise _refusal(folder, error, "free some space, or give another folder") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def saved(folder: Path, name: str) -> Path:
    """Where a file lies that `saving` has written into `folder`."""
    moving = folder / COMPLETE / name
    return moving if moving.exists() else folder / name


def has_mark(path: Path) -> bool:
    """Whether a JSON file says which judgeq wrote it."""
    return "judgeq_version" in read_object(path)


def read_object(path: Path) -> dict[str, object]:
    """The JSON object in a file; empty if there is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _settle(folder: Path) -> None:
    """Move the files of a complete save to their places."""
    complete = folder / COMPLETE
    if complete.is_dir():
        for file in complete.iterdir():
            file.replace(folder / file.name)
        complete.rmdir()


def _counts_as_nothing(entry: Path) -> bool:
    if entry.name.startswith("."):
        return True
    return entry.is_dir() and not entry.is_symlink() and not any(entry.iterdir())


def _try_to_write(folder: Path) -> None:
    tried = folder / f"{PART}{uuid.uuid4().hex}"
    tried.mkdir()
    tried.rmdir()
