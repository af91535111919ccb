"""Reading a document from a file: text in, or one clear sentence about why not. Knows nothing of models."""

from __future__ import annotations

from pathlib import Path

from judgeq.errors import InputError

MAX_BYTES = 10_000_000


def read_document(path: str | Path) -> str:
    """The text of a UTF-8 file, with line ends as `\\n` and without a byte-order mark.

    Raises:
        InputError: missing, unreadable, larger than 10 MB, empty, or not text.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise InputError(
                f"{path.name} has {size / 1e6:.1f} MB and at most {MAX_BYTES / 1e6:.0f} MB are read: "
                "give a shorter file"
            )
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): check the path") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise InputError(f"{path.name} is not a text file in UTF-8: save it as plain text, then try again")
    if not text.strip():
        raise InputError(f"{path.name} is empty: give a file with some text")
    return text.replace("\r\n", "\n").replace("\r", "\n")
