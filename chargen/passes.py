"""A model's pass over a text: many places of it at once, in threads side by side.

The text is cut into streams of equal length. Each is warmed on the unscored characters before it,
and what is left at the end is read as one more stream. A model trained on windows reads many
windows at once instead. The streams are shared out to as many threads as BLAS would use for one
product: none waits for another within a block of steps. This room does not know what is asked of
the logits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen import blas
from chargen.engine import Engine, State

__all__ = ["WARM_UP", "num_streams", "read_through", "steps_at_once"]

Indices = NDArray[np.integer[Any]]
Measure = Callable[[Indices, NDArray[np.float32]], Any]

WARM_UP = 512  # characters read before the first scored one of a stream
_STREAMS = 96  # side by side, on each thread
_FEWEST_STREAMS = 4  # that a thread is worth
_STEPS = 64  # characters a stream reads at a time, unless the vocabulary is large
_WINDOWS = 512  # rolling windows read at a time, likewise
_LARGEST_LOGITS = 1 << 23  # numbers


def read_through(
    engine: Engine,
    tokens: Indices,
    measure: Measure,
    *,
    window: int | None = None,
    sequential: bool = False,
) -> Iterator[Any]:
    """What ``measure`` makes of positions (...) of ``tokens`` (N,) and of the logits (..., V) of
    what stands there, block by block: of each position from 1 to N - 1 once.

    ``window`` is that of a model trained on windows; ``sequential`` reads the text as one stream.
    ``measure`` is called on several threads.
    """
    threads = blas.num_threads()
    streams = 1 if sequential else num_streams(tokens.size)
    reader = _Reader(engine, tokens, measure)
    with blas.single_threaded():
        if window is not None:
            yield from reader.by_windows(window, threads)
        else:
            yield from reader.by_streams(streams, threads)


def num_streams(size: int) -> int:
    """How many streams a text of ``size`` characters is read in; 0 where it is too short."""
    return min(_STREAMS * blas.num_threads(), (size - 1) // WARM_UP)


def steps_at_once(engine: Engine, streams: int) -> int:
    """How many steps of ``streams`` streams have logits that may be held together."""
    return min(_STEPS, max(1, _LARGEST_LOGITS // (streams * engine.head.size)))


class _Reader:
    def __init__(self, engine: Engine, tokens: Indices, measure: Measure) -> None:
        self._engine, self._tokens, self._measure = engine, tokens, measure

    def by_streams(self, streams: int, threads: int) -> Iterator[Any]:
        engine = self._engine
        targets = self._tokens.size - 1
        length = targets // max(streams, 1)
        rest, scored = engine.zero_state(1), 0
        if streams > 1:
            threads = max(1, min(threads, streams // _FEWEST_STREAMS))
            shares = np.array_split(np.arange(streams) * length, threads)
            states = [engine.zero_state(starts.size) for starts in shares]
            yield from _in_threads(
                [self._stream(*share, length) for share in zip(states, shares, strict=True)]
            )
            for array, value in zip(rest.arrays, states[-1].arrays, strict=True):
                array[0] = value[-1]
            scored = streams * length
        yield from self._read_on(rest, np.array([scored]), targets - scored)

    def _stream(self, state: State, starts: Indices, length: int) -> Iterator[Any]:
        for first in range(-WARM_UP, 0, _STEPS):
            steps = np.arange(first, min(first + _STEPS, 0))[:, np.newaxis]
            self._engine.body.run(state, self._tokens[np.maximum(starts + steps, 0)])
        for array in state.arrays:
            array[starts == 0] = 0  # nothing comes before the first stream
        yield from self._read_on(state, starts, length)

    def _read_on(self, state: State, starts: Indices, length: int) -> Iterator[Any]:
        block = steps_at_once(self._engine, starts.size)
        for first in range(0, length, block):
            steps = np.arange(first, min(first + block, length))[:, np.newaxis]
            positions = starts + steps  # (T, B)
            outputs = self._engine.body.run(state, self._tokens[positions])
            yield self._measure(positions + 1, self._engine.head(outputs))

    def by_windows(self, window: int, threads: int) -> Iterator[Any]:
        engine, tokens = self._engine, self._tokens
        first = np.arange(min(window, tokens.size - 1))  # where the window is not yet full
        outputs = engine.body.run(engine.zero_state(), tokens[first])
        yield self._measure(first + 1, engine.head(outputs))
        block = min(_WINDOWS, max(1, _LARGEST_LOGITS // engine.head.size))
        starts = np.arange(window + 1, tokens.size, block)
        threads = max(1, min(threads, starts.size))
        shares = [starts[share::threads] for share in range(threads)]
        yield from _in_threads([self._windows(share, block, window) for share in shares])

    def _windows(self, starts: Indices, block: int, window: int) -> Iterator[Any]:
        columns = np.arange(-window, 0)[:, np.newaxis]
        for start in starts.tolist():
            positions = np.arange(start, min(start + block, self._tokens.size))
            windows = self._tokens[positions + columns]  # (window, B)
            state = self._engine.zero_state(positions.size)
            yield self._measure(positions, self._engine.prefill(state, windows))


def _in_threads(readers: list[Iterator[Any]]) -> Iterator[Any]:
    """What ``readers`` yield, each of them going on in a thread of its own."""
    if len(readers) == 1:
        yield from readers[0]
        return
    with ThreadPoolExecutor(len(readers)) as pool:
        while blocks := [b for b in pool.map(lambda r: next(r, None), readers) if b is not None]:
            yield from blocks
