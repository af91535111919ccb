"""What tests of loading share: sentences that a model is refused with, and what is said while files are fetched."""

from __future__ import annotations

from typing import Any

import pytest

from judgeq.errors import ModelError
from judgeq.models.loading import load


def refusal(name: Any, **options: Any) -> str:
    """The sentence that `load` refuses with."""
    with pytest.raises(ModelError) as caught:
        load(name, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    return message


class Lines(list[str]):
    """A progress callback that remembers what was said."""

    def __call__(self, message: str, fraction: float | None) -> None:
        self.append(message)
