"""What an answer attends to while it is written, as the page shows it. Knows nothing of Gradio or HTML."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Literal

import numpy as np

from app.server.task import Lane, Lit
from judgeq.inference.answers import Writer
from judgeq.inference.attending import Apart
from judgeq.models.language_model import Geometry
from judgeq.retention.attended import MEDIAN_OF, Attended, resting
from judgeq.retention.glow import Lights, words_of_tokens

HEADS_BYTES, LAYERS_BYTES = 32_000_000, 16_000_000
"""Most that one answer takes so that each head, or each layer, can be shown alone; a longer one shows all together."""
RANKED_EVERY_S = 0.25
"""Sentences are ranked so often while an answer is written."""


class Live:
    """Follows one answer. Each token lights what it attends to beyond the median of the tokens so far.

    After the end `finish` puts what all tokens together show in the place of that.
    """

    def __init__(self, lights: Lights, lane: Lane) -> None:
        self._lights, self._lane = lights, lane
        self._rows: list[np.ndarray] = []
        self._rest = np.zeros(lights.found.tokens, dtype=np.float32)
        self._sum = np.zeros(lights.found.tokens, dtype=np.float32)
        self._ranked = 0.0

    def follow(self, writer: Writer) -> None:
        """Take what was written since the last call."""
        new = writer.attended_since(len(self._rows))
        if new is None:
            return
        for word, row in zip(words_of_tokens(new.text, new.spans), new.weights, strict=True):
            self._rows.append(row)
            count = len(self._rows)
            if 2 < count <= MEDIAN_OF and count % (1 + count // 8) == 0:
                self._rest = resting(np.stack(self._rows))
            specific = np.maximum(row - self._rest, 0)
            if count < 3:  # attention rests wherever it always does: nothing to see yet
                self._lane.steps.append([word])
                continue
            self._sum += specific
            self._lane.steps.append([word, *self._lights.of(specific)])
        if time.monotonic() - self._ranked > RANKED_EVERY_S:
            self._lane.leaning = self._lights.leaning(self._sum)
            self._ranked = time.monotonic()

    def finish(self) -> None:
        """Show what was measured, all tokens taken together."""
        answer = self._lane.answer
        if answer is not None and answer.attended is not None:
            self._lane.steps, self._lane.leaning = lit(self._lights, answer.attended)


def lit(lights: Lights, attended: Attended) -> Lit:
    """What a whole answer lights and leans on."""
    return lights.steps(attended), lights.leaning(attended.specific.sum(0))


def what_to_record(geometry: Geometry, tokens: int, prompt: int) -> Literal[True] | Apart:
    """What of an answer of at most this many tokens is recorded apart; `attended` of `judgeq.read`."""
    layers = 2 * geometry.layers * tokens * prompt
    if layers * geometry.heads <= HEADS_BYTES:
        return "heads"
    return "layers" if layers <= LAYERS_BYTES else True


def lit_by_layer(lanes: Sequence[Lane], layers: Sequence[int], head: int | None = None) -> dict[str, list[Lit]]:
    """The same for each of these layers, or one query head of each, by method; none where they were not recorded."""
    found = dict[str, list[Lit]]()
    lights: Lights | None = None
    for lane in lanes:
        attended = lane.answer and lane.answer.attended
        if attended and attended.layers is not None:
            lights = lights or Lights(attended.found)
            found[lane.method] = [lit(lights, attended.of_layer(layer, head)) for layer in layers]
        elif lane.by_layer:
            found[lane.method] = [lane.by_layer[layer] for layer in layers]
    return found
