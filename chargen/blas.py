"""How many threads the BLAS under NumPy uses for a product, and how to keep it from that.

Threads of our own that each make whole products beat threads that share each one: they need not
wait for each other at every step, which costs most where other programs want the processors too.
NumPy has no word for it, so OpenBLAS is asked directly; another BLAS stays as it is. This room
knows nothing of what is multiplied.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from typing import NamedTuple

__all__ = ["num_threads", "single_threaded"]


class _Setting(NamedTuple):
    get: Callable[[], int]
    set: Callable[[int], None]


@cache
def _setting() -> _Setting | None:
    """OpenBLAS' functions, by the names that it has in NumPy's wheels and elsewhere."""
    try:
        library = ctypes.CDLL(import_module("numpy.linalg._umath_linalg").__file__)
    except (ImportError, OSError):
        return None
    for prefix in ("scipy_openblas", "openblas"):
        for suffix in ("64_", ""):
            names = [f"{prefix}_{verb}_num_threads{suffix}" for verb in ("get", "set")]
            if all(hasattr(library, name) for name in names):
                return _Setting(*(getattr(library, name) for name in names))
    return None


def num_threads() -> int:
    """How many threads may make products side by side: as many as BLAS uses for one, or 1 where it
    could not be kept from that."""
    setting = _setting()
    return 1 if setting is None else max(1, setting.get())


@contextmanager
def single_threaded() -> Iterator[None]:
    """Meanwhile a product stays on the thread that asks for it."""
    setting = _setting()
    if setting is None:
        yield
        return
    before = setting.get()
    setting.set(1)
    try:
        yield
    finally:
        setting.set(before)
