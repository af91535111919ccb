"""`model.generate` of plain transformers, with each prompt's rows evicted after it is read.

What the folder `custom_generate/` beside this module calls. Prompts are read here; choosing and stopping are
transformers' own loop. Knows nothing of documents or text.
"""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import Cache, GenerationMixin
from transformers.generation import GenerationMode, StoppingCriteriaList, StopStringCriteria
from transformers.modeling_outputs import CausalLMOutputWithPast

from judgeq.config import AUTO, DEFAULT_BUDGET, Budget, Decoding, check_budget
from judgeq.errors import InputError
from judgeq.inference.decode_batch import PaddedCache
from judgeq.inference.lookahead import prefill_many
from judgeq.inference.prefill import Prefill
from judgeq.inference.prefill_batch import gains
from judgeq.inference.request import (
    Request,
    check_question_known,
    make_token_request,
    resolve_methods,
    resolve_soft_tokens,
    stand_in_notices,
)
from judgeq.inference.spans import Span, spans_of
from judgeq.methods import Method
from judgeq.methods.selection import Forced
from judgeq.models.language_model import LanguageModel
from judgeq.models.loading import load_tokenizer
from judgeq.soft_tokens.custom_generate import CUSTOM_GENERATE
from judgeq.soft_tokens.soft_tokens import SoftTokens
from judgeq.values import several, whole

FOLDER = str(CUSTOM_GENERATE)
"""What `model.generate(custom_generate=…)` takes, without a copy from the Hub."""
REFUSED = {
    "assistant_model": "drafts by another model",
    "inputs_embeds": "prompts that are embeddings",
    "cache": "a cache that has been begun",
    "past_key_values": "a cache that has been begun",
    "position_ids": "positions of your own",
}
"""Arguments of `generate` that do not go together with an evicted prompt."""
MODES = (GenerationMode.GREEDY_SEARCH, GenerationMode.SAMPLE)


def generate(
    model: Any,
    *,
    soft_tokens: SoftTokens | str | Path | None = None,
    method: str | Method = AUTO,
    budget: Budget = DEFAULT_BUDGET,
    question_span: Span | list[Span] | None = None,
    row_bits: int | None = None,
    tokenizer: Any = None,
    revision: str | None = None,
    streamer: Any = None,
    **arguments: Any,
) -> Any:
    """Continue prompts, each from the rows that a method keeps of it. The first token is that of the whole prompt.

    Args:
        model: a causal language model of transformers. Its attention function, its mode and which parameters ask for
            gradients are afterwards as they were.
        soft_tokens, method, budget, row_bits: `tokens` and the others of `judgeq.ask`; the method may be a text with
            options, as on the command line: `judgeq:allocation=adakv`.
        question_span: `(first, last)`, tokens of the prompt that are kept in every layer and KV head, inside the
            budget; negative ones count from the prompt's end and padding does not count. One for all prompts, or a list
            with one for each.
        tokenizer: the model's; None loads it by the model's name.
        revision: branch, tag or commit of soft tokens on the Hub.
        streamer, arguments: of `model.generate`: greedy or sampled, without beams. Batches are padded on the left.

    Returns:
        What `model.generate` returns: (B, T + new) int64, or a dictionary if that is asked for.

    Raises:
        InputError: an argument that does not go together with an evicted prompt, or that is none.
        ModelError: the model is not supported.
    """
    budget = check_budget(budget)
    for name, what in REFUSED.items():
        if arguments.get(name) is not None:
            raise InputError(f"Generation from an evicted cache takes no {what}: leave {name} out")
    with _borrowed(model, tokenizer) as lm:
        if revision is not None and soft_tokens is not None and not isinstance(soft_tokens, SoftTokens):
            soft_tokens = SoftTokens.for_model(lm, soft_tokens, revision=revision)
        (chosen,) = resolve_methods(lm, [method], row_bits, soft_tokens)
        check_question_known([chosen])
        soft = resolve_soft_tokens(lm, [chosen], soft_tokens)
        for notice in stand_in_notices(lm, [method], [chosen]):
            warnings.warn(notice, stacklevel=2)

        def read_and_sample(
            model: Any,
            input_ids: Tensor,
            *,
            generation_config: Any,
            **options: Any,
        ) -> Any:
            """What transformers calls with everything prepared, except for what is named here."""
            if generation_config.get_generation_mode() not in MODES:
                raise InputError(
                    "An evicted cache continues one text, greedily or sampled: leave num_beams and prompt lookup out"
                )
            new = generation_config.max_length - input_ids.shape[1]
            decoding, chunk = Decoding(max_new_tokens=new), generation_config.prefill_chunk_size
            prompts = _unpadded(input_ids, options.pop("attention_mask", None))
            keys = _keys(prompts, question_span)
            distinct = {
                key: make_token_request(lm, ids, chosen, budget, soft, Forced(key[1]), decoding, chunk)
                for key, ids in zip(keys, prompts, strict=True)
            }
            read = _read(lm, distinct)
            options |= {"generation_config": generation_config, "streamer": streamer, "use_cache": True}
            return _sample(model, [read[key] for key in keys], new, input_ids, options)

        if stops := arguments.pop("stop_strings", None):  # transformers loses the tokenizer on this way
            criteria = [*(arguments.get("stopping_criteria") or []), StopStringCriteria(lm.tokenizer, stops)]
            arguments["stopping_criteria"] = StoppingCriteriaList(criteria)
        return type(model).generate(model, custom_generate=read_and_sample, streamer=streamer, **arguments)


@contextlib.contextmanager
def _borrowed(model: Any, tokenizer: Any) -> Iterator[LanguageModel]:
    """A model of the caller's that can be observed within."""
    name = model.config.name_or_path or "in-memory"
    if tokenizer is None:
        if not model.config.name_or_path:
            raise InputError("The model does not know where it was loaded from: give its tokenizer (tokenizer=…)")
        tokenizer = _tokenizer_of(name)
    attention = model.config._attn_implementation
    training = [module for module in model.modules() if module.training]
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        yield LanguageModel.wrap(model, tokenizer, name)
    finally:
        if model.config._attn_implementation != attention:
            model.set_attn_implementation(attention)
        for module in training:
            module.training = True
        for parameter in learning:
            parameter.requires_grad_(True)


@functools.lru_cache(maxsize=4)
def _tokenizer_of(name: str) -> Any:
    return load_tokenizer(name)


def _unpadded(input_ids: Tensor, mask: Tensor | None) -> list[Tensor]:
    """Each prompt's own tokens, (1, T_i) int64.

    Raises:
        InputError: fillers elsewhere than on the left.
    """
    if mask is None:
        return list(input_ids.split(1))
    if not mask[:, -1].all() or (mask[:, 1:] < mask[:, :-1]).any():
        raise InputError(
            "The attention mask hides tokens after the first one that it shows: pad prompts on the left "
            "(tokenizer.padding_side = 'left') and hide nothing else"
        )
    return [ids[own.bool()][None] for ids, own in zip(input_ids, mask, strict=True)]


Key = tuple[tuple[int, ...], tuple[int, ...]]
"""A prompt's tokens, and the places of those that are kept whatever their scores."""


def _keys(prompts: list[Tensor], question_span: Span | list[Span] | None) -> list[Key]:
    """What tells prompts apart; several continuations of one have the same.

    Raises:
        InputError: a span without a token of its prompt, or not as many spans as prompts.
    """
    spans = [] if question_span is None else spans_of(question_span)
    if spans and len(prompts) % len(spans):
        raise InputError(
            f"There are {len(spans)} question spans and {len(prompts)} prompts: give one for all, or one for each"
        )
    keys = []
    for at, ids in enumerate(prompts):
        rows: range | list[int] = []
        if spans:  # `num_return_sequences` repeats each prompt
            span = several(spans[at * len(spans) // len(prompts)])
            numbers = [whole(number) for number in span]
            rows = range(ids.shape[1])[slice(*numbers)] if len(numbers) == 2 and None not in numbers else []
            if not rows:
                raise InputError(
                    f"The question span is {tuple(span)}: give (first, last), places among the prompt's "
                    f"{ids.shape[1]:,} tokens, the last one past the end; negative ones count from there"
                )
        keys.append((tuple(ids[0].tolist()), tuple(rows)))
    return keys


def _read(lm: LanguageModel, requests: dict[Key, Request]) -> dict[Key, Prefill]:
    for notice in {notice for request in requests.values() for notice in request.notices}:
        warnings.warn(notice, stacklevel=2)
    padded = gains(lm, [request.input_ids.shape[1] for request in requests.values()])
    return dict(zip(requests, prefill_many(list(requests.values()), padded=padded), strict=True))


def _sample(model: Any, read: list[Prefill], new: int, input_ids: Tensor, options: dict[str, Any]) -> Any:
    """Continue prompts that have been read, all at once, or one by one where a model has sliding windows."""
    caches = [outcome.retained[0].cache for outcome in read]
    if len(read) > 1 and any(caches[0].is_sliding):
        return _one_by_one(model, read, new, input_ids, options)
    logits = torch.cat([outcome.logits for outcome in read])[:, None].to(input_ids.device)
    cache = caches[0].fork() if len(read) == 1 else PaddedCache(caches, new)
    return GenerationMixin._sample(_AfterPrefill(model, logits, cache), input_ids, **options)


def _one_by_one(model: Any, read: list[Prefill], new: int, input_ids: Tensor, options: dict[str, Any]) -> Tensor:
    config, positions = options["generation_config"], options.pop("position_ids")
    if config.return_dict_in_generate:
        raise InputError(
            "Prompts of a model with sliding windows are continued one after the other: give one at a time, or leave "
            "return_dict_in_generate out"
        )
    sequences = [
        _sample(model, [each], new, input_ids[at : at + 1], {**options, "position_ids": positions[at : at + 1]})[0]
        for at, each in enumerate(read)
    ]
    filler = 0 if config._pad_token_tensor is None else int(config._pad_token_tensor)
    return pad_sequence(sequences, batch_first=True, padding_value=filler)


class _AfterPrefill:
    """A model as transformers' sampling loop sees it when the prompt has been read."""

    def __init__(self, model: Any, logits: Tensor, cache: Cache) -> None:
        """`logits`: (B, 1, V), for the first token."""
        self._model, self._first = model, CausalLMOutputWithPast(logits=logits, cache=cache)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def __call__(self, **inputs: Any) -> Any:
        return self._model(**inputs)

    def _prefill(self, *args: Any, **kwargs: Any) -> CausalLMOutputWithPast:
        return self._first
