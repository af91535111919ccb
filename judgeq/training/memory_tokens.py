"""Memory tokens: trained after the soft tokens, which stay as they are, by the divergence of the model's answers.

The model's own answer is read twice: over all rows of the prompt, and over the rows that the soft tokens select and the
memory rows, together one budget (the idea of RestoreKV, arXiv 2608.01247).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from judgeq.attention.call import AttentionCall
from judgeq.cache.layers import MemoryRows
from judgeq.cache.retained import FrozenCache, gather_rows
from judgeq.inference.appended import placed
from judgeq.methods import JudgeQ
from judgeq.methods.scoring import attention_to_prompt, merge_group
from judgeq.methods.selection import select_rows
from judgeq.models.language_model import LanguageModel
from judgeq.prompts.token_words import number_words
from judgeq.soft_tokens.adapters import LowRank
from judgeq.soft_tokens.tensors import MemoryTokens, SoftTokenTensors
from judgeq.training.examples import PromptRows, TrainingExample
from judgeq.training.optimization import Run, Setting
from judgeq.training.trainable import parameter_groups, trainable_copy

BUDGETS, WEIGHTS = (32, 64, 128, 256, 512), (3, 6, 5, 4, 2)
"""What a step draws from, rows of a budget; of those that are shorter than the prompt."""
MEASURED = (64, 256)


class MemoryRun(Run):
    """The memory tokens and their adapters.

    Attributes:
        weights: soft tokens, which do not change, and memory tokens as they are now.
    """

    phase = "memory tokens"

    def __init__(
        self, setting: Setting, checkpoint: Path, weights: SoftTokenTensors, earlier: SoftTokenTensors
    ) -> None:
        """Start from the memory tokens of `earlier`, and where it has fewer, from the first soft tokens."""
        lm, config, wanted = setting.lm, setting.config, trainable_copy(setting.lm)
        count, first, maps = config.memory, weights.embeddings, None
        if earlier.memory is not None and earlier.memory_tokens >= count:
            first, maps = earlier.memory.embeddings, earlier.memory.adapters
        embeddings = wanted(first[torch.arange(count) % len(first)])
        adapters = (maps or LowRank.zero(lm, config.memory_rank, config.seed)).map(wanted)
        self.weights = replace(weights, memory=MemoryTokens(embeddings, adapters))
        groups = parameter_groups(SoftTokenTensors(embeddings, adapters=adapters), config)
        super().__init__(setting, checkpoint, groups, config.memory_epochs)

    def losses(self, examples: Sequence[TrainingExample]) -> Tensor:
        """With a budget that is drawn for each step."""
        drawn = random.Random(self.config.seed * 1_000_003 + len(self.history))
        budget = drawn.choices(BUDGETS, WEIGHTS)[0]
        return torch.stack([self._divergences(example, [budget])[0] for example in examples])

    @torch.no_grad()
    def measured(self) -> dict[str, float]:
        """Nats a token at some budgets, with memory rows and without."""
        sums = dict.fromkeys([(budget, memory) for budget in MEASURED for memory in (True, False)], 0.0)
        for index in range(self.workers.rank, len(self.held_out_set), self.workers.count):
            example = self.held_out_set[index]
            for memory in (True, False):
                for budget, found in zip(MEASURED, self._divergences(example, MEASURED, memory), strict=True):
                    sums[budget, memory] += float(found)
        return {
            f"divergence_{budget}" + ("" if memory else "_without"): round(
                self.workers.total(total) / len(self.held_out_set), 4
            )
            for (budget, memory), total in sums.items()
        }

    def _divergences(self, example: TrainingExample, budgets: Sequence[int], memory: bool = True) -> list[Tensor]:
        """KL divergence from the answer over all rows, nats a token, at each budget."""
        lm, rows = self.lm, PromptRows(self.lm, [example])
        asked = Asked(lm, self.weights, rows, example.prompt)
        with torch.no_grad():
            teacher = _log_probs(lm, example, rows.cache)
        found = []
        for budget in budgets:
            rows_kept = min(budget, max(2, len(example.prompt) // 2))
            used = min(self.config.memory, rows_kept // 2) if memory else 0
            student = _log_probs(lm, example, asked.kept(rows_kept - used, used))
            found.append(F.kl_div(student, teacher, log_target=True, reduction="none").sum(-1).mean())
        return found


class Asked:
    """Soft and memory tokens after one prompt: an observer of their pass.

    Attributes:
        scores: of each layer that sees the whole prompt (1, H_kv, T), without gradients.
        memory: of each such layer the memory rows, (1, H_kv, M, D), with gradients.
    """

    def __init__(self, lm: LanguageModel, weights: SoftTokenTensors, rows: PromptRows, prompt: Tensor) -> None:
        tokens = len(prompt)
        self.lm, self.rows, self.tokens = lm, rows, tokens
        by_word = JudgeQ.selection.unit == "word"
        self.words = number_words(lm.tokenizer, prompt[None]) if by_word else None
        self.soft, self.offsets = len(weights.embeddings), weights.offsets_at(lm, tokens)
        self.scores: dict[int, Tensor] = {}
        self.memory: dict[int, MemoryRows] = {}
        embeds = weights.appended_embeddings().to(lm.device, lm.dtype)[None]
        with weights.attached(lm):
            lm.model(
                inputs_embeds=embeds,
                cache=rows.cache,
                logits_to_keep=1,
                observer=self,
                **placed(embeds, tokens, weights),
            )

    def observe(self, call: AttentionCall) -> None:
        if call.window is not None:
            return
        queries, last = call.queries[:, :, : self.soft].detach(), self.tokens + self.soft
        if self.offsets is not None:
            queries = queries + self.offsets[call.layer].to(queries)
        keys = call.keys[:, :, :last].detach()
        paid = attention_to_prompt(queries, keys, call.scaling, self.tokens, self.tokens, call.softcap)
        self.scores[call.layer] = merge_group(paid.mean(-2))
        self.memory[call.layer] = call.keys[:, :, last:], call.values[:, :, last:]

    def kept(self, count: int, memory: int) -> FrozenCache:
        """The first `memory` memory rows, and so many of the prompt's; layers with a sliding window as they are."""
        found = []
        for at, layer in enumerate(self.rows.cache.layers):
            keys, values = layer.keys, layer.values
            if at in self.scores:
                scores = self.scores[at]
                words = None if self.words is None else self.words.to(scores.device)
                places = select_rows(scores, count, JudgeQ.selection, words).to(keys.device)
                own_keys, own_values = (rows[:, :, :memory] for rows in self.memory[at])
                keys = torch.cat([own_keys, gather_rows(keys, places)], 2)
                values = torch.cat([own_values, gather_rows(values, places)], 2)
            found.append((keys, values))
        return FrozenCache(found, self.tokens, self.lm.geometry.sliding)


def _log_probs(lm: LanguageModel, example: TrainingExample, cache: FrozenCache) -> Tensor:
    """(tokens, vocabulary) float32: what follows each token of the response but its last."""
    ids = example.response[: max(1, len(example.response) - 1)]
    logits = lm.model(input_ids=ids[None].to(lm.device), cache=cache).logits[0]
    return logits.float().log_softmax(-1)
