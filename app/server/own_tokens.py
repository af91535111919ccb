"""Soft tokens that a visitor uploads: read from uploaded files or the Hub, kept for that visitor only.

Their total size is limited. Uploaded files are deleted as soon as they are read. Knows nothing of Gradio.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from app import text
from judgeq.errors import InputError
from judgeq.models.language_model import LanguageModel
from judgeq.soft_tokens import hub
from judgeq.soft_tokens.config import CONFIG_FILE
from judgeq.soft_tokens.soft_tokens import TENSOR_FILE, SoftTokens

FILES = (CONFIG_FILE, TENSOR_FILE)
LARGEST_FILE = 32 * 1024 * 1024
MOST_BYTES = 256 * 1024 * 1024
"""Of all soft tokens that are kept."""
MOST_SOFT_TOKENS = 256
"""More of them would make one visitor's prompt much longer than it looks."""


@dataclass(frozen=True)
class OwnTokens:
    """Soft tokens and the name that they can be found under again."""

    name: str
    tokens: SoftTokens

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors."""
        return sum(each.nbytes for each in self.tokens.tensors().values())


class Shelf:
    """Soft tokens of visitors, each under a key that only their own session knows."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._held: OrderedDict[str, OwnTokens] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, own: OwnTokens) -> str:
        """Keep them; returns the key. The least recently used ones are evicted."""
        key = secrets.token_hex(16)
        with self._lock:
            self._held[key] = own
            while len(self._held) > 1 and sum(each.nbytes for each in self._held.values()) > self._most_bytes:
                self._held.popitem(last=False)
        return key

    def find(self, key: str | None) -> OwnTokens | None:
        """The soft tokens of a key; None for none.

        Raises:
            InputError: it was evicted to make room for others.
        """
        if key is None:
            return None
        with self._lock:
            if key not in self._held:
                raise InputError(text.TOKENS_GONE)
            self._held.move_to_end(key)
            return self._held[key]

    def drop(self, key: str | None) -> None:
        """Delete the soft tokens of a key."""
        with self._lock:
            self._held.pop(key or "", None)


def from_upload(paths: Sequence[str], lm: LanguageModel) -> OwnTokens:
    """Soft tokens out of uploaded files, which are deleted.

    Raises:
        InputError: not the two files, too large, not readable, or of another model.
    """
    files = {Path(path).name: Path(path) for path in paths}
    try:
        if missing := [name for name in FILES if name not in files]:
            raise InputError(text.TOKENS_FILES.format(files=text.join(list(FILES)), missing=missing[0]))
        if gone := [name for name in FILES if not files[name].is_file()]:
            raise InputError(text.TOKENS_FILE_GONE.format(name=gone[0]))
        if any(files[name].stat().st_size > LARGEST_FILE for name in FILES):
            raise InputError(text.TOKENS_LARGE.format(size=LARGEST_FILE // 2**20))
        with TemporaryDirectory() as folder:
            for name in FILES:
                shutil.copyfile(files[name], Path(folder, name))
            try:
                tokens = SoftTokens.from_pretrained(folder)
            except InputError as error:
                raise InputError(str(error).replace(folder, "The upload")) from None
    finally:
        for path in map(Path, paths):
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # each has a folder of its own
                path.parent.rmdir()
    return _checked(OwnTokens("soft-tokens", tokens), lm)


def from_hub(name: str, lm: LanguageModel) -> OwnTokens:
    """Soft tokens of a repository of the Hub.

    Raises:
        InputError: no such id, nothing there, not readable, or of another model.
    """
    name = name.strip()
    if not hub.is_hub_id(name) or Path(name).exists():
        raise InputError(text.TOKENS_NO_ID.format(name=name[:100]))
    return _checked(OwnTokens(name, SoftTokens.from_pretrained(name)), lm)


def _checked(own: OwnTokens, lm: LanguageModel) -> OwnTokens:
    own.tokens.check(lm)
    if own.tokens.n > MOST_SOFT_TOKENS:
        raise InputError(text.TOKENS_MANY.format(n=own.tokens.n, most=MOST_SOFT_TOKENS))
    return own
