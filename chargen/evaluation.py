"""How well a model expects a text: surprisal and bits per character.

One definition everywhere: the mean over characters 2…N of the text, read in order from zero
state, of -log p(character | what came before it); summed, then divided once. A model trained on
windows sees only the ``window`` characters before each. The fast path reads many places of the
text at once, each warmed on the unscored characters before it; the sequential path is its slow
twin. What a model is compared with is measured on the same characters. This room does not know who
asks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.compressors import added_bytes
from chargen.engine import Engine
from chargen.errors import TextError
from chargen.ngrams import witten_bell
from chargen.passes import read_through, steps_at_once
from chargen.vocabulary import Vocabulary, counted

__all__ = [
    "Evaluation",
    "LineScore",
    "baselines",
    "evaluate",
    "expectations",
    "score_lines",
    "surprisal_bits",
    "surprisal_blocks",
    "surprisals",
]

Indices = NDArray[np.integer[Any]]

_LINES = 64  # scored side by side
_LONG_LINE = 1024  # characters: a longer line is read alone, as a text
_UNKNOWN_NATS = math.log(0x110000)  # of a character that the model never saw
_LONGEST_GRAM = 6
_PIECE = 1 << 20  # characters decoded at a time


@dataclass(frozen=True)
class Evaluation:
    """``nats`` is the summed surprisal of the ``characters`` that were scored (N - 1), of which
    ``hits`` were the likeliest; ``skipped`` unknown ones were left out before."""

    nats: float
    hits: int
    characters: int
    skipped: int = 0

    @property
    def nats_per_char(self) -> float:
        return self.nats / self.characters

    @property
    def bits_per_char(self) -> float:
        return self.nats_per_char / math.log(2)

    @property
    def perplexity(self) -> float:
        return math.exp(min(self.nats_per_char, 700.0))

    @property
    def accuracy(self) -> float:
        return self.hits / self.characters

    def to_dict(self) -> dict[str, float | int]:
        return {
            "bits_per_char": self.bits_per_char,
            "nats_per_char": self.nats_per_char,
            "perplexity": self.perplexity,
            "accuracy": self.accuracy,
            "characters": self.characters,
            "skipped": self.skipped,
        }


def evaluate(engine: Engine, tokens: Indices, *, window: int | None = None) -> Evaluation:
    """The figure of ``tokens`` (N,). ``window`` is that of a model trained on windows. Raises
    ``TextError`` for fewer than two tokens."""
    _check_size(tokens)
    nats, hits = 0.0, 0
    for _, surprisal, is_hit in surprisal_blocks(engine, tokens, window=window):
        nats += float(surprisal.sum(dtype=np.float64))
        hits += int(is_hit.sum())
    return Evaluation(nats, hits, tokens.size - 1)


def surprisal_bits(
    engine: Engine, tokens: Indices, *, window: int | None = None
) -> NDArray[np.float64]:
    """The surprisal of each of ``tokens`` (N,) in bits, (N,); the first, which nothing comes
    before, is not a number. Raises ``TextError`` for fewer than two tokens."""
    _check_size(tokens)
    bits = np.full(tokens.size, np.nan)
    for positions, nats, _ in surprisal_blocks(engine, tokens, window=window):
        bits[positions] = nats / math.log(2)
    return bits


def expectations(
    engine: Engine, tokens: Indices, count: int, *, window: int | None = None
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """What the model expected in the place of each of ``tokens`` (N,): the ``count`` likeliest
    indices, the likeliest first, and their probabilities, (N, count) each.

    In the place of the first token, before which nothing comes, probabilities are not numbers.
    Raises ``TextError`` for fewer than two tokens.
    """
    _check_size(tokens)
    count = min(count, engine.head.size)
    indices = np.zeros((tokens.size, count), np.int64)
    probabilities = np.full((tokens.size, count), np.nan)

    def measure(positions: Indices, logits: NDArray[np.float32]) -> Any:
        likeliest = np.argsort(-logits, axis=-1, kind="stable")[..., :count]
        nats = [surprisals(logits, likeliest[..., rank])[0] for rank in range(count)]
        return positions, likeliest, np.exp(-np.stack(nats, axis=-1))

    for positions, likeliest, shares in read_through(engine, tokens, measure, window=window):
        indices[positions], probabilities[positions] = likeliest, shares
    return indices, probabilities


def baselines(
    tokens: Indices, vocabulary: Vocabulary, training: Indices | None = None
) -> dict[str, float]:
    """Bits per character of what a model is compared with, on the same characters 2…N of
    ``tokens`` (N,), by name:

    * ``uniform``: every character of the vocabulary is as likely as the others;

    and with ``training`` text (M,):

    * ``1-gram`` to ``6-gram``: interpolated Witten-Bell n-grams of it, see ``chargen.ngrams``;
    * ``gzip``, ``bz2``, ``xz``: 8 times the bytes that these characters, as UTF-8 or as the bytes
      of a byte model, add to the compressed training text and first character. gzip looks back
      no further than 32 kB; see ``chargen.compressors``.

    Raises ``TextError`` for fewer than two tokens, and where there is nothing to train on.
    """
    _check_size(tokens)
    found = {"uniform": math.log2(len(vocabulary))}
    if training is None:
        return found
    if not training.size:
        raise TextError("--train-text: holds no character that the model knows; name another text")
    characters = tokens.size - 1
    grams = witten_bell(
        training, tokens, vocabulary_size=len(vocabulary), order=_LONGEST_GRAM
    )  # (6, n) each
    for order, nats in enumerate(sum(block.sum(axis=1) for block in grams), start=1):
        found[f"{order}-gram"] = float(nats) / math.log(2) / characters
    given = _pieces(training, vocabulary) + _pieces(tokens[:1], vocabulary)
    for name, added in added_bytes(given, _pieces(tokens[1:], vocabulary)).items():
        found[name] = 8 * added / characters
    return found


def _check_size(tokens: Indices) -> None:
    if tokens.size < 2:
        raise TextError(f"the text: holds {counted(tokens.size)}; expected at least 2")


def _pieces(tokens: Indices, vocabulary: Vocabulary) -> list[bytes]:
    return [
        vocabulary.decode_bytes(tokens[start : start + _PIECE])
        for start in range(0, tokens.size, _PIECE)
    ]


@dataclass(frozen=True)
class LineScore:
    """``nats`` is the summed surprisal of a line's characters and of the line break after it."""

    nats: float
    characters: int

    @property
    def bits_per_char(self) -> float:
        return self.nats / math.log(2) / max(self.characters, 1)


def score_lines(
    engine: Engine,
    lines: Sequence[Indices],
    unknown: Sequence[int],
    *,
    line_break: int | None,
    window: int | None = None,
) -> list[LineScore]:
    """How well each of ``lines`` (N,) is expected, on its own: read after a line break from zero
    state, its characters and the line break that ends it are scored.

    Where the vocabulary has no line break, a line is read from zero state, and it has no end.
    Each of the ``unknown`` characters that were left out of a line costs log(0x110000) nats, a
    uniform choice from all of Unicode.
    """
    nats = np.zeros(len(lines))
    ends = np.array([] if line_break is None else [line_break], np.int32)
    texts = [  # in the type of the line, which may be long
        np.concatenate([ends, line, ends], dtype=line.dtype, casting="unsafe") for line in lines
    ]
    by_length = sorted(range(len(texts)), key=lambda number: texts[number].size)
    while by_length:
        rows = 1 if texts[by_length[-1]].size > _LONG_LINE else min(len(by_length), _LINES)
        batch = [by_length.pop() for _ in range(rows)]
        nats[batch] = _score_texts(engine, [texts[row] for row in batch], line_break, window)
    return [
        LineScore(float(sum_) + left_out * _UNKNOWN_NATS, line.size + left_out + ends.size)
        for sum_, line, left_out in zip(nats, lines, unknown, strict=True)
    ]


def _score_texts(
    engine: Engine, texts: Sequence[Indices], line_break: int | None, window: int | None
) -> list[float]:
    """Summed surprisals of texts, the longest first; of each all but a leading line break."""
    if window is not None or len(texts) == 1:
        return [_score_text(engine, text, line_break, window) for text in texts]
    sums = np.zeros(len(texts))
    padded = np.zeros((max(text.size for text in texts), len(texts)), np.int32)  # (T, B)
    for row, text in enumerate(texts):
        padded[: text.size, row] = text
    lengths = np.array([text.size for text in texts])
    state = engine.zero_state(len(texts))
    if line_break is None and len(padded):
        sums += surprisals(engine.logits(state), padded[0])[0] * (lengths > 0)
    block = steps_at_once(engine, len(texts))
    for first in range(0, len(padded) - 1, block):
        ids = padded[first : first + block]
        targets = padded[first + 1 : first + block + 1]
        outputs = engine.body.run(state, ids)[: len(targets)]
        scored = np.arange(first + 1, first + 1 + len(targets))[:, np.newaxis] < lengths
        sums += (surprisals(engine.head(outputs), targets)[0] * scored).sum(axis=0, dtype=float)
    return sums.tolist()


def _score_text(engine: Engine, text: Indices, line_break: int | None, window: int | None) -> float:
    sum_ = 0.0
    if line_break is None and text.size:
        sum_ += float(surprisals(engine.logits(engine.zero_state()), text[0])[0])
    if text.size > 1:
        sum_ += evaluate(engine, text, window=window).nats
    return sum_


def surprisal_blocks(
    engine: Engine, tokens: Indices, *, window: int | None = None, sequential: bool = False
) -> Iterator[tuple[Indices, NDArray[np.float32], NDArray[np.bool_]]]:
    """Positions, surprisals in nats, and whether each was the likeliest, block by block.

    Each position from 1 to N - 1 comes once; the three arrays of a block have one shape.
    ``sequential`` reads the text as a single stream.
    """

    def measure(positions: Indices, logits: NDArray[np.float32]) -> Any:
        return (positions, *surprisals(logits, tokens[positions]))

    yield from read_through(engine, tokens, measure, window=window, sequential=sequential)


def surprisals(
    logits: NDArray[np.float32], targets: Indices
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Surprisals in nats of ``targets`` (...) under ``logits`` (..., V), and whether each was the
    likeliest."""
    of_target = np.take_along_axis(logits, targets[..., np.newaxis].astype(np.intp), axis=-1)[
        ..., 0
    ]
    largest = logits.max(axis=-1)
    logits = logits - largest[..., np.newaxis]
    np.exp(logits, logits)
    return np.log(logits.sum(axis=-1)) + largest - of_target, of_target >= largest
