"""What a trained network does inside, as numbers: activations, units, embedding, memory.

It reads with ``cells``, the readable equations, because it needs every layer's state and the
backward pass; the results keep the dtype of the weights. A text is read from zero state; a model
trained on windows is read as it predicts, with the ``window`` characters up to each place, from
zero state again. Layers are counted from 1, as in the model file, and units from 0. This room
knows nothing of files, pictures or whoever looks at them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chargen.cells import Array, Cache, CellWeights, LSTMCache, State, backward, forward, zero_state
from chargen.config import ModelConfig
from chargen.errors import TextError, UsageError
from chargen.vocabulary import counted

__all__ = [
    "LearningCurves",
    "Projection",
    "Series",
    "UnitMatch",
    "activations",
    "correlations",
    "find_units",
    "gradient_norms",
    "learning_curves",
    "moving_average",
    "principal_components",
]

Indices = NDArray[np.integer[Any]]
Floats = NDArray[np.float64]

_PARTS = ("kernel", "recurrent_kernel", "bias")
_STEPS = 512  # steps of one stream read at a time
_ROWS = 64  # windows read side by side


# Reading


class _Network:
    """The weights of a model as ``cells`` takes them."""

    def __init__(self, config: ModelConfig, tensors: Mapping[str, Array]) -> None:
        self.cell = config.cell
        self.units = config.units
        self.embedding = tensors["embedding"]  # (V, E)
        self.layers = [
            CellWeights(*(tensors[f"recurrent_{layer}/{part}"] for part in _PARTS))
            for layer in range(1, config.num_layers + 1)
        ]
        self.head_kernel = tensors["head/kernel"]  # (H, V)
        self.head_bias = tensors["head/bias"]  # (V,)

    def position(self, layer: int | None) -> int:
        """Where in ``layers`` the layer of that number is; None is the last."""
        if layer is None:
            return len(self.layers) - 1
        if not 1 <= layer <= len(self.layers):
            raise UsageError(
                f"--layer {layer}: expected a layer of the model, from 1 to {len(self.layers)}"
            )
        return layer - 1

    def zero_states(self, batch_size: int) -> list[State]:
        dtype = self.embedding.dtype
        return [zero_state(self.cell, batch_size, self.units, dtype) for _ in self.layers]

    def read(
        self, tokens: Indices, states: Sequence[State]
    ) -> tuple[Array, list[State], list[Cache]]:
        """The last layer's outputs (T, B, H) of tokens (T, B), and each layer's state after them
        and its cache."""
        outputs = self.embedding[tokens]  # (T, B, E)
        after, caches = [], []
        for weights, state in zip(self.layers, states, strict=True):
            outputs, final, cache = forward(self.cell, weights, outputs, state)
            after.append(final)
            caches.append(cache)
        return outputs, after, caches

    def read_on(self, tokens: Indices, states: Sequence[State]) -> Sequence[State]:
        """Each layer's state after one stream of tokens (N,)."""
        for first in range(0, tokens.size, _STEPS):
            _, states, _ = self.read(tokens[first : first + _STEPS, np.newaxis], states)
        return states

    def surprisal_gradient(self, outputs: Array, targets: Indices) -> Array:
        """The gradient (B, H) of the surprisals in nats of ``targets`` (B,) by the last layer's
        outputs (B, H): (p - the target's one-hot vector) times the transposed kernel."""
        logits = outputs @ self.head_kernel + self.head_bias  # (B, V)
        logits -= logits.max(axis=-1, keepdims=True)
        differences = np.exp(logits)  # (B, V)
        differences /= differences.sum(axis=-1, keepdims=True)
        differences[np.arange(targets.size), targets] -= 1
        return differences @ self.head_kernel.T


def activations(
    config: ModelConfig,
    tensors: Mapping[str, Array],
    tokens: Indices,
    *,
    layer: int | None = None,
    cell_state: bool = False,
    window: int | None = None,
) -> Array:
    """What a layer (None: the last) holds after each of ``tokens`` (N,): h, (N, H).

    With ``cell_state`` it is c, which only an LSTM has. Raises ``UsageError`` for a layer or a
    cell state that the model does not have.
    """
    if cell_state and config.cell != "lstm":
        raise UsageError(f"--cell-state: only an LSTM has one, this is a {config.cell.upper()}")
    network = _Network(config, tensors)
    place = network.position(layer)
    found = np.empty((tokens.size, config.units), network.embedding.dtype)
    carried = tokens if window is None else tokens[: window - 1]  # no window is full before it
    states: Sequence[State] = network.zero_states(1)
    for first in range(0, carried.size, _STEPS):
        block = carried[first : first + _STEPS, np.newaxis]
        _, states, caches = network.read(block, states)
        cache = caches[place]
        after = cache.cell_states if cell_state and isinstance(cache, LSTMCache) else cache.hidden
        found[first : first + len(block)] = after[1:, 0]
    if window is not None:
        for first in range(carried.size, tokens.size, _ROWS):
            ends = np.arange(first, min(first + _ROWS, tokens.size))
            windows = _windows(tokens, ends, window)
            _, states, _ = network.read(windows, network.zero_states(ends.size))
            found[ends] = states[place][1 if cell_state else 0]
    return found


def _windows(tokens: Indices, ends: Indices, steps: int) -> Indices:
    """The ``steps`` tokens up to each of ``ends`` (B,), that one included: (steps, B)."""
    return tokens[ends + np.arange(1 - steps, 1)[:, np.newaxis]]


def moving_average(values: Floats, width: int) -> Floats:
    """The mean of the ``width`` values (an odd number) around each place, (N,): of those that
    there are at the ends, and of numbers alone."""
    is_number = ~np.isnan(values)
    reach = width // 2
    start = np.maximum(np.arange(values.size) - reach, 0)
    end = np.minimum(np.arange(values.size) + reach + 1, values.size)
    sums = np.concatenate([[0.0], np.cumsum(np.where(is_number, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(is_number)])
    with np.errstate(invalid="ignore"):  # where there is no number at all
        means: Floats = (sums[end] - sums[start]) / (counts[end] - counts[start])
    return means


# Training


class Series(NamedTuple):
    """Values by step."""

    steps: list[float]
    values: list[float]


class LearningCurves(NamedTuple):
    """The loss in training and the held-out figure, in bits, and the learning rate."""

    training: Series
    held_out: Series
    learning_rate: Series


def learning_curves(history: Sequence[Mapping[str, float]]) -> LearningCurves:
    """What the history of a model holds, of each what it has: it may lack the last two."""

    def series(key: str, scale: float = 1.0) -> Series:
        points = [point for point in history if key in point]
        return Series([point["step"] for point in points], [scale * p[key] for p in points])

    return LearningCurves(
        series("loss", 1 / math.log(2)), series("bits_per_char"), series("learning_rate")
    )


# Units that follow something


class UnitMatch(NamedTuple):
    """How closely a unit follows a feature: Pearson's correlation, from -1 to 1."""

    feature: str
    unit: int
    correlation: float


def correlations(activations: Array, features: Floats) -> Floats:
    """Pearson's correlation of each unit, (N, H), with each of the features (F, N): (F, H).

    0 for a unit or a feature that never changes.
    """
    units = _standardized(activations.astype(np.float64).T)  # (H, N)
    found: Floats = _standardized(features) @ units.T
    return found


def _standardized(rows: Floats) -> Floats:
    """Each row less its mean, and of length 1; or all 0 if it never changes."""
    centred = rows - rows.mean(axis=1, keepdims=True)
    centred[np.ptp(rows, axis=1) == 0] = 0
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.divide(centred, lengths, out=centred, where=lengths > 0)


def find_units(
    activations: Array, features: Mapping[str, Floats], count: int = 3
) -> list[UnitMatch]:
    """For each of the features that vary, the ``count`` units that follow it most closely, up or
    down: by the absolute correlation over the text."""
    varying = [name for name, feature in features.items() if np.ptp(feature) > 0]
    if not varying:
        return []
    found = correlations(activations, np.stack([features[name] for name in varying]))
    return [
        UnitMatch(name, int(unit), float(row[unit]))
        for name, row in zip(varying, found, strict=True)
        for unit in np.argsort(-np.abs(row), kind="stable")[:count]
    ]


# The embedding


class Projection(NamedTuple):
    """Rows in two dimensions, and the share of the whole variance that each dimension holds."""

    points: Floats  # (V, 2)
    shares: Floats  # (2,)


def principal_components(matrix: Array) -> Projection:
    """The rows of ``matrix`` (V, E) along the two directions in which they vary most.

    Pearson 1901, "On lines and planes of closest fit to systems of points in space",
    Philosophical Magazine 2: X - mean = U S V^T, and the points are the first columns of U S. A
    direction's sign, which is free, is such that its largest part is positive.
    """
    centred = matrix.astype(np.float64)
    centred -= centred.mean(axis=0)
    left, singular, directions = np.linalg.svd(centred, full_matrices=False)
    kept = min(2, singular.size)
    largest = np.abs(directions[:kept]).argmax(axis=1)
    signs = np.sign(directions[np.arange(kept), largest])
    points, shares = np.zeros((len(matrix), 2)), np.zeros(2)
    points[:, :kept] = left[:, :kept] * singular[:kept] * signs
    if variance := float(np.sum(singular**2)):
        shares[:kept] = singular[:kept] ** 2 / variance
    return Projection(points, shares)


# How far back the model looks


def gradient_norms(
    config: ModelConfig,
    tensors: Mapping[str, Array],
    tokens: Indices,
    *,
    distance: int,
    positions: int = 256,
    layer: int | None = None,
    window: int | None = None,
) -> Floats:
    """How much the loss at a place depends on the state k steps before it: the mean over places t
    of the Euclidean norm of dloss(t)/dh(t-k), for k = 0 ... ``distance``, (distance + 1,).

    loss(t) is the surprisal in nats of the token after t, given the state carried from the
    beginning of the text; h is that of a layer (None: the last), on all ways by which it reaches
    the loss, in an LSTM with c(t-k) held fixed. That this falls geometrically with k in a simple
    recurrent network is the vanishing gradient (Hochreiter 1991; Bengio, Simard & Frasconi 1994,
    IEEE Transactions on Neural Networks 5). The ``positions`` places are evenly spread over those
    that have ``distance`` steps before them. A model trained on windows sees no further back than
    its window's first character, and the result ends there.

    Raises ``TextError`` for a text that is too short.
    """
    if distance < 0:
        raise UsageError(f"--distance {distance}: expected a whole number of 0 or more")
    network = _Network(config, tensors)
    place = network.position(layer)
    steps = distance + 1 if window is None else window
    distance = min(distance, steps - 1)
    if tokens.size < steps + 1:
        raise TextError(
            f"--text: holds {counted(tokens.size)}; looking {steps - 1:,} back needs at least"
            f" {steps + 1:,} (--distance, -n/--length)"
        )
    spread = np.linspace(steps - 1, tokens.size - 2, max(1, positions))
    ends = np.unique(spread.round().astype(np.intp))
    sums = np.zeros(distance + 1)
    states: Sequence[State] = network.zero_states(1)
    read = 0
    for first in range(0, ends.size, _ROWS):
        some = ends[first : first + _ROWS]
        if window is None:
            before = []  # the states with which each window begins
            for start in some - (steps - 1):
                states = network.read_on(tokens[read:start], states)
                read = start
                before.append(states)
            begin = _side_by_side(before)
        else:
            begin = network.zero_states(some.size)
        windows = _windows(tokens, some, steps)
        norms = _norms_over_time(network, place, windows, tokens[some + 1], begin)  # (steps, B)
        sums += norms[::-1][: distance + 1].sum(axis=1)
    return sums / ends.size


def _side_by_side(states: Sequence[Sequence[State]]) -> list[State]:
    """One state of B rows for each layer, of B states of one row for each layer."""
    return [
        tuple(np.concatenate(arrays) for arrays in zip(*of_layer, strict=True))
        for of_layer in zip(*states, strict=True)
    ]


def _norms_over_time(
    network: _Network, place: int, windows: Indices, targets: Indices, states: Sequence[State]
) -> Floats:
    """The norms (T, B) of the gradients by h of the loss after the last step of ``windows``
    (T, B), of which the ``targets`` (B,) come next."""
    outputs, _, caches = network.read(windows, states)
    gradient = np.zeros_like(outputs)  # (T, B, H)
    gradient[-1] = network.surprisal_gradient(outputs[-1], targets)
    no_gradient = zero_state(network.cell, targets.size, network.units, outputs.dtype)
    hidden = gradient
    for weights, cache in reversed(list(zip(network.layers, caches, strict=True))[place:]):
        gradient, _, _, hidden = backward(network.cell, weights, cache, gradient, no_gradient)
    # Squares of what has vanished are below the smallest float32 long before it is.
    return np.linalg.norm(hidden.astype(np.float64), axis=-1)
