"""The hidden units of a model that follow something in a text, each along a stretch of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from chargen.features import characters_of, text_features
from chargen.inspection import activations, find_units
from chargen.model import Model
from chargen.report.coloring import Cluster, activity_scale, by_activation, clusters_of
from chargen.report.page import Html, details, element, table
from chargen.report.subject import Subject

__all__ = ["following"]

_READ = 10_000  # tokens, as `chargen plot units` does
_TOP = 3  # units told of for each thing that they may follow
_FOLLOWING = 0.3  # correlation from which a unit is shown
_MOST_SHOWN = 8
_STRETCH = 240  # characters


def following(model: Model, subject: Subject) -> Iterator[Html]:
    """The section."""
    tokens = subject.tokens[:_READ]
    found = activations(model.config, model.tensors, tokens, window=model.window)
    features = text_features(characters_of(model.vocabulary, tokens))
    matches = find_units(found, features, _TOP)
    if not matches:
        yield element("p", "There is nothing in the text that a unit could follow.")
        return
    yield element(
        "p",
        "What hidden units of the last layer hold along the text, where it goes up and down (or"
        " down and up) with something in it; the number is Pearson's correlation along"
        f" {tokens.size:,} {model.vocabulary.unit}s.",
    )
    yield activity_scale()
    clusters = clusters_of(model.vocabulary, tokens)
    best = list({match.feature: match for match in reversed(matches)}.values())
    best.sort(key=lambda match: -abs(match.correlation))
    shown = [match for match in best if abs(match.correlation) >= _FOLLOWING]
    for feature, unit, correlation in shown[:_MOST_SHOWN] or best[:1]:
        yield element("h3", f"Unit {unit}: {feature} ({_signed(correlation)})")
        yield by_activation(_stretch(clusters, features[feature]), found[:, unit].astype(float))
    yield details(
        "All that was looked for",
        table(
            "The units that follow each most closely",
            ("what it follows", "unit", "correlation"),
            [(feature, f"{unit}", _signed(number)) for feature, unit, number in matches],
        ),
    )


def _signed(correlation: float) -> str:
    return f"{correlation:+.2f}".replace("-", "−")


def _stretch(clusters: Sequence[Cluster], feature: NDArray[np.float64]) -> Sequence[Cluster]:
    """Of the stretches that begin with a line, or anywhere in a text without lines, the first
    along which a feature varies most."""
    values = feature[[cluster.end - 1 for cluster in clusters]]
    last = max(0, values.size - _STRETCH)
    lines = [place + 1 for place, one in enumerate(clusters[:last]) if one.text == "\n"]
    starts = [0, *lines] if lines else range(0, last + 1, _STRETCH // 4)
    start = max(starts, key=lambda start: float(values[start : start + _STRETCH].std()))
    return clusters[start : start + _STRETCH]
