"""From logits to the next index: small pure functions, and samplers that compose them.

The order is: characters that are not allowed, repetition penalty, temperature, top-k, top-p,
min-p. Each function takes logits (..., V) and gives logits with what it leaves out at -inf, never
all of them; ``softmax`` of the result is the distribution that is drawn from. `Sampler` draws for
one stream at a time and does the same with one sort and buffers it keeps; `BatchSampler` draws for
many. This room knows nothing of weights or text; random numbers come from a
``numpy.random.Generator`` that is handed in.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.config import SamplingConfig

__all__ = [
    "BatchSampler",
    "Sampler",
    "apply_allowed",
    "apply_min_p",
    "apply_repetition_penalty",
    "apply_temperature",
    "apply_top_k",
    "apply_top_p",
    "draw",
    "softmax",
]

Logits = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]

_BLOCK = 1024  # random numbers drawn at a time
_COLDEST = 1e-6  # a temperature below it is this one
_LARGEST_EXPONENT = 700.0  # exp of it, about 1e304, does not overflow
_SMALLEST_TOTAL, _LARGEST_TOTAL = 1e-200, 1e303  # of sums that can be trusted


def softmax(logits: Logits) -> Logits:
    """Probabilities (..., V) of logits (..., V)."""
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True))


def apply_allowed(logits: Logits, allowed: Mask) -> Logits:
    """Leave out what is not ``allowed`` (V,)."""
    return np.where(allowed, logits, -np.inf)


def apply_repetition_penalty(logits: Logits, recent: Mask, penalty: float) -> Logits:
    """Divide positive logits of ``recent`` (..., V) tokens by ``penalty``, multiply negative ones
    by it (Keskar et al. 2019, CTRL)."""
    penalised = np.where(logits > 0, logits / penalty, logits * penalty)
    return np.where(recent, penalised, logits)


def apply_temperature(logits: Logits, temperature: float) -> Logits:
    """Logits over a temperature above 0, the largest moved to 0 so that none overflows."""
    largest = logits.max(axis=-1, keepdims=True)
    return np.asarray((logits - largest) / max(temperature, _COLDEST))


def apply_top_k(logits: Logits, top_k: int) -> Logits:
    """Keep the ``top_k`` largest, and what is equal to the least of them; 0 keeps all."""
    if not 0 < top_k < logits.shape[-1]:
        return logits
    least = np.partition(logits, -top_k, axis=-1)[..., -top_k, np.newaxis]
    return np.where(logits >= least, logits, -np.inf)


def apply_top_p(logits: Logits, top_p: float) -> Logits:
    """Keep the fewest of the likeliest whose probabilities reach ``top_p`` together, and what is
    equal to the least of them (nucleus sampling, Holtzman et al. 2020)."""
    if top_p >= 1:
        return logits
    ordered = -np.sort(-logits, axis=-1)
    reached = np.exp(ordered - ordered[..., :1], dtype=np.float64).cumsum(axis=-1)
    last = (reached < top_p * reached[..., -1:]).sum(axis=-1, keepdims=True)
    return np.where(logits >= np.take_along_axis(ordered, last, axis=-1), logits, -np.inf)


def apply_min_p(logits: Logits, min_p: float) -> Logits:
    """Keep what is at least ``min_p`` times as likely as the likeliest (Nguyen et al. 2024)."""
    if min_p <= 0:
        return logits
    largest = logits.max(axis=-1, keepdims=True)
    return np.where(logits - largest >= np.log(min_p), logits, -np.inf)


def draw(logits: Logits, uniform: float) -> int:
    """The index whose share of the softmax of ``logits`` (V,) holds ``uniform`` in [0, 1)."""
    cumulative = np.exp(logits - logits.max()).cumsum(dtype=np.float64)
    return _index_of(cumulative, uniform)


def _index_of(cumulative: NDArray[np.float64], uniform: float) -> int:
    """The first index whose cumulative share is larger, and so never one of no share."""
    total = float(cumulative[-1])
    wanted = uniform * total
    if wanted >= total:  # rounded up
        wanted = math.nextafter(total, 0.0)
    return int(cumulative.searchsorted(wanted, "right"))


class Sampler:
    """Draws the indices of one stream as ``config`` asks.

    Args:
        allowed: which indices (V,) may be drawn; None is all.
        recent: what came before, for the repetition penalty.
    """

    def __init__(
        self,
        config: SamplingConfig,
        generator: np.random.Generator,
        *,
        allowed: Mask | None = None,
        recent: Iterable[int] = (),
    ) -> None:
        self._config = config
        self._allowed = allowed
        self._uniforms = _uniforms(generator)
        self._penalises = config.repetition_penalty != 1
        self._recent = _Recent(config.repetition_window, recent)
        self._shortens = _shortens(config)
        self._inverse_temperature = 1.0 / max(config.temperature, _COLDEST)
        self._buffer: NDArray[np.float64] | None = None

    def __call__(self, logits: Logits) -> int:
        """The next index, given logits (V,)."""
        config = self._config
        if self._allowed is not None:
            logits = apply_allowed(logits, self._allowed)
        if self._penalises:
            logits = self._penalised(logits)
        if config.temperature == 0:
            index = int(logits.argmax())
        elif self._shortens:
            index = self._draw_from_few(logits)
        else:
            index = self._draw_from_all(logits)
        if self._penalises:
            self._recent.add(index)
        return index

    def _draw_from_all(self, logits: Logits) -> int:
        """``draw`` at the temperature, in one buffer; the largest logit is not looked for unless
        the exponentials turn out too large or too small."""
        if self._buffer is None:
            self._buffer = np.empty(logits.size)
        cumulative, uniform = self._buffer, next(self._uniforms)
        np.copyto(cumulative, logits)
        np.multiply(cumulative, self._inverse_temperature, cumulative)
        np.minimum(cumulative, _LARGEST_EXPONENT, out=cumulative)
        np.exp(cumulative, cumulative)
        np.add.accumulate(cumulative, 0, None, cumulative)
        if _SMALLEST_TOTAL < cumulative[-1] < _LARGEST_TOTAL:
            return _index_of(cumulative, uniform)
        return draw(apply_temperature(logits, self._config.temperature), uniform)

    def _penalised(self, logits: Logits) -> Logits:
        """``apply_repetition_penalty`` on the few that are recent."""
        recent = self._recent.indices()
        values = logits[recent]
        penalty = self._config.repetition_penalty
        logits = logits.copy()
        logits[recent] = np.where(values > 0, values / penalty, values * penalty)
        return logits

    def _draw_from_few(self, logits: Logits) -> int:
        """Temperature, top-k, top-p and min-p on logits sorted once: all keep the likeliest."""
        config = self._config
        order = (-logits).argsort(kind="stable")
        ordered = logits[order]
        ordered -= ordered[0]
        ordered /= max(config.temperature, _COLDEST)
        count = ordered.size
        if 0 < config.top_k < count:
            count = _with_equals(ordered, config.top_k, count)
        cumulative = np.exp(ordered[:count], dtype=np.float64).cumsum()
        if config.top_p < 1:
            reached = int(cumulative.searchsorted(config.top_p * cumulative[-1])) + 1
            count = _with_equals(ordered, min(reached, count), count)
        if config.min_p > 0:
            count = min(count, int((-ordered).searchsorted(-np.log(config.min_p), "right")))
        return int(order[_index_of(cumulative[:count], next(self._uniforms))])


class _Recent:
    """The last ``window`` indices, each counted."""

    def __init__(self, window: int, indices: Iterable[int]) -> None:
        self._last = deque(indices, maxlen=window)
        self._counts = Counter(self._last)

    def add(self, index: int) -> None:
        if len(self._last) == self._last.maxlen:
            oldest = self._last[0]
            self._counts[oldest] -= 1
            if not self._counts[oldest]:
                del self._counts[oldest]
        self._last.append(index)
        self._counts[index] += 1

    def indices(self) -> NDArray[np.intp]:
        """Each of them once."""
        return np.fromiter(self._counts, np.intp, len(self._counts))


def _shortens(config: SamplingConfig) -> bool:
    return config.top_k > 0 or config.top_p < 1 or config.min_p > 0


def _with_equals(ordered: Logits, count: int, most: int) -> int:
    """``count``, and as many more as are equal to the last of them."""
    while count < most and ordered[count] == ordered[count - 1]:
        count += 1
    return count


class BatchSampler:
    """Draws for many streams at once, each with its own random numbers: stream b draws what a
    ``Sampler`` with ``generators[b]`` would."""

    def __init__(
        self,
        config: SamplingConfig,
        generators: Sequence[np.random.Generator],
        *,
        allowed: Mask | None = None,
        recent: Iterable[int] = (),
    ) -> None:
        self._config = config
        self._allowed = allowed
        self._generators = generators
        self._uniforms = np.empty((0, len(generators)))  # (steps, B), used from the front
        recent = list(recent)
        self._recent = [_Recent(config.repetition_window, recent) for _ in generators]
        self._shortens = _shortens(config)

    def __call__(self, logits: Logits) -> NDArray[np.intp]:
        """The next indices (B,), given logits (B, V)."""
        config = self._config
        if self._allowed is not None:
            logits = apply_allowed(logits, self._allowed)
        if config.repetition_penalty != 1:
            mask = np.zeros(logits.shape, np.bool_)
            for row, recent in zip(mask, self._recent, strict=True):
                row[recent.indices()] = True
            logits = apply_repetition_penalty(logits, mask, config.repetition_penalty)
        indices = logits.argmax(axis=-1) if config.temperature == 0 else self._draw(logits)
        if config.repetition_penalty != 1:
            for recent, index in zip(self._recent, indices.tolist(), strict=True):
                recent.add(index)
        return indices

    def _draw(self, logits: Logits) -> NDArray[np.intp]:
        if not len(self._uniforms):
            blocks = [generator.random(_BLOCK) for generator in self._generators]
            self._uniforms = np.stack(blocks, axis=1)
        uniforms, self._uniforms = self._uniforms[0], self._uniforms[1:]
        if self._shortens:
            return self._draw_from_few(logits, uniforms)
        return self._draw_from_all(logits, uniforms)

    def _draw_from_all(self, logits: Logits, uniforms: NDArray[np.float64]) -> NDArray[np.intp]:
        cumulative = logits.astype(np.float64, order="C")
        cumulative *= 1.0 / max(self._config.temperature, _COLDEST)
        np.minimum(cumulative, _LARGEST_EXPONENT, out=cumulative)
        np.exp(cumulative, cumulative)
        np.add.accumulate(cumulative, 1, None, cumulative)
        totals = cumulative[:, -1]
        indices = _indices_of(cumulative, totals, uniforms)
        for row in np.flatnonzero(~((totals > _SMALLEST_TOTAL) & (totals < _LARGEST_TOTAL))):
            scaled = apply_temperature(logits[row], self._config.temperature)
            indices[row] = draw(scaled, float(uniforms[row]))
        return indices

    def _draw_from_few(self, logits: Logits, uniforms: NDArray[np.float64]) -> NDArray[np.intp]:
        config = self._config
        order = (-logits).argsort(axis=-1, kind="stable")
        ordered = np.take_along_axis(logits, order, axis=-1)
        ordered -= ordered[:, :1].copy()
        ordered /= max(config.temperature, _COLDEST)
        kept = np.ones(ordered.shape, np.bool_)
        if 0 < config.top_k < ordered.shape[-1]:
            kept = ordered >= ordered[:, config.top_k - 1, np.newaxis]
        shares = np.exp(ordered, dtype=np.float64)
        cumulative = np.where(kept, shares, 0.0).cumsum(axis=-1)
        if config.top_p < 1:
            reached = (cumulative < config.top_p * cumulative[:, -1:]).sum(axis=-1, keepdims=True)
            kept &= ordered >= np.take_along_axis(ordered, reached, axis=-1)
        if config.min_p > 0:
            kept &= -ordered <= -np.log(config.min_p)
        last = kept.sum(axis=-1) - 1
        rows = np.arange(last.size)
        chosen = _indices_of(cumulative, cumulative[rows, last], uniforms)
        return np.asarray(order[rows, chosen])


def _indices_of(
    cumulative: NDArray[np.float64],
    totals: NDArray[np.float64],
    uniforms: NDArray[np.float64],
) -> NDArray[np.intp]:
    """``_index_of`` for each row of ``cumulative`` (B, V), up to its total (B,)."""
    wanted = uniforms * totals
    wanted = np.where(wanted < totals, wanted, np.nextafter(totals, 0.0))
    return np.count_nonzero(cumulative <= wanted[:, np.newaxis], axis=-1)


def _uniforms(generator: np.random.Generator) -> Iterator[float]:
    while True:
        yield from generator.random(_BLOCK).tolist()
