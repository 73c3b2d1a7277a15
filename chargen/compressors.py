"""How many bytes gzip, bzip2 and xz need for a text, given another text first.

Each compresses at its best level, and looks back only so far: gzip 32 kB, bzip2 to the beginning
of its block of 900 kB, xz as far as its dictionary, which is as large as both texts together, up
to 128 MiB (and then takes 1.4 GB of memory). This room knows nothing of characters or models.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Sequence
from typing import Protocol

__all__ = ["added_bytes"]

_GZIP_CONTAINER = 16  # added to the window bits
_SMALLEST_DICTIONARY = 1 << 12  # bytes
_LARGEST_DICTIONARY = 1 << 27


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


def added_bytes(given: Sequence[bytes], text: Sequence[bytes]) -> dict[str, int]:
    """What ``text`` adds to the compressed size of ``given``, both in pieces, by compressor; a text
    of a few bytes may make it smaller, and then adds 0."""
    size = sum(map(len, given)) + sum(map(len, text))
    dictionary = min(max(size, _SMALLEST_DICTIONARY), _LARGEST_DICTIONARY)
    best = {"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": dictionary}
    compressors: dict[str, Callable[[], _Compressor]] = {
        "gzip": lambda: zlib.compressobj(9, wbits=zlib.MAX_WBITS + _GZIP_CONTAINER),
        "bz2": lambda: bz2.BZ2Compressor(9),
        "xz": lambda: lzma.LZMACompressor(filters=[best]),
    }
    return {
        name: max(0, _size(new(), [*given, *text]) - _size(new(), given))
        for name, new in compressors.items()
    }


def _size(compressor: _Compressor, pieces: Sequence[bytes]) -> int:
    return sum(len(compressor.compress(piece)) for piece in pieces) + len(compressor.flush())
