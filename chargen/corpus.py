"""A corpus: text encoded once, in a stream, into an array of the smallest integer type.

The array is a file mapped into memory that has no name any more (or is removed at the end, where
the system cannot do that), beside the output: a corpus larger than memory costs disk, not
memory. This room splits off the held-out part and knows nothing of models.
"""

from __future__ import annotations

import hashlib
import math
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from chargen.errors import RunError, TextError, UsageError
from chargen.permutation import Permutation
from chargen.reading import STDIN, check_encoding, expand_sources, read_blocks
from chargen.vocabulary import TokenKind, UnknownPolicy, Vocabulary, bytes_of, code_points, counted

__all__ = ["Corpus", "Tokens", "encode_with", "read_corpus", "read_tokens"]

Tokens = NDArray[np.unsignedinteger[Any]]  # (N,) indices of a vocabulary

_LARGEST_DEFAULT_HELD_OUT = 1_000_000
_DEFAULT_VAL_FRACTION = 0.1
_SLICE = 1 << 22  # tokens handled at a time where a whole array is gone through
_MOST_COUNTED = 1 << 24  # tokens, which tell how frequent each is well enough
_COUNTED_AT_ONCE = 1 << 20
_DOCUMENTS = 1 << 16  # documents moved at a time


@dataclass(frozen=True)
class Corpus:
    """Encoded text: ``tokens`` (N,), of which the last ``held_out_size`` are held out."""

    tokens: Tokens
    vocabulary: Vocabulary
    held_out_size: int
    names: tuple[str, ...]

    @property
    def training_part(self) -> Tokens:
        return self.tokens[: self.tokens.size - self.held_out_size]

    @property
    def held_out_part(self) -> Tokens:
        return self.tokens[self.tokens.size - self.held_out_size :]

    def sha256(self) -> str:
        """The same for the same text, read and split in the same way."""
        layout = (self.vocabulary.to_dict(), self.tokens.dtype.str, self.held_out_size)
        digest = hashlib.sha256(repr(layout).encode("utf-8", "surrogatepass"))
        for start in range(0, self.tokens.size, _SLICE):
            digest.update(np.ascontiguousarray(self.tokens[start : start + _SLICE]).data)
        return digest.hexdigest()

    def token_counts(self) -> NDArray[np.int64]:
        """How often each index (V,) occurs in the training part, or in its beginning."""
        counts = np.zeros(len(self.vocabulary), np.int64)
        counted = self.training_part[:_MOST_COUNTED]
        for start in range(0, counted.size, _COUNTED_AT_ONCE):
            block = counted[start : start + _COUNTED_AT_ONCE]
            counts += np.bincount(block, minlength=counts.size)
        return counts


def read_corpus(
    sources: Sequence[str | os.PathLike[str]] = (),
    *,
    text: str | None = None,
    tokens: TokenKind = "char",
    encoding: str = "utf-8",
    lines: bool = False,
    val_fraction: float | None = None,
    random_seed: int = 0,
    known: Vocabulary | None = None,
    spool_folder: str | os.PathLike[str] | None = None,
) -> Corpus:
    """Read, encode and split a corpus.

    Args:
        sources: files, folders, globs, or ``-``; or else ``text`` holds the corpus itself.
        lines: each line is a document; documents are shuffled by ``random_seed`` and held out
            whole; empty lines are left out and a last line without its line break gets one.
        val_fraction: the share held out, from the end. None is a tenth, at most a million
            characters.
        known: a vocabulary to keep; characters it lacks are added to it.
        spool_folder: where the encoded array lies (None: the system's temporary folder).

    Raises ``TextError`` for text that cannot be used, ``RunError`` for a failed read or write.
    """
    if val_fraction is not None and not 0 <= val_fraction < 1:
        raise UsageError(
            f"--val-fraction {repr(val_fraction).removesuffix('.0')}: expected a number of 0 or"
            " more, below 1"
        )
    check_encoding(encoding, tokens)
    names = tuple(expand_sources(sources)) if text is None else ("text",)
    encoder = _Encoder(tokens, known, spool_folder)
    if text is not None:
        encoder.add(bytes_of(text) if tokens == "byte" else text)
        if lines:
            encoder.end_line()
    else:
        for name in names:
            for block in read_blocks(name, tokens=tokens, encoding=encoding):
                encoder.add(block)
            if lines:
                encoder.end_line()
    what = " ".join("standard input" if name == STDIN else name for name in names)
    if encoder.size == 0:
        raise TextError(f"{what}: holds no text; name a corpus with some characters in it")
    array, vocabulary = encoder.finish()
    if lines:
        array, held_out = _shuffled_documents(
            array, vocabulary, val_fraction, random_seed, spool_folder
        )
        if array.size == 0:
            raise TextError(f"{what}: holds only empty lines; --lines takes a document a line")
    else:
        held_out = array.size - _training_size(array.size, val_fraction)
    if array.size < 2:
        raise TextError(f"{what}: holds 1 character; training needs at least 2")
    if held_out < 2 or array.size - held_out < 2:
        held_out = 0  # too little to score a character, or to train on the rest
    return Corpus(array, vocabulary, held_out, names)


def _training_size(size: int, val_fraction: float | None) -> int:
    if val_fraction is None:
        default = int(size * (1 - _DEFAULT_VAL_FRACTION))
        return max(default, size - _LARGEST_DEFAULT_HELD_OUT)
    return math.floor(size * (1 - Fraction(str(val_fraction))))  # floats would lose one


def read_tokens(
    sources: Sequence[str | os.PathLike[str]],
    vocabulary: Vocabulary,
    *,
    encoding: str = "utf-8",
    unknown: UnknownPolicy = "error",
    least: int = 0,
) -> tuple[Tokens, int]:
    """The files of ``sources`` as indices of ``vocabulary``, and how many characters were skipped.

    Raises as ``read_corpus`` does, and ``TextError`` for a character the vocabulary lacks, or where
    fewer than ``least`` are left.
    """
    check_encoding(encoding, vocabulary.kind)
    paths = expand_sources(sources)

    def blocks() -> Iterator[str | bytes]:
        for path in paths:
            yield from read_blocks(path, tokens=vocabulary.kind, encoding=encoding)

    what = " ".join("standard input" if path == STDIN else path for path in paths)
    encoded, skipped = encode_with(blocks(), vocabulary, unknown=unknown, what=what)
    if encoded.size < least:
        raise TextError(f"{what}: holds {counted(encoded.size)}; expected at least {least}")
    return encoded, skipped


def encode_with(
    blocks: Iterable[str | bytes],
    vocabulary: Vocabulary,
    *,
    unknown: UnknownPolicy = "error",
    what: str = "the text",
) -> tuple[Tokens, int]:
    """Blocks of text as indices of ``vocabulary``, and how many characters were skipped."""
    spool = _Spool(_smallest_type(len(vocabulary)), None)
    seen = 0
    for block in blocks:
        units = vocabulary.points_of(block).size
        spool.write(vocabulary.encode(block, unknown=unknown, what=what, offset=seen))
        seen += units
    array = spool.map()
    return array, seen - array.size


def _smallest_type(size: int) -> np.dtype[Any]:
    return np.dtype(np.uint8 if size <= 1 << 8 else np.uint16 if size <= 1 << 16 else np.uint32)


class _Spool:
    """An array that grows on disk and is then mapped into memory."""

    def __init__(self, dtype: np.dtype[Any], folder: str | os.PathLike[str] | None) -> None:
        self.dtype = dtype
        self.size = 0
        self._folder = folder
        self._file: IO[bytes] = self._guard(
            lambda: tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 - map() closes it
        )

    def _guard(self, act: Callable[[], Any]) -> Any:
        try:
            return act()
        except OSError as error:
            folder = self._folder or tempfile.tempdir or "the folder of temporary files"
            raise RunError(
                f"{folder}: cannot hold the encoded corpus: {error.strerror or error};"
                " choose another place with -o/--output, or TMPDIR where nothing is written"
            ) from error

    def write(self, items: NDArray[Any]) -> None:
        data: Any = np.ascontiguousarray(items, self.dtype)
        self._guard(lambda: self._file.write(data.data))
        self.size += data.size

    def map(self) -> NDArray[Any]:
        """The whole array, writable, backed by the file; nothing can be added any more."""
        self._guard(self._file.flush)
        with self._file:
            if self.size == 0:
                return np.zeros(0, self.dtype)
            return np.memmap(self._file, self.dtype, "r+", shape=(self.size,))

    def widened(self, dtype: np.dtype[Any]) -> _Spool:
        """The same items in a wider type."""
        wider = _Spool(dtype, self._folder)
        items = self.map()
        for start in range(0, items.size, _SLICE):
            wider.write(items[start : start + _SLICE])
        return wider


class _Encoder:
    """Numbers characters as they come, and sorts the numbers by code point at the end.

    One pass over the text serves, so that it may come from a pipe.
    """

    def __init__(
        self, kind: TokenKind, known: Vocabulary | None, folder: str | os.PathLike[str] | None
    ) -> None:
        if known is not None and known.kind != kind:
            raise UsageError(
                f"--init: its model was trained with --tokens {known.kind}, and this corpus is read"
                f" with --tokens {kind}; give --tokens {known.kind}"
            )
        self._kind = kind
        self._points: list[int] = list(range(256)) if kind == "byte" else []
        self._numbers = np.full(0x110000 if kind == "char" else 0, -1, np.int32)
        self._spool = _Spool(_smallest_type(1), folder)
        self._last_is_line_break = True
        if known is not None and kind == "char":
            self._learn(np.asarray(known.characters, np.uint32))

    def _learn(self, points: NDArray[np.uint32]) -> None:
        self._numbers[points] = np.arange(len(self._points), len(self._points) + points.size)
        self._points.extend(points.tolist())
        if (dtype := _smallest_type(len(self._points))) != self._spool.dtype:
            self._spool = self._spool.widened(dtype)

    def add(self, block: str | bytes) -> None:
        if not block:
            return
        self._last_is_line_break = block[-1:] in ("\n", b"\n")
        if isinstance(block, bytes):
            self._spool.write(np.frombuffer(block, np.uint8))
            return
        points = code_points(block)
        numbers = self._numbers[points]
        if numbers.min() < 0:
            self._learn(np.unique(points[numbers < 0]))
            numbers = self._numbers[points]
        self._spool.write(numbers)

    def end_line(self) -> None:
        """A line break, unless the text so far ends with one."""
        if not self._last_is_line_break:
            self.add("\n" if self._kind == "char" else b"\n")

    @property
    def size(self) -> int:
        return self._spool.size

    def finish(self) -> tuple[Tokens, Vocabulary]:
        """All tokens, and the vocabulary they are indices of; at least one must have come."""
        array = self._spool.map()
        if self._kind == "byte":
            return array, Vocabulary.of_bytes()
        points = np.asarray(self._points)
        order = np.empty(points.size, array.dtype)
        order[np.argsort(points)] = np.arange(points.size)
        if (np.diff(points) < 0).any():
            for start in range(0, array.size, _SLICE):
                array[start : start + _SLICE] = order[array[start : start + _SLICE]]
        return array, Vocabulary.from_code_points(self._points)


def _shuffled_documents(
    array: Tokens,
    vocabulary: Vocabulary,
    val_fraction: float | None,
    random_seed: int,
    folder: str | os.PathLike[str] | None,
) -> tuple[Tokens, int]:
    """The lines of ``array`` in random order, without the empty ones, and the size of the last
    of them that are held out."""
    line_break, carriage_return = vocabulary.line_break, vocabulary.index("\r")
    bounds = _Spool(np.dtype(np.int64), folder)  # start and end of each document, in pairs
    previous = 0
    for start in range(0, array.size, _SLICE):
        ends = start + 1 + np.flatnonzero(array[start : start + _SLICE] == line_break)
        starts = np.concatenate(([previous], ends[:-1])) if ends.size else ends
        is_empty = (ends - starts == 1) | (
            (ends - starts == 2) & (array[starts] == carriage_return)
            if carriage_return is not None
            else False
        )
        bounds.write(np.stack([starts, ends], axis=1)[~is_empty].reshape(-1))
        previous = int(ends[-1]) if ends.size else previous
    documents = bounds.map().reshape(-1, 2)
    order = Permutation(len(documents), (random_seed, len(documents)))
    kept_for_training = _training_size(len(documents), val_fraction)
    shuffled = _Spool(array.dtype, folder)
    held_out_sizes = []
    for first in range(0, len(documents), _DOCUMENTS):
        positions = np.arange(first, min(first + _DOCUMENTS, len(documents)))
        starts, ends = documents[order(positions)].T
        for some in _in_shares(ends - starts):
            shuffled.write(_gathered(array, starts[some], ends[some]))
        held_out_sizes.append((ends - starts)[positions >= kept_for_training])
    sizes = np.concatenate([np.zeros(0, np.int64), *held_out_sizes])
    if val_fraction is None:  # whole documents, from the end, up to the default's limit
        sizes = sizes[sizes[::-1].cumsum()[::-1] <= _LARGEST_DEFAULT_HELD_OUT]
    return shuffled.map(), int(sizes.sum())


def _in_shares(lengths: NDArray[np.int64]) -> Iterator[slice]:
    """Runs of documents that together are about a slice long, or a single longer one."""
    share = np.cumsum(lengths) // _SLICE
    borders = np.flatnonzero(np.diff(share)) + 1
    for start, end in pairwise([0, *borders.tolist(), lengths.size]):
        yield slice(start, end)


def _gathered(array: Tokens, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> Tokens:
    """The documents from ``starts`` to ``ends``, one after the other."""
    if starts.size == 1:
        return array[starts[0] : ends[0]]
    lengths = ends - starts
    before = np.cumsum(lengths) - lengths
    return array[np.repeat(starts - before, lengths) + np.arange(lengths.sum())]
