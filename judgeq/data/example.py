"""What every source of prompts gives: a conversation that waits for the model's answer.

An example is text only; the model's own response comes later.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

from torch import Tensor

from judgeq.errors import InputError
from judgeq.models.language_model import LanguageModel
from judgeq.objects import brief
from judgeq.prompts.prompt import SEPARATOR, Message, build_chat, count_before
from judgeq.values import settle, texts

QUESTION_FIRST_SHARE = 0.3
HELD_OUT_SHARE = 10


def is_held_out(name: str) -> bool:
    """Whether a text is kept for evaluation: one in ten, decided by its name alone, so that it never changes."""
    return int(hashlib.sha256(name.encode()).hexdigest(), 16) % HELD_OUT_SHARE == 0


@dataclass(frozen=True)
class Example:
    """A conversation whose last message is the user's.

    Attributes:
        messages: what has been said.
        kind: the shape it was built with, for statistics.
        answers: text or texts that a right answer contains; empty where none is known.
        answer_prefix: text that the answer must continue.
        document, question: what the last message was made of; empty where that is not known.
    """

    __repr__ = brief

    messages: tuple[Message, ...]
    kind: str
    answers: tuple[str, ...] = ()
    answer_prefix: str = ""
    document: str = ""
    question: str = ""

    def __post_init__(self) -> None:
        settle(self)

    @classmethod
    def asking(
        cls,
        document: str,
        question: str,
        kind: str,
        *,
        question_first: bool = False,
        answers: str | Iterable[str] = (),
        answer_prefix: str = "",
    ) -> Example:
        """One message of a document and a question, in either order."""
        parts = (question, document) if question_first else (document, question)
        message = Message("user", SEPARATOR.join(parts))
        return cls((message,), kind, texts("answers", answers), answer_prefix, document, question)

    def question_last(self) -> Example:
        """The same with the question after the document.

        Raises:
            InputError: nothing stands before the question: a single message that is not known to have a document.
        """
        if not self.question and len(self.messages) == 1:
            raise InputError(
                f"An example of the kind {self.kind!r} is one message without a document of its own: give lines of "
                '{"context": …, "question": …} or conversations, or leave --question at known'
            )
        if not self.question:
            return self
        message = Message("user", SEPARATOR.join((self.document, self.question)))
        return replace(self, messages=(*self.messages[:-1], message))

    def input_ids(self, lm: LanguageModel, reserve: int = 0) -> Tensor:
        """The prompt, (1, T) int64; see `build_chat`."""
        return build_chat(lm, self.messages, answer_prefix=self.answer_prefix, reserve=reserve)

    def tokens_before_question(self, lm: LanguageModel) -> int:
        """How many tokens of the prompt come before the question, which is last."""
        return count_before(lm, self.messages, len(self.document), self.answer_prefix)


def ask_at_random(
    document: str | Sequence[str],
    question: str,
    kind: str,
    rng: random.Random,
    answers: Iterable[str] = (),
    answer_prefix: str = "",
) -> Example:
    """One message of a document, or of its passages, with the question first in 30 % of the cases."""
    document = document if isinstance(document, str) else SEPARATOR.join(document)
    first = rng.random() < QUESTION_FIRST_SHARE
    return Example.asking(document, question, kind, question_first=first, answers=answers, answer_prefix=answer_prefix)


@dataclass(frozen=True)
class Page:
    """A document to ask about; the kinds of its questions begin with `kind`."""

    kind: str
    text: str

    def ask(self, question: str, shape: str, rng: random.Random, answers: Iterable[str] = (), **more: str) -> Example:
        return ask_at_random(self.text, question, f"{self.kind}/{shape}", rng, answers, **more)


def draw_shape(shapes: Mapping[Callable[..., Example | None], float], rng: random.Random, *about: object) -> Example:
    """An example of a random shape, called as `shape(*about, rng)`; a shape that returns None is drawn again.

    Args:
        shapes: how often each is tried; at least one of them always gives an example.
    """
    kinds, weights = zip(*shapes.items(), strict=True)
    example = None
    while example is None:
        example = rng.choices(kinds, weights)[0](*about, rng)
    return example


class Source(Protocol):
    """Where examples come from."""

    @property
    def name(self) -> str:
        """How a person calls it, such as `wiki`."""

    def examples(self, lm: LanguageModel, count: int, *, tokens: tuple[int, int], seed: int) -> list[Example]:
        """The first `count` examples; asking for more later gives the same ones first.

        Args:
            tokens: shortest and longest document, in tokens of `lm`, where the source decides that.
            seed: of every choice.

        Raises:
            InputError: the source has too little, or cannot be read.
        """


@dataclass(frozen=True)
class GeneratedSource:
    """A source that builds each example independently, from the seed and the example's place.

    Sources with `held_out` draw from the texts that are never trained on where it is True.
    """

    stream: ClassVar[str] = "{seed}:{at}"
    """Seed of one example's random numbers."""

    def examples(self, lm: LanguageModel, count: int, *, tokens: tuple[int, int], seed: int) -> list[Example]:
        seeds = (self.stream.format(seed=seed, at=at) for at in range(count))
        return [self.build(lm, tokens, random.Random(each)) for each in seeds]

    def build(self, lm: LanguageModel, tokens: tuple[int, int], rng: random.Random) -> Example:
        """One example."""
        raise NotImplementedError
