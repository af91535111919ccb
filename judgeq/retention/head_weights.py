"""What each query head attends to, in the space of the rows that are kept. Arrays only; knows nothing of text."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from judgeq.objects import brief


@dataclass(frozen=True, eq=False)
class HeadWeights:
    """The weights of all query heads, after the first token without the rows that are evicted.

    Attributes:
        first: (L, H, T + 1) float16, of the first token, which attends to all rows.
        columns: for each layer and KV head (C,) ascending indices of the rows that its query heads attend to later.
        values: for each of these (N - 1, G, C) float16.
    """

    __repr__ = brief

    first: np.ndarray
    columns: tuple[tuple[np.ndarray, ...], ...]
    values: tuple[tuple[np.ndarray, ...], ...]

    @classmethod
    def of(cls, weights: np.ndarray, kv_heads: int) -> HeadWeights:
        """From (N, L, H, T + 1) float16."""
        columns, values = [], []
        for layer in range(weights.shape[1]):
            groups = np.split(weights[1:, layer], kv_heads, axis=1)
            columns.append(tuple(np.flatnonzero(each.any((0, 1))).astype(np.int32) for each in groups))
            values.append(tuple(each[:, :, at] for each, at in zip(groups, columns[-1], strict=True)))
        return cls(weights[0].copy(), tuple(columns), tuple(values))

    @property
    def heads(self) -> int:
        """H, query heads of a layer."""
        return self.first.shape[1]

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        later = (each for parts in (self.columns, self.values) for layer in parts for each in layer)
        return self.first.nbytes + sum(each.nbytes for each in later)

    def of_head(self, layer: int, head: int) -> np.ndarray:
        """(N, T + 1) float32."""
        group, place = divmod(head, self.values[layer][0].shape[1])
        own = self.values[layer][group][:, place]
        found = np.zeros((1 + len(own), self.first.shape[-1]), dtype=np.float32)
        found[0] = self.first[layer, head]
        found[1:, self.columns[layer][group]] = own
        return found
