"""Files of a person that take the place of what lm-eval fetches. Knows nothing of lm-eval."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from judgeq.data.passages import folder_texts
from judgeq.errors import InputError


@dataclass(frozen=True)
class LocalFiles:
    """A folder that may hold `essays.txt` or texts in `essays/`, `squad.json` and `hotpotqa.json`; None has no files.

    Raises:
        InputError: there is no such folder.
    """

    folder: Path | None = None

    def __post_init__(self) -> None:
        if self.folder is not None and not self.folder.is_dir():
            raise InputError(f"There is no folder {self.folder}: check its name")

    def path(self, *names: str) -> Path | None:
        """The first of these files or folders that is there."""
        paths = [] if self.folder is None else [self.folder / name for name in names]
        return next((path for path in paths if path.exists()), None)

    def essays(self) -> tuple[Path, str] | None:
        """Where a haystack is and its text, files in the order of their names; raises `InputError`."""
        path = self.path("essays.txt", "essays")
        return None if path is None else (path, "\n\n".join(text.body for text in folder_texts(path)))

    def json(self, name: str) -> Any:
        """What a JSON file holds; None where it is not there. Raises `InputError`."""
        path = self.path(name)
        if path is None:
            return None
        try:
            return json.loads(path.read_text(encoding="utf-8-sig"))
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path} is not JSON ({error}): download it again") from None
