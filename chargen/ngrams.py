"""Character n-grams, the model to beat: interpolated Witten-Bell smoothing, all orders at once.

    p_k(w | h) = (c(h w) + T(h) p_{k-1}(w | h')) / (c(h) + T(h))

where h is the k - 1 characters before w, h' is h without its first, c counts in the training text
and T(h) is how many different characters follow h there (Witten & Bell 1991; Chen & Goodman 1998).
Where h was never seen p_k is p_{k-1}, and p_0 is uniform over the vocabulary.

Only contexts of the text that is scored are counted. They are numbered from the shortest to the
longest, so that a gram is a pair of whole numbers, (number of its context, last character), however
large the vocabulary; the training text is gone through in blocks, so its length costs time and no
memory. This room knows nothing of files, networks or who compares.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["witten_bell"]

Indices = NDArray[np.integer[Any]]
Floats = NDArray[np.float64]

_TRAINING_BLOCK = 1 << 21  # characters counted at a time
_TEXT_BLOCK = 1 << 22  # characters scored at a time: each block reads the training text once


def witten_bell(
    training: Indices, text: Indices, *, vocabulary_size: int, order: int
) -> Iterator[Floats]:
    """Surprisals in nats (order, n) of ``text`` (N,) from its second character on, block by block.

    Row k - 1 is that of k-grams counted in ``training`` (M,). Near its start the text has shorter
    contexts, and the longest that there is serves.
    """
    for start in range(1, text.size, _TEXT_BLOCK):
        begin = max(0, start - (order - 1))
        block = text[begin : start + _TEXT_BLOCK]
        grams = _number(block, vocabulary_size, order)
        _count(training, grams, vocabulary_size)
        rows = _surprisals(grams, block.size, vocabulary_size)
        rows += rows[-1:] * (order - len(rows))  # longer than the text
        yield np.stack(rows)[:, start - begin :]


@dataclass
class _Grams:
    """The grams of one length in the scored text, and what is counted of them.

    ``contexts`` and ``numbers`` say for each place of the text, from the first whose context is
    whole, which context stands before it and which gram ends with it; ``keys`` (sorted) are the
    grams by number: context x vocabulary size + last character.
    """

    contexts: Indices
    numbers: Indices
    keys: NDArray[np.int64]
    counts: NDArray[np.int64]  # of each gram
    context_counts: NDArray[np.int64]
    followers: NDArray[np.int64]  # different ones, of each context


def _number(text: Indices, vocabulary_size: int, order: int) -> list[_Grams]:
    grams: list[_Grams] = []
    contexts, num_contexts = np.zeros(text.size, np.int64), 1  # the empty context
    for length in range(1, min(order, text.size) + 1):
        pairs = contexts * vocabulary_size + text[length - 1 :]
        keys, numbers = np.unique(pairs, return_inverse=True)
        counts, context_counts, followers = (
            np.zeros(size, np.int64) for size in (keys.size, num_contexts, num_contexts)
        )
        grams.append(_Grams(contexts, numbers, keys, counts, context_counts, followers))
        contexts, num_contexts = numbers[:-1], keys.size
    return grams


def _count(training: Indices, grams: list[_Grams], vocabulary_size: int) -> None:
    """Count ``grams``, the shortest first, in ``training``."""
    overlap = len(grams) - 1
    seen = [np.zeros(0, np.int64) for _ in grams]  # pairs of context and follower
    for start in range(0, training.size, _TRAINING_BLOCK):
        begin = max(0, start - overlap)
        block = training[begin : start + _TRAINING_BLOCK]
        places, contexts = np.arange(block.size), np.zeros(block.size, np.int64)
        for length, gram in enumerate(grams):
            followed: NDArray[np.int64] = contexts * vocabulary_size + block[places]
            pairs, which = np.unique(followed, return_inverse=True)
            numbers = np.searchsorted(gram.keys, pairs)
            is_known = gram.keys[np.minimum(numbers, gram.keys.size - 1)] == pairs
            new = np.searchsorted(places, start - begin)  # those before it have been counted
            counts = np.bincount(which[new:], minlength=pairs.size)
            gram.counts[numbers[is_known]] += counts[is_known]
            gram.context_counts += np.bincount(contexts[new:], minlength=gram.context_counts.size)
            seen[length] = _union(seen[length], pairs)
            goes_on = is_known[which]
            goes_on[-1:] &= places[-1:] < block.size - 1
            places, contexts = places[goes_on] + 1, numbers[which[goes_on]]
    for gram, pairs in zip(grams, seen, strict=True):
        gram.followers += np.bincount(pairs // vocabulary_size, minlength=gram.followers.size)


def _union(some: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.int64]:
    """The different numbers of two arrays, sorted; np.union1d takes ten times as long."""
    together = np.sort(np.concatenate([some, others]))
    return together[np.diff(together, prepend=-1) > 0]


def _surprisals(grams: list[_Grams], size: int, vocabulary_size: int) -> list[Floats]:
    """Surprisals (size,) of every place by each length of gram, the shortest first."""
    probabilities = np.full(size, 1 / vocabulary_size)
    rows = []
    for length, gram in enumerate(grams):
        followers = gram.followers[gram.contexts]
        total = gram.context_counts[gram.contexts] + followers
        lower = probabilities[length:]
        mixed = gram.counts[gram.numbers] + followers * lower
        probabilities[length:] = np.where(total > 0, mixed / np.maximum(total, 1), lower)
        rows.append(-np.log(probabilities))
    return rows
