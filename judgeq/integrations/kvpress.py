"""Judge Q as a press of kvpress, for the environment that kvpress lives in.

Needs torch, safetensors and kvpress 0.5.5, and nothing else of this library, which wants a newer transformers; with a
tokenizer, two modules of it that want none. Reads the folder
that `judgeq train` writes: embeddings, query offsets and adapters; a learned profile is not used.
"""

from __future__ import annotations

import contextlib
import inspect
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

try:
    from kvpress import ScorerPress
    from kvpress.utils import compute_n_kept, get_prerope_query_states
except ImportError as error:
    raise ImportError("A press needs kvpress: `pip install kvpress==0.5.5`, in an environment of its own") from error

POOL = 7
"""Width of the max-pooling over scores where words are not known."""


@dataclass
class JudgeQPress(ScorerPress):
    """Keeps the rows that trained soft tokens attend to (arXiv 2509.10798).

    Inside `with press(model):` the soft tokens follow everything that is prefilled. Each layer scores with them after
    its attention and drops their rows with those it evicts; the model's output is that of the prompt alone, unchanged.

    Attributes:
        compression_ratio: share of the prompt's rows that is removed.
        folder: soft tokens of the model, `judgeq_config.json` and `soft_tokens.safetensors`.
        tokenizer: the model's, a fast one: a word is kept or removed as one, as in `judgeq.methods.JudgeQ`. Prompts
            must be given as `input_ids` then. None = each row by its own score.
        pool: width of the max-pooling over neighbouring scores, odd; 1 = none. None = 1 with a tokenizer, else 7.
    """

    folder: str = ""
    tokenizer: Any = None
    pool: int | None = None
    tensors: dict[str, Tensor] = field(init=False, repr=False, compare=False)
    prefilling: bool = field(init=False, repr=False, compare=False, default=False)
    words: Tensor | None = field(init=False, repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        super().__post_init__()
        config = Path(self.folder) / "judgeq_config.json"
        if not config.is_file():
            raise ValueError(f"{self.folder!r} holds no soft tokens: name a folder that `judgeq train` has finished")
        if self.pool is None:
            self.pool = POOL if self.tokenizer is None else 1
        if self.pool < 1 or self.pool % 2 == 0:
            raise ValueError(f"pool is {self.pool}: give an odd width")
        self.base_model = json.loads(config.read_text(encoding="utf-8"))["base_model"]
        self.tensors = load_file(Path(self.folder) / "soft_tokens.safetensors")

    @property
    def n(self) -> int:
        """Number of soft tokens, `S`."""
        return len(self.tensors["soft_tokens"])

    @contextlib.contextmanager
    def __call__(self, model: Any) -> Iterator[None]:
        """Within this block, prompts that `model` reads are read with the soft tokens after them, and compressed."""
        self._check(model)
        inner = model.model
        maps = dict(inner.layers.named_modules())
        with super().__call__(model), contextlib.ExitStack() as stack:
            stack.callback(inner.register_forward_pre_hook(self._append, with_kwargs=True).remove)
            stack.callback(inner.register_forward_hook(self._take_off).remove)
            for name, (down, up) in self._adapters().items():
                stack.callback(maps[name].register_forward_hook(self._term(down, up)).remove)
            yield

    def score(
        self, module: Any, hidden_states: Tensor, keys: Tensor, values: Tensor, attentions: Any, kwargs: Any
    ) -> Tensor:
        """(B, H_kv, T), higher = keep: the mean attention of the soft tokens, before pooling.

        Args:
            hidden_states: (B, T + S, hidden).
            keys: (B, H_kv, T + S, D), after RoPE.
            kwargs: of the attention layer, with `position_embeddings` of all T + S positions.
        """
        queries = get_prerope_query_states(module, hidden_states[:, -self.n :])  # (B, H, S, D)
        if "query_offsets" in self.tensors:
            queries = queries + self.tensors["query_offsets"][module.layer_idx].to(queries)
        cos, sin = (part[:, None, -self.n :] for part in kwargs["position_embeddings"])
        queries = queries * cos + _rotate_half(queries) * sin
        grouped = queries.unflatten(1, (keys.shape[1], -1))  # (B, H_kv, G, S, D)
        logits = torch.einsum("bkgsd,bktd->bkgst", grouped, keys).float() * module.scaling
        later = torch.ones(self.n, keys.shape[2], dtype=torch.bool, device=keys.device).triu(keys.shape[2] - self.n + 1)
        weights = logits.masked_fill(later, float("-inf")).softmax(-1)
        return weights[..., : -self.n].mean(dim=(2, 3))

    def compress(
        self, module: Any, hidden_states: Tensor, keys: Tensor, values: Tensor, attentions: Any, kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Keys and values of the kept rows, in the order of the prompt; the soft tokens' rows are always dropped."""
        rows = self.kept(self.score(module, hidden_states, keys, values, attentions, kwargs))
        index = rows[..., None].expand(-1, -1, -1, keys.shape[-1])
        return keys.gather(2, index).contiguous(), values.gather(2, index).contiguous()

    def kept(self, scores: Tensor) -> Tensor:
        """(B, H_kv, rows), ascending: the best rows by pooled score, equals by their own score, then the earlier."""
        pooled = self.pooled(scores)
        by_own = scores.argsort(dim=-1, descending=True, stable=True)
        by_pooled = pooled.gather(-1, by_own).argsort(dim=-1, descending=True, stable=True)
        count = compute_n_kept(scores.shape[-1], self.compression_ratio)
        return by_own.gather(-1, by_pooled)[..., :count].sort(-1).values

    def pooled(self, scores: Tensor) -> Tensor:
        """(B, H_kv, T) scores after max-pooling, those of a word its best."""
        width = self.pool or 1
        pooled = F.max_pool1d(scores, width, stride=1, padding=width // 2)
        if self.words is None:
            return pooled
        from judgeq.methods.selection import best_of_words

        return best_of_words(pooled, self.words.to(scores.device))

    def _append(self, inner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[()], dict[str, Any]]:
        """A prefill's inputs with the soft tokens after them; other passes are left alone."""
        kwargs = dict(zip(inspect.signature(inner.forward).parameters, args, strict=False)) | kwargs
        cache = kwargs.get("past_key_values")
        self.prefilling = cache is None or cache.get_seq_length() == 0
        if not self.prefilling:
            return (), kwargs
        embeds, ids = kwargs.get("inputs_embeds"), kwargs.pop("input_ids", None)
        if self.tokenizer is not None:
            if ids is None:
                raise ValueError("Words are not known of inputs_embeds: give input_ids, or no tokenizer")
            from judgeq.prompts.token_words import number_words

            self.words = number_words(self.tokenizer, ids)
        if embeds is None:
            embeds = inner.get_input_embeddings()(ids)
        soft = self.tensors["soft_tokens"].to(embeds).expand(len(embeds), -1, -1)
        kwargs["inputs_embeds"] = torch.cat([embeds, soft], dim=1)  # (B, T + S, hidden)
        if (mask := kwargs.get("attention_mask")) is not None:
            kwargs["attention_mask"] = F.pad(mask, (0, self.n), value=1)
        for name in ("position_ids", "cache_position"):
            if (at := kwargs.get(name)) is not None:
                later = torch.arange(1, self.n + 1, device=at.device)
                kwargs[name] = torch.cat([at, at[..., -1:] + later], dim=-1)
        return (), kwargs

    def _take_off(self, inner: Any, args: tuple[Any, ...], output: Any) -> None:
        """The prompt's own output, without that of the soft tokens."""
        if self.prefilling:
            output.last_hidden_state = output.last_hidden_state[:, : -self.n]
            self.prefilling = False

    def _adapters(self) -> dict[str, tuple[Tensor, Tensor]]:
        """(in, rank) and (rank, out) of each adapted linear map, by its name among the layers."""
        found = [name.removeprefix("adapter_down.") for name in self.tensors if name.startswith("adapter_down.")]
        return {name: (self.tensors[f"adapter_down.{name}"], self.tensors[f"adapter_up.{name}"]) for name in found}

    def _term(self, down: Tensor, up: Tensor) -> Callable[..., None]:
        """A forward hook that adds an adapter's term at the soft tokens' positions of a prefill."""

        def add(linear: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if self.prefilling:
                soft = inputs[0][..., -self.n :, :]
                output[..., -self.n :, :] += (soft @ down.to(soft)) @ up.to(soft)

        return add

    def _check(self, model: Any) -> None:
        """Refuse a model that these soft tokens were not trained for, as far as sizes tell."""
        config = model.config.get_text_config(decoder=True)
        kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
        if kinds != {"full_attention"} or getattr(config, "sliding_window", None):
            raise ValueError(
                "This model has layers with a sliding window, which keep the soft tokens: use judgeq itself"
            )
        layers, offsets = model.model.layers, self.tensors.get("query_offsets")
        size = len(layers), config.num_attention_heads, self.n, layers[0].self_attn.head_dim
        maps = {
            name: (part.in_features, part.out_features)
            for name, part in layers.named_modules()
            if isinstance(part, nn.Linear)
        }
        adapted = {name: (len(down), up.shape[1]) for name, (down, up) in self._adapters().items()}
        for what, fits in (
            ("width", self.tensors["soft_tokens"].shape[1] == config.hidden_size),
            ("query offsets", offsets is None or tuple(offsets.shape) == size),
            ("adapters", not adapted or adapted == maps),
        ):
            if not fits:
                raise ValueError(
                    f"{self.folder} holds soft tokens of {self.base_model}, which do not fit this model ({what})"
                )


def _rotate_half(tensor: Tensor) -> Tensor:
    first, second = tensor.chunk(2, dim=-1)
    return torch.cat([-second, first], dim=-1)
