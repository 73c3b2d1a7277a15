"""From logits to the next index: small pure functions, and a sampler that composes them.

This room knows nothing of weights or text; random numbers come from a ``numpy.random.Generator``
that is handed in.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.config import SamplingConfig

__all__ = ["Sampler", "apply_temperature", "draw", "softmax"]

Logits = NDArray[np.floating[Any]]

_BLOCK = 1024


def softmax(logits: Logits) -> Logits:
    """Probabilities (..., V) of logits (..., V)."""
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True))


def apply_temperature(logits: Logits, temperature: float) -> Logits:
    """Logits divided by a temperature above 0, the largest moved to 0 so that none overflows."""
    return np.asarray((logits - logits.max()) / max(temperature, 1e-6))


def draw(logits: Logits, uniform: float) -> int:
    """The index whose share of the softmax of ``logits`` (V,) holds ``uniform`` in [0, 1)."""
    cumulative = np.exp(logits - logits.max()).cumsum(dtype=np.float64)
    index = int(cumulative.searchsorted(uniform * cumulative[-1], side="right"))
    return min(index, logits.size - 1)


class Sampler:
    """Draws indices as ``config`` asks; one sampler a stream of text."""

    def __init__(self, config: SamplingConfig, generator: np.random.Generator) -> None:
        self._temperature = config.temperature
        self._uniforms = _uniforms(generator)

    def __call__(self, logits: Logits) -> int:
        """The next index, given logits (V,)."""
        if self._temperature == 0:
            return int(logits.argmax())
        return draw(apply_temperature(logits, self._temperature), next(self._uniforms))


def _uniforms(generator: np.random.Generator) -> Iterator[float]:
    while True:
        yield from generator.random(_BLOCK).tolist()
