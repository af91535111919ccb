"""From a document and a question to token ids that remember which characters they came from.

Applies the model's chat template. The document and the question are data: what looks like a special token in them is
read as ordinary text. Knows nothing of scores, budgets or caches.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import date, datetime

import torch
from jinja2 import TemplateError
from torch import Tensor
from transformers.utils.chat_template_utils import _compile_jinja_template

from judgeq.config import check_text
from judgeq.errors import InputError
from judgeq.models.language_model import LanguageModel
from judgeq.models.supported import CONTENT_MARK
from judgeq.objects import brief, hash_of_texts, same

CUT_MARK = "\n[…]\n"
SEPARATOR = "\n\n"

SHORTER_ANSWER = "ask for a shorter answer (max_new_tokens)"
FEWER_APPENDED = "choose a method that appends fewer tokens to the prompt"
"""How to leave fewer positions free after a prompt."""

_today: ContextVar[date | None] = ContextVar("today", default=None)


@contextlib.contextmanager
def dated(moment: date | None) -> Iterator[None]:
    """Within, chat templates that name the date name this one; None leaves it as it is.

    A template's date is a part of the prompt, so questions about a document need the date on which it was read.

    Raises:
        InputError: neither a date nor None.
    """
    if not isinstance(moment, date | None):
        raise InputError(f"The date is {moment!r}: give a datetime.datetime, or None for the time of the clock")
    before = _today.set(moment or _today.get())
    try:
        yield
    finally:
        _today.reset(before)


def now() -> date:
    """The date that chat templates are given: that of `dated`, or the time of the clock."""
    return _today.get() or datetime.now()


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
        offsets: T pairs of character positions in `text`, one per token.
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
    truncate: bool | None = False,
    reserve: int = 0,
    lower: str = SHORTER_ANSWER,
    is_read: bool = False,
) -> Prompt:
    """Render, tokenize and check one prompt.

    Args:
        question_first: put the question before the document instead of after it.
        answer_prefix: text that the answer must continue; comes after the chat template.
        truncate: allow cutting the middle of a document that is too long; otherwise that is an error, which advises
            it unless this is None.
        reserve: positions to leave free for the answer and the soft tokens.
        lower: how a message says that `reserve` can be lowered.
        is_read: the document has been read already, so that no message advises a shorter one.

    Raises:
        InputError: a document or question that is empty or no text, or a prompt longer than the model's positions.
    """
    document, question = _filled("document", document), _filled("question", question)
    parts = _Parts(lm, question, question_first, check_text("answer prefix", answer_prefix))
    prompt = parts.around(document)
    limit = lm.geometry.max_positions - reserve
    if prompt.tokens <= limit:
        return prompt
    cut = parts.around_ends(document, prompt.tokens, limit) if truncate else None
    if cut is None:
        ways = parts.ways_out(prompt.tokens, limit, lower, truncate is False, document if is_read else None)
        raise InputError(f"The prompt {exceeds(lm, prompt.tokens, reserve)}: {ways}")
    return cut


def count_prompt(lm: LanguageModel, document: str, question: str) -> int:
    """Tokens of the prompt, however many the model reads; raises as `build_prompt` does."""
    return _Parts(lm, _filled("question", question)).around(_filled("document", document)).tokens


def build_prefix(lm: LanguageModel, document: str) -> Prompt:
    """How every prompt begins that has this document in front of a question: the template's head and the document.

    A last token that spans the document's end belongs to the question and is left out.

    Raises:
        InputError: an empty document.
    """
    whole = _Parts(lm, "?").around(_filled("document", document))
    end = whole.document[1]
    tokens = sum(last <= end for _, last in whole.offsets)
    return Prompt(whole.input_ids[:, :tokens], whole.text[:end], whole.offsets[:tokens], whole.document)


def build_chat(lm: LanguageModel, messages: Sequence[Message], *, answer_prefix: str = "", reserve: int = 0) -> Tensor:
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
    messages = list(messages)
    for message in messages:
        check_text("message", message.content)
    said = messages and all(message.content.strip() for message in messages)
    if not said or messages[-1].role != "user":
        raise InputError("A conversation needs messages with text, the last of them by the user")
    pieces = _pieces(lm, messages, check_text("answer prefix", answer_prefix))
    encoded = [lm.encode(text, is_data=is_data).ids for text, is_data in pieces]
    ids = [token for own in encoded for token in own]
    limit = lm.geometry.max_positions - reserve
    if len(ids) > limit:
        template = sum(len(own) for own, (_, is_data) in zip(encoded, pieces, strict=True) if not is_data)
        way = "shorten it" if template + len(messages) <= limit else SHORTER_ANSWER
        raise InputError(f"The conversation {exceeds(lm, len(ids), reserve)}: {way}")
    return torch.tensor([ids])


def count_before(lm: LanguageModel, messages: Sequence[Message], characters: int, answer_prefix: str = "") -> int:
    """Tokens of `build_chat` before so many characters of the last message; one across that border comes after it."""
    *before, (last, is_data), _, _ = _pieces(lm, messages, answer_prefix)
    inside = sum(end <= characters for _, end in lm.encode(last, is_data=is_data).offsets)
    return inside + sum(len(lm.encode(text, is_data=known).ids) for text, known in before)


def chat_characters(
    lm: LanguageModel, messages: Sequence[Message], answer_prefix: str = ""
) -> tuple[str, list[tuple[int, int]]]:
    """The text of a conversation's prompt and the character span of each token of `build_chat`.

    What is no message, the template and the answer's prefix, is blank, so that only what was said can be found there.
    """
    text, offsets = "", list[tuple[int, int]]()
    pieces = _pieces(lm, messages, answer_prefix)
    for at, (piece, is_data) in enumerate(pieces):
        encoded = lm.encode(piece, is_data=is_data).offsets
        offsets += [(len(text) + first, len(text) + last) for first, last in encoded]
        text += piece if is_data and at < len(pieces) - 1 else " " * len(piece)
    return text, offsets


@dataclass(frozen=True)
class _Parts:
    """All of a prompt but its document; fields as the arguments of `build_prompt`."""

    lm: LanguageModel
    question: str
    question_first: bool = False
    answer_prefix: str = ""

    def around(self, document: str) -> Prompt:
        """The prompt with this document, however long."""
        parts = (self.question, document) if self.question_first else (document, self.question)
        pieces = _pieces(self.lm, [Message("user", SEPARATOR.join(parts))], self.answer_prefix)
        start = len(pieces[0][0]) + (len(self.question) + len(SEPARATOR) if self.question_first else 0)
        ids: list[int] = []
        offsets: list[tuple[int, int]] = []
        base = 0
        for text, is_data in pieces:
            encoded = self.lm.encode(text, is_data=is_data)
            ids += encoded.ids
            offsets += [(base + first, base + last) for first, last in encoded.offsets]
            base += len(text)
        return Prompt(
            input_ids=torch.tensor([ids]),
            text="".join(text for text, _ in pieces),
            offsets=tuple(offsets),
            document=(start, start + len(document)),
        )

    def around_ends(self, document: str, tokens: int, limit: int) -> Prompt | None:
        """The prompt with the document's middle cut out until it fits; None where its two ends are too much.

        Args:
            tokens: of the prompt with the whole document.
        """
        offsets = self.lm.encode(document, is_data=True).offsets
        cut = tokens - limit + 8  # the mark and two new token borders
        while cut <= len(offsets) - 2:
            first = (len(offsets) - cut) // 2
            prompt = self.around(document[: offsets[first][0]] + CUT_MARK + document[offsets[first + cut][0] :])
            if prompt.tokens <= limit:
                return replace(prompt, cut_tokens=cut)
            cut += prompt.tokens - limit  # the mark, or a character that was cut in two, took more
        return None

    def ways_out(self, tokens: int, limit: int, lower: str, offer_cut: bool, read: str | None) -> str:
        """What helps where the prompt is too long; see `build_prompt`. `read`: the document, if it must not be cut."""
        positions = self.lm.geometry.max_positions
        least = tokens if read else self.around("?").tokens
        ways = []
        if least <= limit:
            ways.append("shorten the document")
            if offer_cut:
                ways.append("allow cutting its middle (truncate)")
        elif least >= positions or replace(self, question="?").around(read or "?").tokens <= limit:
            ways.append("shorten the question")
        if tokens < positions or limit < least < positions:
            ways.append(lower)
        return ", or ".join(ways)


def _filled(what: str, text: object) -> str:
    """A text without the blanks at its ends, of which something has to be left."""
    filled = check_text(what, text).strip()
    if not filled:
        raise InputError(f"The {what} is empty: give some text")
    return filled


def exceeds(lm: LanguageModel, tokens: int, reserve: int) -> str:
    """How long a prompt is and how long it may be, for a message; `reserve` as in `build_prompt`."""
    positions = lm.geometry.max_positions
    return (
        f"has {tokens:,} tokens and {lm.name} reads at most {max(0, positions - reserve):,} "
        f"({positions:,} positions, {reserve:,} of them left free for the answer)"
    )


def _pieces(lm: LanguageModel, messages: Sequence[Message], answer_prefix: str) -> list[tuple[str, bool]]:
    """The rendered conversation in pieces, template and data in turn, each with whether it is data."""
    template = _rendered(lm, [message.role for message in messages]).split(CONTENT_MARK)
    if len(template) != len(messages) + 1:
        raise InputError(f"The chat template of {lm.name} does not show every message of the conversation")
    pieces = [(template[0], False)]
    for message, after in zip(messages, template[1:], strict=True):
        pieces += [(message.content, True), (after, False)]
    return [*pieces, (answer_prefix, True)]


def _rendered(lm: LanguageModel, roles: Iterable[str]) -> str:
    """The chat template around messages that are marks.

    As `apply_chat_template` does it, which has no way to name a date but the clock's.
    """
    try:
        return _compile_jinja_template(lm.tokenizer.get_chat_template()).render(
            **lm.tokenizer.special_tokens_map,
            messages=[{"role": role, "content": CONTENT_MARK} for role in roles],
            tools=None,
            documents=None,
            add_generation_prompt=True,
            strftime_now=now().strftime,
        )
    except TemplateError as error:
        raise InputError(f"The chat template of {lm.name} refuses the conversation: {error}") from None
