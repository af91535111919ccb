"""The six million pairs of words that lm-eval draws RULER's keys and needles from, each made when it is drawn.

lm-eval makes and sorts all of them when its module is imported, which takes seconds and 0.8 GB.
"""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import accumulate
from types import SimpleNamespace
from typing import Any
from unittest import mock


class WordPairs(Sequence[str]):
    """What `sorted({f"{adjective}-{noun}" ...})` holds, in its order."""

    def __init__(self, adjectives: Iterable[str], nouns: Iterable[str]) -> None:
        shared, alike = sorted(set(nouns)), defaultdict(list)
        for adjective in set(adjectives):  # `blue` and `blue-eyed` are sorted together
            alike[adjective.partition("-")[0]].append(adjective)
        self._parts: list[tuple[str, list[str]]] = []
        for head in sorted(f"{head}-" for head in alike):
            found = alike[head[:-1]]
            pairs = (f"{adjective}-{noun}" for adjective in found for noun in shared)
            tails = shared if found == [head[:-1]] else sorted({pair.removeprefix(head) for pair in pairs})
            self._parts.append((head, tails))
        self._ends = list(accumulate(len(tails) for _, tails in self._parts))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: Any) -> Any:
        part = bisect_right(self._ends, index)
        head, tails = self._parts[part]
        return head + tails[index - self._ends[part]]


def import_needles() -> None:
    """Import lm-eval's module that hides needles, with such pairs in place of its list."""
    if "lm_eval.tasks.ruler.prepare_niah" in sys.modules:
        return
    from lm_eval.tasks.ruler import cwe_utils

    known = cwe_utils.r._categories
    none = SimpleNamespace(_categories=dict.fromkeys(known, ()))
    with mock.patch.object(cwe_utils.wonderwords, "RandomWord", return_value=none):
        from lm_eval.tasks.ruler import prepare_niah
    prepare_niah.WORDS = WordPairs(known["adjectives"], known["nouns"])
