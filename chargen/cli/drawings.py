"""The pictures of `plots` for a terminal: each takes what its namesake there takes.

Each function returns rows of `canvas`, a title first; what the terminal would obey is escaped.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
from numpy.typing import NDArray

from chargen.cli.canvas import Curve, Row, bars_over_text, chart, scatter
from chargen.cli.consoles import one_line
from chargen.inspection import Projection, UnitMatch, learning_curves, moving_average
from chargen.plots import LONGEST_SPELLED, average_width

__all__ = ["along_text", "embedding", "history", "memory", "units"]

Floats = NDArray[np.float64]

_COLORS = (39, 208, 36, 175, 220, 81)  # of a terminal's 256, near those of the pictures
_COLOR_OF = {"letter": 39, "capital": 208, "digit": 36, "sign": 175, "byte": 81}
_HEIGHT, _LOW_HEIGHT, _PLANE_HEIGHT = 16, 6, 24  # rows
_TABLE, _BAR = 42, 30  # columns


def history(
    curves: Mapping[str, Sequence[Mapping[str, float]]], *, unit: str = "character", title: str = ""
) -> list[Row]:
    """The curves of trainings; the learning rate below, where it is known."""
    figures, rates = [], []
    for (name, points), color in zip(curves.items(), cycle(_COLORS), strict=False):
        training, held_out, rate = learning_curves(points)
        before = f"{one_line(name)} " if len(curves) > 1 else ""
        figures.append(Curve(f"{before}training", *training, color))
        if held_out.steps:
            figures.append(Curve(f"{before}held out", *held_out, color))
        if rate.steps:
            rates.append(Curve(before.strip(), *rate, color))
    rows = [_said(title), _said(f"bits per {unit}, by step"), *chart(figures, _width(), _HEIGHT)]
    if rates:
        rows += [_said("learning rate, by step"), *chart(rates, _width(), _LOW_HEIGHT)]
    return rows


def memory(
    curves: Mapping[str, Floats],
    *,
    relative: bool = False,
    unit: str = "character",
    title: str = "",
) -> list[Row]:
    """Gradient norms by distance, on a logarithmic scale."""
    drawn = [
        Curve(
            one_line(name),
            range(norms.size),
            (norms / (norms[0] if relative else 1)).tolist(),
            color,
        )
        for (name, norms), color in zip(curves.items(), cycle(_COLORS), strict=False)
    ]
    label = f"mean of ‖∂loss(t)/∂h(t−k)‖, {'k = 0 is 1' if relative else 'nats'}, k {unit}s back"
    return [_said(title), _said(label), *chart(drawn, _width(), _HEIGHT, log=True)]


def along_text(
    values: Floats, characters: str, *, label: str, unit: str = "character", title: str = ""
) -> list[Row]:
    """Bars over a short text, a moving average along a long one."""
    if len(characters) <= LONGEST_SPELLED:
        scale = f"{label}: ▁ is {np.nanmin(values):.2f}, █ is {np.nanmax(values):.2f}"
        return [_said(title), _said(scale), *bars_over_text(values.tolist(), characters, _width())]
    width = 2 * average_width(values.size) + 1  # there are fewer dots than in a file
    places = np.unique(np.linspace(0, values.size - 1, _width()).round().astype(int))
    average = moving_average(values, width)[places].tolist()
    told = f"{label}, mean of {width} {unit}s, by {unit} of the text"
    curve = Curve("", (places + 1).tolist(), average)
    return [_said(title), _said(told), *chart([curve], _width(), _HEIGHT)]


def units(matches: Sequence[UnitMatch], *, title: str = "") -> list[Row]:
    """A table, with a bar for each unit."""
    longest = max(1, min(_BAR, _width() - _TABLE))
    rows, previous = [_said(title), _said(f"{'follows':<22}{'unit':>5}{'correlation':>13}")], ""
    for feature, unit, correlation in matches:
        told = f"{feature if feature != previous else '':<22}{unit:>5}{correlation:>+13.2f}  "
        bar = "█" * round(abs(correlation) * longest)
        rows.append([(told, None), (bar, _COLORS[1 if correlation < 0 else 0])])
        previous = feature
    return rows


def embedding(
    projection: Projection, labels: Sequence[str], kinds: Sequence[str], *, title: str = ""
) -> list[Row]:
    """The labels in a plane, the furthest from the middle first where room is short."""
    furthest = np.argsort(-np.linalg.norm(projection.points, axis=1), kind="stable").tolist()
    points = [tuple(projection.points[row].tolist()) for row in furthest]
    colors = [_COLOR_OF.get(kinds[row]) for row in furthest]
    named = [labels[row] for row in furthest]
    across, up = (f"{100 * share:.0f} %" for share in projection.shares)
    told = f"first principal component to the right ({across} of the variance), second up ({up})"
    return [_said(title), *scatter(points, named, colors, _width(), _PLANE_HEIGHT), _said(told)]


def _said(line: str) -> Row:
    return [(one_line(line), None)]


def _width() -> int:
    return shutil.get_terminal_size().columns
