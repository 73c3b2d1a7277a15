"""From a line of tokens to batches: contiguous streams, or sliding windows.

A batch is a pure function of (random seed, step), so that a run can be repeated and resumed, and
any step is had at once. This room knows nothing of Keras.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from chargen.config import TrainingConfig
from chargen.corpus import Tokens
from chargen.permutation import Permutation

__all__ = ["Batch", "SlidingWindows", "Streams", "Windows", "fitted_shape", "windows_of"]


class Batch(NamedTuple):
    """``inputs`` (B, T); ``targets`` (B, T), or (B,) for sliding windows; ``carry`` (B,) is false
    where the state must be zero before this batch."""

    inputs: NDArray[Any]
    targets: NDArray[Any]
    carry: NDArray[np.bool_]


class Windows(Protocol):
    """What training asks of a way to cut a corpus."""

    steps_per_epoch: float

    def batch(self, step: int) -> Batch: ...


class Streams:
    """``batch_size`` contiguous streams for truncated back-propagation through time.

    Stream b of an epoch reads ``windows_per_epoch`` windows in a row, so the state after one batch
    is the state before the next. Every epoch begins at another random offset, which moves the
    window bounds. Now and then a stream forgets and reads on from zero state: a network that has
    met zero state only at the head of an epoch may not find its way from there into text.
    """

    FORGET = 0.02  # of the windows

    def __init__(
        self, tokens: Tokens, batch_size: int, sequence_length: int, random_seed: int
    ) -> None:
        inputs = tokens.size - 1
        self._tokens = tokens
        self._sequence_length = sequence_length
        self._random_seed = random_seed
        # One window is kept back where there is room, as slack for the offset.
        self.windows_per_epoch = max(
            1, (inputs - sequence_length) // (batch_size * sequence_length)
        )
        self.steps_per_epoch = float(self.windows_per_epoch)
        stream_length = self.windows_per_epoch * sequence_length
        self._slack = inputs - batch_size * stream_length
        if self._slack < 0:
            raise ValueError("the tokens are too few for one batch; see fitted_shape")
        self._starts = np.arange(batch_size)[:, np.newaxis] * stream_length
        self._columns = np.arange(sequence_length + 1)

    def batch(self, step: int) -> Batch:
        epoch, window = divmod(step, self.windows_per_epoch)
        offset = np.random.default_rng((self._random_seed, epoch)).integers(self._slack + 1)
        first = offset + window * self._sequence_length
        piece = self._tokens[self._starts + (first + self._columns)]
        luck = np.random.default_rng((self._random_seed, epoch, window)).random(len(piece))
        carry = (luck >= self.FORGET) & (window > 0)
        return Batch(piece[:, :-1], piece[:, 1:], carry)


class SlidingWindows:
    """Windows ``stride`` apart, each with the one character after it, in random order.

    The order is drawn anew for every epoch; a batch may reach from one epoch into the next, so that
    all batches have one shape.
    """

    def __init__(
        self,
        tokens: Tokens,
        batch_size: int,
        sequence_length: int,
        random_seed: int,
        stride: int = 1,
    ) -> None:
        if tokens.size <= sequence_length:
            raise ValueError("the tokens are too few for one window; see fitted_shape")
        self._tokens = tokens
        self._batch_size = batch_size
        self._stride = stride
        self._random_seed = random_seed
        self.num_windows = (tokens.size - sequence_length - 1) // stride + 1
        self.steps_per_epoch = self.num_windows / batch_size
        self._columns = np.arange(sequence_length + 1)

    def batch(self, step: int) -> Batch:
        samples = np.arange(step * self._batch_size, (step + 1) * self._batch_size)
        epochs, positions = np.divmod(samples, self.num_windows)
        windows = np.empty_like(samples)
        for epoch in np.unique(epochs):
            order = Permutation(self.num_windows, (self._random_seed, int(epoch)))
            windows[epochs == epoch] = order(positions[epochs == epoch])
        piece = self._tokens[windows[:, np.newaxis] * self._stride + self._columns]
        return Batch(piece[:, :-1], piece[:, -1], np.zeros(len(piece), np.bool_))


def fitted_shape(
    size: int, batch_size: int, sequence_length: int, *, sliding: bool
) -> tuple[int, int]:
    """The batch size and sequence length that ``size`` training tokens (at least 2) can fill.

    The window shrinks to leave one target, then a batch of streams to what the windows fill;
    sliding windows may repeat within a batch, so their batch shrinks only to their number.
    """
    inputs = size - 1
    sequence_length = min(sequence_length, inputs)
    if sliding:
        return min(batch_size, max(1, size - sequence_length)), sequence_length
    return min(batch_size, inputs // sequence_length), sequence_length


def windows_of(tokens: Tokens, config: TrainingConfig) -> Windows:
    """The batches of ``tokens`` as ``config`` asks for; its shape must fit (``fitted_shape``)."""
    if config.objective == "last":
        return SlidingWindows(
            tokens, config.batch_size, config.sequence_length, config.random_seed, config.stride
        )
    return Streams(tokens, config.batch_size, config.sequence_length, config.random_seed)
