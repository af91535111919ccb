"""Text comes in; anything else is refused with a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from judgeq.documents import MAX_BYTES, read_document
from judgeq.errors import InputError


def test_text_is_read_with_plain_line_ends(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes("\ufeffGrüße\r\naus 東京\rund …".encode())
    assert read_document(file) == "Grüße\naus 東京\nund …"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x89PNG\r\n\x1a\n\x00\x00", "not a text file"),
        ("caf\xe9".encode("latin-1"), "not a text file"),
        (b"text with a \x00 in it", "not a text file"),
        (b"  \n\t", "is empty"),
        (b"x" * (MAX_BYTES + 1), "10.0 MB"),
    ],
)
def test_what_is_not_text_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "a.bin"
    file.write_bytes(content)
    with pytest.raises(InputError, match=said):
        read_document(file)


def test_a_missing_file_or_a_folder_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.txt", tmp_path):
        with pytest.raises(InputError, match="cannot be read"):
            read_document(path)
