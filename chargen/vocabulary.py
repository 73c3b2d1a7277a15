"""Character to index and back, on whole arrays at once.

A vocabulary is the sorted code points of a corpus (kind ``char``) or the 256 bytes (kind
``byte``); an index is a position in that order and nothing is reserved. This room knows what
to do about a character that is not in it, and nothing of files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from chargen.errors import TextError, UsageError

__all__ = [
    "TokenKind",
    "UnknownPolicy",
    "Vocabulary",
    "bytes_of",
    "code_points",
    "counted",
    "describe_character",
]

TokenKind = Literal["char", "byte"]
UnknownPolicy = Literal["error", "skip"]

_HIGHEST_CODE_POINT = 0x10FFFF
_UNKNOWN = -1


def code_points(text: str) -> NDArray[np.uint32]:
    """The code points of ``text`` as an array (N,), lone surrogates included."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")


def bytes_of(text: str | bytes) -> bytes:
    """The UTF-8 of ``text``; bytes that were no UTF-8, of a command line, come back as they were.

    Raises ``TextError`` for any other lone surrogate.
    """
    try:
        return text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        named = describe_character(ord(error.object[error.start]))
        raise TextError(f"a lone surrogate, {named}, stands for no bytes") from error


def describe_character(code_point: int) -> str:
    """A character named so that it can be found and typed again: ``'é' (U+00E9)``; a byte of a
    command line that was no UTF-8 by its number."""
    if 0xDC80 <= code_point <= 0xDCFF:
        return f"the byte 0x{code_point - 0xDC00:02x}"
    return f"{chr(code_point)!r} (U+{code_point:04X})"


def counted(size: int) -> str:
    """How many characters a model knows of a text, in words."""
    return f"{size:,} known character{'' if size == 1 else 's'}"


@dataclass(frozen=True)
class Vocabulary:
    """The characters a model knows, in the order of their indices.

    ``characters`` holds strictly increasing code points for kind ``char`` and the values
    0 to 255 for kind ``byte``.
    """

    kind: TokenKind
    characters: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.kind not in ("char", "byte"):
            raise UsageError(f"--tokens {self.kind!r}: expected one of char, byte")
        if self.kind == "byte" and self.characters != tuple(range(256)):
            raise UsageError("a byte vocabulary holds the 256 bytes in order and nothing else")
        if not self.characters:
            raise TextError("a vocabulary needs at least one character")
        if not 0 <= self.characters[0] <= self.characters[-1] <= _HIGHEST_CODE_POINT or any(
            low >= high for low, high in zip(self.characters, self.characters[1:], strict=False)
        ):
            raise UsageError("the characters of a vocabulary are Unicode code points, each once")
        if self.kind == "char" and any(0xD800 <= point <= 0xDFFF for point in self.characters):
            raise TextError("a lone surrogate (U+D800 to U+DFFF) is no character to learn")

    @classmethod
    def from_code_points(cls, points: Sequence[int]) -> Vocabulary:
        """The vocabulary of the code points in ``points``, in any order, repeats allowed."""
        return cls("char", tuple(sorted({int(point) for point in points})))

    @classmethod
    def from_text(cls, text: str) -> Vocabulary:
        return cls.from_code_points(np.unique(code_points(text)).tolist())

    @classmethod
    def of_bytes(cls) -> Vocabulary:
        return cls("byte", tuple(range(256)))

    def __len__(self) -> int:
        return len(self.characters)

    @property
    def unit(self) -> Literal["character", "byte"]:
        """What an index stands for, in a word."""
        return "byte" if self.kind == "byte" else "character"

    def index(self, character: str) -> int | None:
        """The index of one character, or None where it has none."""
        indices = self._lookup(self.points_of(character))
        return int(indices[0]) if indices.size == 1 and indices[0] != _UNKNOWN else None

    @property
    def line_break(self) -> int | None:
        """The index of the line feed, after which a text or a document begins."""
        return self.index("\n")

    @cached_property
    def _points(self) -> NDArray[np.uint32]:
        return np.asarray(self.characters, "<u4")

    @cached_property
    def _table(self) -> NDArray[np.int32]:
        table = np.full(self.characters[-1] + 1, _UNKNOWN, np.int32)
        table[list(self.characters)] = np.arange(len(self), dtype=np.int32)
        return table

    def _lookup(self, points: NDArray[np.uint32]) -> NDArray[np.int32]:
        inside = points < self._table.size
        found: NDArray[np.int32] = self._table[np.where(inside, points, 0)]
        found[~inside] = _UNKNOWN
        return found

    def points_of(self, text: str | bytes) -> NDArray[np.uint32]:
        """The units of ``text`` in this vocabulary's kind: code points, or bytes of its UTF-8."""
        if self.kind == "byte":
            return np.frombuffer(bytes_of(text), np.uint8).astype(np.uint32)
        if not isinstance(text, str):
            raise TypeError("a character vocabulary encodes str; decode the bytes first")
        return code_points(text)

    def encode(
        self,
        text: str | bytes,
        *,
        unknown: UnknownPolicy = "error",
        what: str = "the text",
        offset: int = 0,
    ) -> NDArray[np.int32]:
        """``text`` as indices (N,).

        A character that is not in the vocabulary raises ``TextError`` naming it, or is left out
        with ``unknown="skip"``. ``what`` and ``offset`` say in the error where the text stands.
        """
        points = self.points_of(text)
        indices = self._lookup(points)
        missing = indices == _UNKNOWN
        if not missing.any():
            return indices
        if unknown == "skip":
            return indices[~missing]
        where = int(np.argmax(missing))
        named = describe_character(int(points[where]))
        distinct = np.unique(points[missing])
        others = f" (and {distinct.size - 1:,} more)" if distinct.size > 1 else ""
        raise TextError(
            f"{what}: holds {named} at character {offset + where + 1:,}{others}, which the model"
            " never saw; --unknown skip leaves such characters out"
        )

    def decode(self, indices: Sequence[int] | NDArray[np.integer[Any]]) -> str:
        """The text of ``indices``; bytes are read as UTF-8, a bad one as U+FFFD."""
        points = self._points[np.asarray(indices, np.intp)]
        if self.kind == "byte":
            return points.astype(np.uint8).tobytes().decode("utf-8", "replace")
        return points.tobytes().decode("utf-32-le", "surrogatepass")

    def decode_bytes(self, indices: Sequence[int] | NDArray[np.integer[Any]]) -> bytes:
        """The bytes of ``indices``: themselves for kind ``byte``, else UTF-8."""
        if self.kind == "byte":
            return np.asarray(indices, np.uint8).tobytes()
        return self.decode(indices).encode("utf-8", "surrogatepass")

    def to_dict(self) -> dict[str, Any]:
        if self.kind == "byte":
            return {"kind": "byte"}
        return {"kind": "char", "characters": [chr(point) for point in self.characters]}
