"""From a document and a question to token ids that remember which characters they came from.

Applies the model's chat template. The document and the question are data: what looks like a special token in them is
read as ordinary text. Knows nothing of scores, budgets or caches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jinja2 import TemplateError
from torch import Tensor

from judgeq.errors import InputError
from judgeq.language_model import LanguageModel
from judgeq.objects import brief, hash_of_texts, same

CUT_MARK = "\n[…]\n"
SEPARATOR = "\n\n"
CONTENT_MARK = "\u241f"
"""A character that no template contains: stands for a message's text while the template is taken apart."""


@dataclass(frozen=True)
class Message:
    """One turn of a conversation.

    Attributes:
        role: `"user"`, `"assistant"` or `"system"`.
        content: what was said.
    """

    __repr__ = brief

    role: str
    content: str


@dataclass(frozen=True)
class Prompt:
    """A prompt ready for prefill.

    Attributes:
        input_ids: (1, T) int64, on the CPU.
        text: the whole rendered prompt, template included.
        offsets: T pairs of character positions in `text`, one a token.
        document: character span of the document in `text`.
        cut_tokens: tokens taken out of the middle of the document; 0 = nothing was cut.
    """

    __repr__, __eq__, __hash__ = brief, same, hash_of_texts

    input_ids: Tensor
    text: str
    offsets: tuple[tuple[int, int], ...]
    document: tuple[int, int]
    cut_tokens: int = 0

    @property
    def tokens(self) -> int:
        """`T`, the prompt's length in tokens."""
        return self.input_ids.shape[1]


def build_prompt(
    lm: LanguageModel,
    document: str,
    question: str,
    *,
    question_first: bool = False,
    answer_prefix: str = "",
    truncate: bool = False,
    reserve: int = 0,
) -> Prompt:
    """Render, tokenize and check one prompt.

    Args:
        question_first: put the question before the document instead of after it.
        answer_prefix: text that the answer must continue; stands after the chat template.
        truncate: allow cutting the middle of a document that is too long; otherwise that is an error.
        reserve: positions to leave free for the answer and the soft tokens.

    Raises:
        InputError: empty document or question, or a prompt longer than the model's positions.
    """
    for name, text in (("document", document), ("question", question)):
        if not text.strip():
            raise InputError(f"The {name} is empty: give some text")
    document = document.strip()
    prompt = _render(lm, document, question.strip(), question_first, answer_prefix)
    limit = lm.geometry.max_positions - reserve
    if prompt.tokens <= limit:
        return prompt
    if not truncate:
        raise InputError(
            f"The prompt has {prompt.tokens:,} tokens and {lm.name} reads at most {limit:,} "
            f"({lm.geometry.max_positions:,} positions, {reserve:,} of them left free for the answer): "
            "shorten the document, or allow cutting its middle (truncate)"
        )
    return _cut_middle(lm, document, question.strip(), question_first, answer_prefix, prompt.tokens - limit)


def build_prefix(lm: LanguageModel, document: str) -> Prompt:
    """How every prompt begins that has this document in front of a question: the template's head and the document.

    A last token that holds something behind the document too belongs to the question and is left out.

    Raises:
        InputError: an empty document.
    """
    if not document.strip():
        raise InputError("The document is empty: give some text")
    whole = _render(lm, document.strip(), "?", question_first=False, answer_prefix="")
    end = whole.document[1]
    tokens = sum(last <= end for _, last in whole.offsets)
    return Prompt(whole.input_ids[:, :tokens], whole.text[:end], whole.offsets[:tokens], whole.document)


def build_chat(
    lm: LanguageModel, messages: Sequence[Message], *, answer_prefix: str = "", reserve: int = 0
) -> Tensor:
    """Token ids of a conversation that waits for an answer.

    Args:
        messages: what has been said, the last one by the user.
        answer_prefix: text that the answer must continue.
        reserve: positions to leave free for the answer and the soft tokens.

    Returns:
        (1, T) int64, on the CPU.

    Raises:
        InputError: an empty message, a last message that is not the user's, or a prompt longer than the model's
            positions.
    """
    if (
        not messages
        or messages[-1].role != "user"
        or not all(message.content.strip() for message in messages)
    ):
        raise InputError("A conversation needs messages with text, the last of them by the user")
    ids: list[int] = []
    for text, is_data in _pieces(lm, messages, answer_prefix):
        ids += _tokenize(lm, text, is_data)["input_ids"]
    limit = lm.geometry.max_positions - reserve
    if len(ids) > limit:
        raise InputError(
            f"The conversation has {len(ids):,} tokens and {lm.name} reads at most {limit:,}: shorten it"
        )
    return torch.tensor([ids])


def _render(
    lm: LanguageModel, document: str, question: str, question_first: bool, answer_prefix: str
) -> Prompt:
    parts = (question, document) if question_first else (document, question)
    pieces = _pieces(lm, [Message("user", SEPARATOR.join(parts))], answer_prefix)
    start = len(pieces[0][0]) + (len(question) + len(SEPARATOR) if question_first else 0)
    ids: list[int] = []
    offsets: list[tuple[int, int]] = []
    base = 0
    for text, is_data in pieces:
        encoded = _tokenize(lm, text, is_data)
        ids += encoded["input_ids"]
        offsets += [(base + first, base + last) for first, last in encoded["offset_mapping"]]
        base += len(text)
    return Prompt(
        input_ids=torch.tensor([ids]),
        text="".join(text for text, _ in pieces),
        offsets=tuple(offsets),
        document=(start, start + len(document)),
    )


def _tokenize(lm: LanguageModel, text: str, is_data: bool) -> Any:
    """Ids and character offsets; in data, what looks like a special token is ordinary text."""
    return lm.tokenizer(
        text,
        add_special_tokens=False,
        return_offsets_mapping=True,
        split_special_tokens=is_data,
        verbose=False,  # too long a text is reported by `build_prompt`
    )


def _pieces(lm: LanguageModel, messages: Sequence[Message], answer_prefix: str) -> list[tuple[str, bool]]:
    """The rendered conversation in pieces, template and data in turn, each with whether it is data."""
    marked = [{"role": message.role, "content": CONTENT_MARK} for message in messages]
    try:
        rendered = lm.tokenizer.apply_chat_template(marked, tokenize=False, add_generation_prompt=True)
    except TemplateError as error:
        raise InputError(f"The chat template of {lm.name} refuses the conversation: {error}") from None
    template = rendered.split(CONTENT_MARK)
    if len(template) != len(messages) + 1:
        raise InputError(f"The chat template of {lm.name} does not show every message of the conversation")
    pieces = [(template[0], False)]
    for message, after in zip(messages, template[1:], strict=True):
        pieces += [(message.content, True), (after, False)]
    return [*pieces, (answer_prefix, True)]


def _cut_middle(
    lm: LanguageModel, document: str, question: str, question_first: bool, answer_prefix: str, excess: int
) -> Prompt:
    offsets = _tokenize(lm, document, is_data=True)["offset_mapping"]
    limit_cut = len(offsets) - 2
    cut = excess + 8  # the mark and two new token borders
    if cut > limit_cut:
        raise InputError(
            f"The prompt is {excess:,} tokens too long even without the document's middle: shorten the question"
        )
    first = (len(offsets) - cut) // 2
    shorter = document[: offsets[first][0]] + CUT_MARK + document[offsets[first + cut][0] :]
    prompt = _render(lm, shorter, question, question_first, answer_prefix)
    return Prompt(prompt.input_ids, prompt.text, prompt.offsets, prompt.document, cut_tokens=cut)
