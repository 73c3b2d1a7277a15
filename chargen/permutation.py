"""A random order of any number of things without storing it.

Position → item is computed by a four-round Feistel network (Luby & Rackoff 1988) on the smallest
even number of bits that holds the count; what falls outside is sent through again (cycle
walking, Black & Rogaway 2002). So a shuffle of a billion windows costs no memory, and any part
of it can be had at any time. This room knows nothing of text.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Permutation"]

_ROUNDS = 4


class Permutation:
    """A permutation of ``range(size)`` that is a pure function of ``seed``."""

    def __init__(self, size: int, seed: tuple[int, ...]) -> None:
        self.size = size
        half_bits = max(1, ((max(size, 2) - 1).bit_length() + 1) // 2)
        self._half_bits = np.uint64(half_bits)
        self._mask = np.uint64((1 << half_bits) - 1)
        self._keys = np.random.SeedSequence(seed).generate_state(_ROUNDS, np.uint64)

    def __call__(self, positions: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        """The items at ``positions`` (N,), each in ``[0, size)``."""
        items = self._encrypt(positions.astype(np.uint64))
        while (outside := items >= self.size).any():
            items[outside] = self._encrypt(items[outside])
        return items.astype(np.int64)

    def _encrypt(self, blocks: NDArray[np.uint64]) -> NDArray[np.uint64]:
        left, right = blocks >> self._half_bits, blocks & self._mask
        for key in self._keys:
            left, right = right, left ^ (_mix(right + key) & self._mask)
        return (left << self._half_bits) | right


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea & Flood 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
