"""Reads a Dockerfile and does its steps in a plain shell, with a folder in place of the image."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import metadata
from importlib.util import cache_from_source
from pathlib import Path

from packaging.requirements import Requirement

from tests.surroundings import THREADS

KNOWN = {"FROM", "ARG", "RUN", "USER", "WORKDIR", "ENV", "COPY", "EXPOSE", "CMD"}
NEEDS_ROOT = "useradd "
"""What begins so is for an image alone."""


def instructions(path: Path) -> list[tuple[str, str]]:
    """Name and words of each instruction, in their order.

    Raises:
        ValueError: one that this reader does not know.
    """
    found = []
    for line in _lines(path):
        name, _, words = line.partition(" ")
        if name not in KNOWN:
            raise ValueError(f"{path.name} has {name}: teach the test what it does")
        found.append((name, words.strip()))
    return found


def _lines(path: Path) -> Iterator[str]:
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    return (line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#"))


def required(lines: list[str]) -> list[metadata.Distribution]:
    """What is installed here of these requirements and of all that they need, and nothing else.

    Raises:
        PackageNotFoundError: one is not installed.
    """
    found: dict[str, metadata.Distribution] = {}
    plain = (line.split(" #")[0].strip() for line in lines)
    todo, seen = [Requirement(line) for line in plain if line and not line.startswith("#")], set()
    while todo:
        each = todo.pop()
        if str(each) in seen or (each.marker and not each.marker.evaluate({"extra": ""})):
            continue
        seen.add(str(each))
        found[each.name.lower()] = distribution = metadata.distribution(each.name)
        for needed in map(Requirement, distribution.requires or []):
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in {"", *each.extras}):
                needed.marker = None
                todo.append(needed)
    return list(found.values())


def link(source: str | Path, target: str | Path) -> None:
    """A copy that takes no room where both lie on one file system."""
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except FileExistsError:
        pass
    except OSError:  # another file system
        shutil.copy2(source, target)


@dataclass
class Container:
    """A folder in which steps are done as in an image.

    Attributes:
        root: stands for `/` of the image.
        source: what is copied from.
        python: folder of the programs `python` and `pip`, in place of the base image's.
        environment: what ENV has set.
        workdir: in the image.
        command: of CMD.
        port: of EXPOSE.
        done: the RUN steps that were done.
    """

    root: Path
    source: Path
    python: Path
    environment: dict[str, str] = field(default_factory=dict)
    workdir: str = "/"
    command: list[str] = field(default_factory=list)
    port: int = 0
    done: list[str] = field(default_factory=list)

    def build(self, dockerfile: Path) -> None:
        """Do every instruction.

        Raises:
            AssertionError: a step failed; with what it said.
        """
        for name, words in instructions(dockerfile):
            step = getattr(self, f"_{name.lower()}", None)
            if step is not None:
                step(words)

    @property
    def folder(self) -> Path:
        """The working folder, in this folder's tree."""
        return self.root / self.workdir.lstrip("/")

    def provide(self, requirements: Path) -> None:
        """Put there what these requirements ask for, from this environment, so that pip need not fetch it again."""
        (packages,) = self.python.parent.glob("lib/python*/site-packages")
        for distribution in required(requirements.read_text(encoding="utf-8").splitlines()):
            for file in distribution.files or []:
                source, target = Path(str(file.locate())), packages / file
                if ".." in file.parts or target.exists() or not source.exists():
                    continue
                link(source, target)
                if source.suffix == ".py" and (compiled := Path(cache_from_source(source))).exists():
                    link(compiled, Path(cache_from_source(target)))

    def surroundings(self, **more: str) -> dict[str, str]:
        """The variables of a process in it; nothing of this process but what pip needs to find packages, quickly."""
        kept = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "HTTP"))}
        home = {"HOME": str(self.root / "home/user"), "LANG": "C.UTF-8", "PIP_NO_COMPILE": "1"}
        home |= dict.fromkeys(THREADS, "1")  # other tests run beside it
        path = f"{self.python}:/usr/local/bin:/usr/bin:/bin"
        return {**kept, **home, **self.environment, "PATH": path, **more}

    def _workdir(self, words: str) -> None:
        self.workdir = words
        self.folder.mkdir(parents=True, exist_ok=True)

    def _env(self, words: str) -> None:
        name, _, value = words.partition("=")
        self.environment[name] = value.replace("/home/user", str(self.root / "home/user"))

    def _copy(self, words: str) -> None:
        *sources, target = [word for word in shlex.split(words) if not word.startswith("--")]
        for each in sources:
            path, to = self.source / each, self.folder / target
            if path.is_dir():
                shutil.copytree(path, to, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(path, to)

    def _run(self, words: str) -> None:
        if words.startswith(NEEDS_ROOT):
            return
        here = self.surroundings(**({"PIP_NO_INDEX": "1"} if words.startswith("pip ") else {}))
        ran = subprocess.run(words, shell=True, cwd=self.folder, env=here, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, f"{words}\n{ran.stdout[-2000:]}{ran.stderr[-2000:]}"
        self.done.append(words)

    def _expose(self, words: str) -> None:
        self.port = int(words)

    def _cmd(self, words: str) -> None:
        self.command = json.loads(words)
