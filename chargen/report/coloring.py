"""Text as HTML, coloured by a number for each of its tokens: surprisal, or what a unit does.

A token is no place to end a colour: the bytes of a character stand together, and so do a letter
and its marks. This room knows vocabularies, and nothing of models.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chargen.features import characters_of
from chargen.report.page import JOINERS, Html, element, visible
from chargen.report.theme import LEVELS
from chargen.signs import labels_of, spelled
from chargen.vocabulary import Vocabulary

__all__ = [
    "Cluster",
    "Expected",
    "activity_scale",
    "by_activation",
    "by_surprisal",
    "clusters_of",
    "names_of",
    "scale",
    "share",
]

Indices = NDArray[np.integer[Any]]
Floats = NDArray[np.float64]

_MOST_TOKENS = 32  # of a cluster: there is no end to the marks that a letter may have
_ACTIVE, _VERY_ACTIVE = 0.2, 0.6  # of the largest activation


class Cluster(NamedTuple):
    """Tokens from ``start`` to ``end`` that are shown as one, by their ``text``; ``form`` is how:
    a line break or a tab with a sign (n, t), what cannot be seen by an escape (x)."""

    start: int
    end: int
    text: str
    form: str


class Expected(NamedTuple):
    """What a model expected at each of N places: indices and probabilities, (N, count)."""

    indices: NDArray[np.int64]
    probabilities: Floats


def clusters_of(vocabulary: Vocabulary, tokens: Indices) -> list[Cluster]:
    """All of ``tokens`` (N,), a byte that is part of no character by its label."""
    characters = characters_of(vocabulary, tokens)
    is_byte = vocabulary.kind == "byte"
    labels = labels_of(vocabulary)
    starts: list[int] = []
    for place, (token, character) in enumerate(zip(tokens.tolist(), characters, strict=True)):
        is_later_byte = is_byte and token & 0xC0 == 0x80 and character != "\ufffd"
        goes_on = place > 0 and (is_later_byte or _is_tied(character, characters[place - 1]))
        if not goes_on or place - starts[-1] == _MOST_TOKENS:
            starts.append(place)
    clusters = []
    for start, end in zip(starts, [*starts[1:], len(characters)], strict=True):
        text = vocabulary.decode(tokens[start:end])
        form = {"\n": "n", "\t": "t"}.get(text, "x" if visible(text) != text else "")
        if is_byte and characters[start] == "\ufffd":
            text, form = labels[tokens[start]], "x"
        clusters.append(Cluster(start, end, text, form))
    return clusters


def _is_tied(character: str, previous: str) -> bool:
    """Whether it belongs to what stands before it: a mark, or what a joiner joins."""
    return character in JOINERS or unicodedata.category(character)[0] == "M" or previous == "\u200d"


def names_of(vocabulary: Vocabulary) -> list[str]:
    """What each index is called beside the text: as its label, but a line break and a tab are the
    signs that they have in the text."""
    signs = {"\\n": spelled("\n"), "\\t": spelled("\t")}
    return [signs.get(label, label) for label in labels_of(vocabulary)]


def share(probability: float) -> str:
    return f"{100 * probability:.{0 if probability >= 0.0995 else 1}f} %"


# Surprisal


def by_surprisal(
    vocabulary: Vocabulary,
    tokens: Indices,
    clusters: Sequence[Cluster],
    bits: Floats,
    expected: Expected,
) -> Html:
    """A text (N,) with an element for each cluster: its colour tells the sum of its ``bits`` (N,),
    and its title what the model expected there."""
    names = names_of(vocabulary)
    shown = []
    for cluster in clusters:
        sum_ = float(np.nan_to_num(bits[cluster.start : cluster.end]).sum())
        level = sum(sum_ >= least for least in LEVELS)
        title = "\n\n".join(_told(cluster, tokens, bits, expected, names))
        classes = [f"s{level}"] * (level > 0) + [cluster.form] * bool(cluster.form)
        shown.append(element("span", cluster.text, class_=" ".join(classes) or None, title=title))
    return element("pre", *shown, id="text", class_="text", dir="auto")


def _told(
    cluster: Cluster, tokens: Indices, bits: Floats, expected: Expected, names: Sequence[str]
) -> Iterator[str]:
    """Of each token, in lines, its surprisal and what was expected; lines keep text that runs from
    right to left apart."""
    for place in range(cluster.start, cluster.end):
        name = names[tokens[place]]
        if np.isnan(bits[place]):
            yield f"nothing came before: {name}"
            continue
        pairs = zip(expected.indices[place], expected.probabilities[place], strict=True)
        guesses = [f"{share(probability)} {names[index]}" for index, probability in pairs]
        yield "\n".join([f"{bits[place]:.2f} bits: {name}", *guesses])


def scale() -> Html:
    """What the colours of surprisal mean."""
    bounds = [0.0, *LEVELS]
    told = [f"{low:g} to {high:g}" for low, high in pairwise(bounds)]
    steps = [
        element("span", name, class_=f"s{level}" if level else None)
        for level, name in enumerate([*told, f"{bounds[-1]:g} and more"])
    ]
    return element("p", "bits", *steps, class_="scale")


# Activations


def by_activation(clusters: Sequence[Cluster], values: Floats) -> Html:
    """A stretch of text in runs of like colour: ``values`` holds one for each of all tokens, of
    which a cluster has its last one's, against the largest of all, up or down."""
    largest = float(np.nanmax(np.abs(values), initial=0.0)) or 1.0
    runs = groupby(clusters, lambda cluster: _class_of(values[cluster.end - 1] / largest))
    parts: list[str] = []
    for class_, run in runs:
        text = "".join(cluster.text for cluster in run)
        parts.append(element("span", text, class_=class_) if class_ else text)
    return element("pre", *parts, class_="text", dir="auto")


def activity_scale() -> Html:
    """What the colours of activations mean."""
    told = {"low2": "far below 0", "low1": "below 0", "high1": "above 0", "high2": "far above 0"}
    return element(
        "p", *(element("span", text, class_=c) for c, text in told.items()), class_="scale"
    )


def _class_of(value: float) -> str:
    if not abs(value) >= _ACTIVE:  # it may be no number
        return ""
    return ("high" if value > 0 else "low") + ("2" if abs(value) >= _VERY_ACTIVE else "1")
