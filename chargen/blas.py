"""What the BLAS under NumPy likes: its threads, the rows of a product, where arrays begin.

* Threads of our own that each make whole products beat threads that share each one: they need not
  wait for each other at every step, which costs most where other programs want the processors.
* OpenBLAS for AVX-512 multiplies up to a million numbers by numbers without first copying the
  operands into another order, a quarter faster; a larger product is better made of such.
* Those products, and one of a matrix and a vector, load 64 bytes at a time, and an array that does
  not begin at a multiple of 64 costs them a fifth to a third.

NumPy has no words for the first two, so OpenBLAS is asked directly; another BLAS stays as it is.
This room knows nothing of what is multiplied.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["aligned", "best_rows", "num_threads", "single_threaded"]

_ALIGNMENT = 64  # bytes
_CORES_WITH_SMALL_PRODUCTS = (b"SkylakeX", b"Cooperlake", b"SapphireRapids")
_LARGEST_SMALL_PRODUCT = 10**6  # multiplications
_FEWEST_ROWS = 4  # that make good use of what is loaded


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


def aligned(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """A copy of ``values``, rows in one piece, that begins at a multiple of 64 bytes."""
    room = np.empty(values.nbytes + _ALIGNMENT, np.uint8)
    start = -room.ctypes.data % _ALIGNMENT
    copy = room[start : start + values.nbytes].view(np.float32).reshape(values.shape)
    copy[...] = values
    return copy


def best_rows(rows: int, kernel_size: int) -> int:
    """How many of ``rows`` to multiply at a time by a kernel of ``kernel_size`` numbers: a divisor
    of ``rows``, all of them where small products are no faster."""
    openblas = _openblas()
    if openblas is None or openblas.core not in _CORES_WITH_SMALL_PRODUCTS:
        return rows
    most = _LARGEST_SMALL_PRODUCT // kernel_size
    good = [few for few in range(_FEWEST_ROWS, min(most, rows) + 1) if rows % few == 0]
    return max(good, default=rows)


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
