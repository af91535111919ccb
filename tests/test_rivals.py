"""Methods of other papers, each against its definition written out over transformers' own attention."""

from __future__ import annotations

import torch
from torch import Tensor

from judgeq.inference.plan import Plan
from judgeq.inference.prefill import prefill
from judgeq.methods import DefensiveKV
from judgeq.methods.parsing import method_from_text
from judgeq.models.language_model import LanguageModel
from tests.test_prefill import attention_of

TOKENS = 90


def grouped(lm: LanguageModel, ids: Tensor) -> dict[int, Tensor]:
    """For each layer that evicts the attention (1, H_kv, G, Q, K) of one pass over the prompt."""
    paid = attention_of(lm, lm.model.get_input_embeddings()(ids))
    return {
        layer: paid[layer].reshape(1, 2, 2, ids.shape[1], ids.shape[1]) for layer in lm.geometry.global_layers
    }


def test_defensivekv_takes_the_largest_and_no_less_than_the_mean(each_lm: LanguageModel, ids: Tensor) -> None:
    method = DefensiveKV(window=16)
    heads = method_from_text("defensivekv:window=16:allocation=adakv")
    even, split = prefill(each_lm, ids, [Plan(method, 40), Plan(heads, 40)]).retained
    for layer, paid in grouped(each_lm, ids).items():
        largest = paid[..., -16:, :].amax((2, 3))
        expected = largest.maximum(largest[..., :-32].mean(-1, keepdim=True))
        assert torch.allclose(even.scores[layer], expected, atol=1e-5)
        assert torch.equal(even.scores[layer], split.scores[layer])
        assert sum(map(len, split.kept[layer])) == 2 * 40
        assert all(set(range(58, 90)) <= set(rows.tolist()) for rows in split.kept[layer])
