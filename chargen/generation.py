"""The sampling loop: a prompt in, token after token out, until a rule says stop.

A model trained with carried state reads on from its state; one trained on windows sees, at every
step, the last ``window`` tokens from zero state, as in the textbook. An index is all the loops know
of a character, and `Stop` sees the bytes that tokens stand for. This room knows nothing of the
terminal.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from chargen.config import SamplingConfig
from chargen.engine import Engine
from chargen.errors import UsageError
from chargen.evaluation import surprisals
from chargen.sampling import BatchSampler, Sampler

__all__ = [
    "FinishReason",
    "Generated",
    "Stop",
    "StopRules",
    "generate_batch",
    "generate_samples",
    "generate_tokens",
]

_BATCH = 64  # texts made side by side
_WORTH_A_BATCH = 12  # fewer texts are sooner made one after another

FinishReason = Literal["length", "stop", "lines"]
Indices = NDArray[np.integer[Any]]
Logits = NDArray[np.float32]


@dataclass(frozen=True)
class StopRules:
    """When a text ends: after ``length`` tokens (None: never), before one of the ``stop`` strings
    (after it, with ``keep_stop``), or with the ``lines``-th line break."""

    length: int | None = None
    stop: tuple[bytes, ...] = ()
    keep_stop: bool = False
    lines: int | None = None

    def __post_init__(self) -> None:
        if not all(self.stop):
            raise UsageError("--stop '': expected at least one character")
        for name, option in (("length", "-n/--length"), ("lines", "--lines")):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or not 0 <= value <= sys.maxsize):
                raise UsageError(
                    f"{option} {value!r}: expected a whole number from 0 to {sys.maxsize:,}"
                )


class Stop:
    """One text under ``rules``: takes the bytes of each token, and gives those that are sure to
    belong to the text; what may be the beginning of a stop string is held back."""

    def __init__(self, rules: StopRules) -> None:
        self._rules = rules
        self._held = b""
        self._count = 0
        self._lines = 0
        self.reason: FinishReason | None = None
        if rules.length == 0:
            self.reason = "length"
        elif rules.lines == 0:
            self.reason = "lines"

    def feed(self, piece: bytes) -> bytes:
        """The bytes that ``piece`` makes sure; ``reason`` tells whether the text ended with it."""
        rules = self._rules
        self._count += 1
        text = self._held + piece
        ends: list[tuple[int, int, FinishReason]] = []  # where a rule is met, where the text ends
        for stop in rules.stop:
            if (start := text.find(stop)) >= 0:
                met = start + len(stop)
                ends.append((met, met if rules.keep_stop else start, "stop"))
        if rules.lines is not None:
            line_end = _end_of_line(piece, rules.lines - self._lines)
            self._lines += piece.count(b"\n")
            if line_end is not None:
                met = len(self._held) + line_end
                ends.append((met, met, "lines"))
        if ends:
            _, end, self.reason = min(
                ends, key=lambda found: (found[0], found[2] != "stop", found[1])
            )
            return text[:end]
        if self._count == rules.length:
            self.reason = "length"
            return text
        held = _longest_beginning(text, rules.stop) if rules.stop else 0
        self._held = text[len(text) - held :]
        return text[: len(text) - held]


def _longest_beginning(text: bytes, stops: Sequence[bytes]) -> int:
    """How many bytes at the end of ``text`` a stop string may begin with."""
    longest = min(len(text), max(map(len, stops)) - 1)
    for size in range(longest, 0, -1):
        if any(stop.startswith(text[-size:]) for stop in stops):
            return size
    return 0


def _end_of_line(text: bytes, lines: int) -> int | None:
    """Just behind the ``lines``-th line break of ``text``, or None."""
    end = 0
    for _ in range(lines):
        end = text.find(b"\n", end) + 1
        if not end:
            return None
    return end


def generate_tokens(
    engine: Engine, prompt: Indices, sampler: Sampler, *, window: int | None = None
) -> Iterator[tuple[int, Logits]]:
    """Tokens after ``prompt`` (T,), without end, each with the logits (V,) it was drawn from.

    An empty prompt starts from zero state, which knows only how frequent each token is.
    ``window`` None carries the state; a number rolls a window of that many tokens forward.
    """
    state = engine.zero_state()
    logits = _read(engine, state, prompt if window is None else prompt[-window:])
    if window is None:
        while True:
            token = sampler(logits)
            yield token, logits
            logits = engine.step(state, token)
    recent = [int(token) for token in prompt[-window:]]
    while True:
        token = sampler(logits)
        yield token, logits
        recent = [*recent, token][-window:]
        state.reset()
        logits = engine.prefill(state, np.asarray(recent))


def generate_batch(
    engine: Engine,
    prompt: Indices,
    sampler: BatchSampler,
    batch_size: int,
    *,
    window: int | None = None,
) -> Iterator[tuple[Indices, Logits]]:
    """Like ``generate_tokens``, but many texts at a time: tokens (B,) with their logits (B, V)."""
    recent = np.repeat(prompt[-(window or 0) :, np.newaxis], batch_size, axis=1)
    one, state = engine.zero_state(), engine.zero_state(batch_size)
    first = _read(engine, one, prompt if window is None else prompt[-window:])  # read only once
    for array, value in zip(state.arrays, one.arrays, strict=True):
        array[:] = value
    logits = np.repeat(first[np.newaxis], batch_size, axis=0)
    while True:
        tokens = sampler(logits)
        yield tokens, logits
        if window is None:
            logits = engine.step(state, tokens)
        else:
            recent = np.concatenate([recent, tokens[np.newaxis]])[-window:]
            state.reset()
            logits = engine.prefill(state, recent)


@dataclass(frozen=True)
class Generated:
    """A whole text: its ``data`` in UTF-8 (or as bytes, of a byte model), why it ended, how many
    ``tokens`` were drawn for it, their summed surprisal in ``nats`` under the model's own
    distribution (None where it was not asked for), and the random seed that repeats it."""

    data: bytes
    finish_reason: FinishReason
    tokens: int
    nats: float | None
    random_seed: int


def generate_samples(
    engine: Engine,
    prompt: Indices,
    config: SamplingConfig,
    rules: StopRules,
    random_seeds: Sequence[int],
    pieces: Sequence[bytes],
    *,
    allowed: NDArray[np.bool_] | None = None,
    window: int | None = None,
    scored: bool = False,
) -> Iterator[Generated]:
    """A text for each random seed, in their order; ``pieces`` are the bytes of each token.

    A few texts are made one after another. More are made side by side, always 64, since a product
    of another width is rounded otherwise, and how many are asked for must change none.
    """
    recent = prompt.tolist()
    if len(random_seeds) < _WORTH_A_BATCH:
        for seed in random_seeds:
            generator = np.random.default_rng(seed)
            one = Sampler(config, generator, allowed=allowed, recent=recent)
            text = _Text(rules, pieces, seed)
            tokens = generate_tokens(engine, prompt, one, window=window)
            while text.reason is None:
                token, logits = next(tokens)
                nats = float(surprisals(logits, np.asarray(token))[0]) if scored else None
                text.add(token, nats)
            yield text.generated()
        return
    for first in range(0, len(random_seeds), _BATCH):
        seeds = random_seeds[first : first + _BATCH]
        generators = [np.random.default_rng(seed) for seed in seeds]
        generators += [np.random.default_rng(0) for _ in range(_BATCH - len(seeds))]
        many = BatchSampler(config, generators, allowed=allowed, recent=recent)
        batch = generate_batch(engine, prompt, many, _BATCH, window=window)
        if rules.length is not None and not rules.stop and rules.lines is None:
            yield from _of_length(batch, rules.length, seeds, pieces, scored)
        else:
            yield from _by_rules(batch, [_Text(rules, pieces, seed) for seed in seeds], scored)


def _by_rules(
    batch: Iterator[tuple[Indices, Logits]], texts: list[_Text], scored: bool
) -> Iterator[Generated]:
    while any(text.reason is None for text in texts):
        tokens, logits = next(batch)
        nats = surprisals(logits, tokens)[0].tolist() if scored else [None] * len(tokens)
        for text, token, surprisal in zip(texts, tokens.tolist(), nats, strict=False):
            if text.reason is None:
                text.add(token, surprisal)
    for text in texts:
        yield text.generated()


def _of_length(
    batch: Iterator[tuple[Indices, Logits]],
    length: int,
    seeds: Sequence[int],
    pieces: Sequence[bytes],
    scored: bool,
) -> Iterator[Generated]:
    """Where no text ends before another, none need be looked at on the way."""
    steps: list[Indices] = []
    nats = np.zeros(_BATCH)
    for tokens, logits in islice(batch, length):
        steps.append(tokens)
        if scored:
            nats += surprisals(logits, tokens)[0]
    by_text = np.array(steps, np.intp).reshape(length, _BATCH).T.tolist()
    for seed, tokens_of_text, sum_ in zip(seeds, by_text, nats.tolist(), strict=False):
        data = b"".join([pieces[token] for token in tokens_of_text])
        yield Generated(data, "length", length, sum_ if scored else None, seed)


class _Text:
    """A text while it grows."""

    def __init__(self, rules: StopRules, pieces: Sequence[bytes], random_seed: int) -> None:
        self._stop = Stop(rules)
        self._pieces = pieces
        self._random_seed = random_seed
        self._parts: list[bytes] = []
        self._tokens = 0
        self._nats: float | None = None

    @property
    def reason(self) -> FinishReason | None:
        return self._stop.reason

    def add(self, token: int, nats: float | None) -> None:
        self._parts.append(self._stop.feed(self._pieces[token]))
        self._tokens += 1
        if nats is not None:
            self._nats = (self._nats or 0.0) + nats

    def generated(self) -> Generated:
        reason = self.reason
        if reason is None:
            raise ValueError("the text has not ended")
        return Generated(b"".join(self._parts), reason, self._tokens, self._nats, self._random_seed)


def _read(engine: Engine, state: Any, tokens: Indices) -> Logits:
    return engine.prefill(state, tokens) if tokens.size else engine.logits(state)
