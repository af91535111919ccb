"""Several answers written side by side, to one prompt or to many: one forward pass writes a token of each.

Knows nothing of methods, budgets or questions.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from judgeq.attention.softcap import masked_attention
from judgeq.cache.layers import RetainedLayer
from judgeq.cache.retained import RetainedCache
from judgeq.config import Decoding
from judgeq.errors import InputError
from judgeq.inference.decode import Finish, Transcript, decode
from judgeq.models.language_model import LanguageModel
from judgeq.objects import brief

SHRINK_AT = 0.75
"""Answers that are finished leave the batch once no more than this share of it is still being written."""
PADDING = 1.5
"""Rows of a group's largest cache over those of its smallest: padding is read for nothing."""

CIRCLES, CIRCLED = 3, 16
"""An answer repeats itself when it ends with one sequence this many times over, in at least so many tokens."""

Settled = Callable[[str], bool]
"""Whether an answer needs no more text than this."""


def never_settled(text: str) -> bool:
    """Every text may continue."""
    return False


def in_circles(tokens: Sequence[int]) -> bool:
    """Whether an answer repeats itself; greedy decoding hardly ever leaves such a circle. See `CIRCLES`."""
    end = len(tokens)
    for period in range(1, end // CIRCLES + 1):
        span = max(CIRCLES * period, CIRCLED)
        if span <= end and tokens[end - span : end - period] == tokens[end - span + period :]:
            return True
    return False


@dataclass(frozen=True, eq=False)
class PendingAnswer:
    """A request to write an answer.

    Attributes:
        cache: a prompt's rows, without a token of an answer.
        logits: (1, V) for the first token.
        decoding: length and stop texts; greedy.
        settled: ends the answer early.
        until_circles: ends the answer once it repeats itself, see `in_circles`.
    """

    __repr__ = brief

    cache: RetainedCache
    logits: Tensor
    decoding: Decoding
    settled: Settled = never_settled
    until_circles: bool = False

    def ends(self, written: FinishedAnswer) -> bool:
        """Whether nothing more of this answer is needed."""
        return self.settled(written.text) or (self.until_circles and in_circles(written.tokens))


@dataclass
class FinishedAnswer:
    """An answer, as far as it is written.

    Attributes:
        text: what a person reads.
        tokens: what the model wrote, with the end token if it was generated.
        finish: why it ends, None where `PendingAnswer.ends` cut it.
        seconds: until its last token, from the start of all that are written together.
    """

    __repr__ = brief

    text: str
    tokens: list[int]
    finish: Finish | None = None
    seconds: float = 0.0


class PaddedRows:
    """One layer's rows of P caches in one tensor, each head's padded to the longest, with space for the answers.

    Quantized rows of a cache are stored here in full precision.

    Attributes:
        keys, values: (P, H_kv, R + new, D); rows from `R` on are the answers'.
        visible: (P, H_kv, 1, R + new) bool.
        length: rows that are filled or padded so far, `R` at the start.
    """

    def __init__(self, layers: Sequence[RetainedLayer], new: int) -> None:
        heads = [layer.heads() for layer in layers]
        self.length = max(len(keys) for rows in heads for keys, _ in rows)
        first = heads[0][0][0]
        shape = len(heads), len(heads[0]), self.length + new, first.shape[-1]
        self.keys, self.values = first.new_zeros(shape), first.new_zeros(shape)
        self.visible = torch.zeros(*shape[:2], 1, shape[2], dtype=torch.bool, device=first.device)
        for at, rows in enumerate(heads):
            for head, (keys, values) in enumerate(rows):
                self.keys[at, head, : len(keys)] = keys
                self.values[at, head, : len(values)] = values
                self.visible[at, head, :, : len(keys)] = True
        self.visible[..., self.length :] = True

    def append(self, keys: Tensor, values: Tensor) -> None:
        """Add one token's row of every cache, (P, H_kv, 1, D)."""
        self.keys[:, :, self.length] = keys[:, :, 0]
        self.values[:, :, self.length] = values[:, :, 0]
        self.length += 1

    def attention(self, queries: Tensor, scaling: float, softcap: float | None) -> Tensor:
        """Attention of one token's queries (P, H, 1, D) to all rows, its own among them: (P, 1, H, D).

        The query heads of a group take the place of positions: no row is repeated for them.
        """
        count, heads, _, dim = queries.shape
        keys, values = self.keys[:, :, : self.length], self.values[:, :, : self.length]
        visible = self.visible[..., : self.length]
        grouped = queries.reshape(count, keys.shape[1], -1, dim)  # (P, H_kv, G, D)
        output = masked_attention(grouped, keys, values, visible, scaling, softcap)
        return output.reshape(count, 1, heads, -1)

    def select(self, kept: Tensor) -> None:
        """Keep the caches with these indices, (P',) int64."""
        kept = kept.to(self.keys.device)  # the layers may be spread over several
        self.keys, self.values, self.visible = self.keys[kept], self.values[kept], self.visible[kept]


class PaddedLayer(DynamicLayer):
    """A cache layer of groups of `PaddedRows`, with attention of its own, as a `RaggedLayer` has it."""

    def __init__(self, groups: Sequence[PaddedRows], seen: int) -> None:
        super().__init__()
        self.lazy_initialization(groups[0].keys, groups[0].values)
        self.groups, self.seen = list(groups), seen

    @property
    def sizes(self) -> list[int]:
        """Caches of each group."""
        return [len(rows.keys) for rows in self.groups]

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        if key_states.shape[2] != 1:
            raise InputError(
                f"Answers that are written side by side get one token at a time, not {key_states.shape[2]}"
            )
        parts = zip(self.groups, key_states.split(self.sizes), value_states.split(self.sizes), strict=True)
        for rows, keys, values in parts:
            rows.append(keys, values)
        self.seen += 1
        key_states.own_attention = self  # type: ignore[attr-defined]
        return key_states, value_states

    def attention(
        self,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        scaling: float,
        softcap: float | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """See `OwnAttention` and `PaddedRows.attention`; the groups have this token's rows already.

        Raises:
            InputError: a mask that hides tokens; padding is hidden without one.
        """
        if mask is not None:
            raise InputError("Answers that are written side by side take no attention mask: leave it out")
        parts = zip(self.groups, queries.split(self.sizes), strict=True)
        return torch.cat([rows.attention(own, scaling, softcap) for rows, own in parts])

    def select(self, kept: Tensor) -> None:
        """Keep the caches with these indices, (P',) int64, ascending."""
        first, left = 0, []
        for rows in self.groups:
            last = first + len(rows.keys)
            inside = kept[(kept >= first) & (kept < last)] - first
            if len(inside):
                rows.select(inside)
                left.append(rows)
            first = last
        self.groups = left

    def get_seq_length(self) -> int:
        return self.seen

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Sizes for which no mask is made: the layer's own attention needs none."""
        return query_length, 0


class PaddedCache(DynamicCache):
    """Copies of the rows of several caches, for answers of up to `new` tokens.

    Attributes:
        positions: (P, 1) int64, the position of each answer's next token.
    """

    def __init__(
        self,
        caches: Sequence[RetainedCache],
        new: int,
        *,
        move: bool = False,
        rows: Callable[[Sequence[RetainedLayer], int], PaddedRows] = PaddedRows,
    ) -> None:
        """Neighbours of similar size share a group.

        Args:
            caches: in ascending order of their rows.
            move: leave the caches empty, one layer after the other, so that no more than one is held twice.
            rows: makes those of a group in one layer.
        """
        super().__init__()
        seen = [cache.get_seq_length() for cache in caches]
        groups: list[list[RetainedCache]] = []
        for cache in caches:
            if groups and cache.rows <= PADDING * groups[-1][0].rows:
                groups[-1].append(cache)
            else:
                groups.append([cache])
        self.positions = torch.tensor(seen, device=caches[0].layers[0].keys.device)[:, None]
        self.layers = []
        for at in range(len(caches[0].layers)):
            own = [rows([cache.layers[at] for cache in group], new) for group in groups]
            self.layers.append(PaddedLayer(own, max(seen)))
            if move:
                for cache in caches:
                    cache.layers[at] = RetainedLayer()

    def select(self, kept: Tensor) -> None:
        """Keep the caches with these indices, (P',) int64, ascending."""
        self.positions = self.positions[kept]
        for layer in self.layers:
            layer.select(kept)


def check_together(decoding: Decoding) -> None:
    """Refuse, with an `InputError`, what answers that are written together cannot do."""
    if decoding.temperature:
        raise InputError("Answers that are written together are greedy: give Decoding.temperature 0")
    if decoding.evict_every:
        raise InputError(
            "Answers that are written together keep all rows: leave Decoding.evict_every out, or write them alone"
        )


def decode_together(
    lm: LanguageModel,
    answers: Sequence[PendingAnswer],
    on_token: Callable[[], None] = lambda: None,
    *,
    move: bool = False,
) -> list[FinishedAnswer]:
    """Write greedy answers; each is what `decode` writes from its cache alone, up to rounding.

    Models with sliding windows write one answer after the other.

    Args:
        on_token: called before each pass, and a place to cancel.
        move: rows leave the caches, which are of no more use, so that they are not held twice. Else caches are not
            changed.

    Raises:
        InputError: a decoding samples, or evicts while an answer is written.
    """
    for answer in answers:
        check_together(answer.decoding)
    started = time.perf_counter()
    if any(any(answer.cache.is_sliding) for answer in answers):
        return [_alone(lm, answer, started, on_token) for answer in answers]
    written = [FinishedAnswer("", []) for _ in answers]
    transcripts = [Transcript(lm, answer.decoding) for answer in answers]
    members = sorted(range(len(answers)), key=lambda at: answers[at].cache.rows)  # of the batch
    chosen = [int(answers[at].logits.argmax(-1)) for at in members]
    running, cache = set(members), None
    while running:
        for at, token in zip(members, chosen, strict=True):
            if at in running:
                text, finish = transcripts[at].take(token)
                written[at].text += text
                written[at].tokens.append(token)
                written[at].seconds = time.perf_counter() - started
                written[at].finish = finish
                if finish or answers[at].ends(written[at]):
                    running.discard(at)
        if not running:
            break
        if cache is None:
            longest = max(answer.decoding.max_new_tokens for answer in answers)
            cache = PaddedCache([answers[at].cache for at in members], longest, move=move)
        if len(running) <= SHRINK_AT * len(members):
            kept = [place for place, at in enumerate(members) if at in running]
            cache.select(torch.tensor(kept, device=lm.device))
            members, chosen = [members[place] for place in kept], [chosen[place] for place in kept]
        on_token()
        chosen = next_tokens(lm, cache, chosen)
    return written


@torch.inference_mode()
def next_tokens(lm: LanguageModel, cache: PaddedCache, tokens: Sequence[int]) -> list[int]:
    """The next token of every answer in the cache, after these, whose rows are added; greedy."""
    ids = torch.tensor(tokens, device=lm.device)[:, None]
    output = lm.model(input_ids=ids, position_ids=cache.positions, cache=cache, use_cache=True, logits_to_keep=1)
    cache.positions = cache.positions + 1
    return output.logits[:, -1].argmax(-1).tolist()


def settled_text(lm: LanguageModel, tokens: Sequence[int], answer: PendingAnswer) -> str:
    """The text that `decode_together` would have written from these tokens, which lack the end token."""
    transcript = Transcript(lm, answer.decoding)
    written = FinishedAnswer("", [])
    for token in tokens:
        added, finish = transcript.take(token)
        written.text += added
        written.tokens.append(token)
        if finish or answer.ends(written):
            return written.text
    return written.text + transcript.end()


def _alone(lm: LanguageModel, answer: PendingAnswer, started: float, on_token: Callable[[], None]) -> FinishedAnswer:
    written = FinishedAnswer("", [])
    for step in decode(lm, answer.cache.fork(), answer.logits, answer.decoding):
        written.text += step.text
        written.tokens.append(step.token)
        written.seconds, written.finish = time.perf_counter() - started, step.finish
        if answer.ends(written):
            break
        on_token()
    return written
