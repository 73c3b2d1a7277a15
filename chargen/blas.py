"""What the BLAS under NumPy likes: its threads, the sizes of products, where arrays begin.

* Threads of our own that each make whole products beat threads that share each one: they need not
  wait for each other at every step, which costs most where other programs want the processors.
* OpenBLAS for AVX-512 makes products of up to a million multiplications without first copying the
  operands into another order, which is up to a third faster; a larger one is cut into such tiles.
* Those products, and that of a matrix and a vector, load 64 bytes at a time, and an array that
  does not begin at a multiple of 64 costs them a fifth to a third.

NumPy has no words for threads and kernels, so OpenBLAS is asked directly; another BLAS stays as it
is. This room knows nothing of what is multiplied.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, cached_property
from importlib import import_module
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Kernels", "aligned", "num_threads", "single_threaded"]

Floats = NDArray[np.float32]

_ALIGNMENT = 64  # bytes
_CORES_WITH_SMALL_PRODUCTS = (b"SkylakeX", b"Cooperlake", b"SapphireRapids")
_LARGEST_SMALL_PRODUCT = 10**6  # multiplications
_BLOCK_COLUMNS = 64
_LONGEST_COLUMN = 512  # numbers: of longer ones, what is loaded at a time leaves the nearest cache
_TILE_ROWS = range(4, 33)  # fewer make too little of what is loaded
_ENOUGH_ROWS = 8


class _OpenBLAS(NamedTuple):
    get_num_threads: Callable[[], int]
    set_num_threads: Callable[[int], None]
    core: bytes


@cache
def _openblas() -> _OpenBLAS | None:
    """OpenBLAS' functions, by the names that they have in NumPy's wheels and elsewhere."""
    try:
        library = ctypes.CDLL(import_module("numpy.linalg._umath_linalg").__file__)
    except (ImportError, OSError):
        return None
    for prefix in ("scipy_openblas", "openblas"):
        for suffix in ("64_", ""):
            words = ("get_num_threads", "set_num_threads", "get_corename")
            names = [f"{prefix}_{word}{suffix}" for word in words]
            if all(hasattr(library, name) for name in names):
                get, set_, core = (getattr(library, name) for name in names)
                core.restype = ctypes.c_char_p
                return _OpenBLAS(get, set_, core())
    return None


def aligned(values: Floats) -> Floats:
    """A copy of ``values``, rows in one piece, that begins at a multiple of 64 bytes."""
    room = np.empty(values.nbytes + _ALIGNMENT, np.uint8)
    start = -room.ctypes.data % _ALIGNMENT
    copy = room[start : start + values.nbytes].view(np.float32).reshape(values.shape)
    copy[...] = values
    return copy


class Kernels:
    """Kernels (G, E, H) that batches are multiplied by, arranged as BLAS likes them best."""

    def __init__(self, kernels: Floats) -> None:
        self._kernels = kernels

    @cached_property
    def _whole(self) -> Floats:
        return aligned(self._kernels[:, np.newaxis, np.newaxis])  # (G, 1, 1, E, H)

    @cached_property
    def _in_blocks(self) -> Floats:
        """Their columns in C blocks: (G, C, 1, E, H / C)."""
        gates, inputs, _ = self._kernels.shape
        blocks = self._kernels.reshape(gates, inputs, -1, _BLOCK_COLUMNS)
        return aligned(blocks.swapaxes(1, 2)[:, :, np.newaxis])

    def operands(self, rows: Floats, out: Floats) -> tuple[Floats, Floats, Floats]:
        """With these ``np.matmul`` makes ``out`` (G, B, H) of ``rows`` (B, E) times each kernel."""
        _, inputs, columns = self._kernels.shape
        kernels, together = self._whole, len(rows)
        if _small_products() and inputs <= _LONGEST_COLUMN:
            is_small = _ENOUGH_ROWS * inputs * columns <= _LARGEST_SMALL_PRODUCT
            # Several threads make one large product faster than one thread makes small ones.
            if not is_small and num_threads() == 1 and columns % _BLOCK_COLUMNS == 0:
                kernels = self._in_blocks
            most = _LARGEST_SMALL_PRODUCT // kernels[0, 0].size
            good = [few for few in _TILE_ROWS if few <= most and len(rows) % few == 0]
            together = max(good, default=together)
        few_rows = rows.reshape(-1, together, inputs)
        tiles = out.reshape(len(out), -1, together, *kernels.shape[1::3])
        return few_rows, kernels, tiles.transpose(0, 3, 1, 2, 4)


def _small_products() -> bool:
    openblas = _openblas()
    return openblas is not None and openblas.core in _CORES_WITH_SMALL_PRODUCTS


def num_threads() -> int:
    """How many threads may make products side by side: as many as BLAS uses for one, or 1 where it
    could not be kept from that."""
    openblas = _openblas()
    return 1 if openblas is None else max(1, openblas.get_num_threads())


@contextmanager
def single_threaded() -> Iterator[None]:
    """Meanwhile a product stays on the thread that asks for it."""
    openblas = _openblas()
    if openblas is None:
        yield
        return
    before = openblas.get_num_threads()
    openblas.set_num_threads(1)
    try:
        yield
    finally:
        openblas.set_num_threads(before)
