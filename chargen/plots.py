"""Pictures of what `inspection` and a model's history say, as Matplotlib figures.

Each function takes numbers and returns a figure, which `figures.render` turns into PNG or SVG.
Colours are those of Okabe & Ito, which the colour-blind tell apart; dashes, markers and signs say
the same in print. This room knows nothing of models, files or the command line.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from chargen.figures import MONO, PAPER, Look, blank, drawable, settings
from chargen.inspection import Projection, UnitMatch, learning_curves, moving_average
from chargen.signs import spelled

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "LONGEST_SPELLED",
    "along_text",
    "average_width",
    "embedding",
    "history",
    "memory",
    "units",
]

Floats = NDArray[np.float64]

_BLUE, _ORANGE, _GREEN, _PINK = "#0072b2", "#d55e00", "#009e73", "#cc79a7"
_COLORS = (_BLUE, _ORANGE, _GREEN, _PINK, "#e69f00", "#56b4e9")
_DASHES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)), (0, (1, 1)))
_MARKERS = ("o", "s", "^", "D", "v", "P")
_COLOR_OF = {"letter": _BLUE, "capital": _ORANGE, "digit": _GREEN, "sign": _PINK, "byte": "#56b4e9"}

_LEGEND_COLUMNS = 90  # characters
_ROW = 80  # characters of a text
_MOST_ROWS = 6
LONGEST_SPELLED = _ROW * _MOST_ROWS  # characters
_MOST_CROWDED = 100  # labels that may touch one another
_PLANE = (6.6, 4.8)  # inches


def _finish(figure: Figure, panels: Iterable[Axes], handles: Sequence[Artist] = ()) -> None:
    """Grids, and a legend below all that is drawn, where there is more than one thing to tell."""
    for axes in panels:
        axes.grid()
    named = handles or figure.axes[0].get_legend_handles_labels()[0]
    if len(named) > 1:
        longest = max(len(str(handle.get_label())) for handle in named)
        columns = max(1, min(len(named), _LEGEND_COLUMNS // (longest + 6)))
        figure.legend(handles=list(named), loc="outside lower center", ncols=columns)


# Pictures


def history(
    curves: Mapping[str, Sequence[Mapping[str, float]]],
    *,
    unit: str = "character",
    title: str = "",
    look: Look = PAPER,
) -> Figure:
    """The loss in training and the held-out figure of each model in bits, and below them the
    learning rate, where it is known, by step. ``curves`` holds the histories of models by name."""
    from matplotlib.lines import Line2D

    with settings(look):
        found = {name: learning_curves(points) for name, points in curves.items()}
        has_rate = any(of_model.learning_rate.steps for of_model in found.values())
        figure = blank(look, 5.2 if has_rate else 4.2)
        heights = [3.4, 1] if has_rate else [1]
        panels: list[Axes] = list(
            figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights).flat
        )
        handles = [
            Line2D([], [], color=look.ink, linestyle="--", label="training"),
            Line2D([], [], color=look.ink, label="held out"),
        ]
        for number, (name, (training, held_out, rate)) in enumerate(found.items()):
            style: dict[str, Any] = {
                "color": _COLORS[number % len(_COLORS)],
                "marker": _MARKERS[number % len(_MARKERS)],
            }
            panels[0].plot(*training, linestyle="--", **style)
            panels[0].plot(*held_out, **style)
            if has_rate:
                panels[1].plot(*rate, **style)
            if len(curves) > 1:
                handles.append(Line2D([], [], label=drawable(name), **style))
        panels[0].set(title=drawable(title), ylabel=f"bits per {unit}")
        if has_rate:
            panels[1].set_ylim(bottom=0)
            panels[1].set_ylabel("learning rate")
        panels[-1].set_xlabel("step")
        _finish(figure, panels, handles)
        return figure


def memory(
    curves: Mapping[str, Floats],
    *,
    relative: bool = False,
    unit: str = "character",
    title: str = "",
    look: Look = PAPER,
) -> Figure:
    """How far back each model looks: `inspection.gradient_norms` against the distance k, on a
    logarithmic scale. ``relative`` divides each curve by its value at k = 0."""
    with settings(look):
        figure = blank(look, 4.4)
        axes = figure.subplots()
        for number, (name, norms) in enumerate(curves.items()):
            axes.plot(
                np.arange(norms.size),
                np.where(norms > 0, norms, np.nan) / (norms[0] if relative else 1.0),
                color=_COLORS[number % len(_COLORS)],
                linestyle=_DASHES[(number + number // len(_COLORS)) % len(_DASHES)],
                label=drawable(name),
            )
        axes.set_yscale("log")
        axes.set(
            title=drawable(title),
            xlabel=f"k, {unit}s back from the place t of the loss",
            ylabel="mean of ‖∂loss(t) / ∂h(t − k)‖, " + ("k = 0 is 1" if relative else "nats"),
        )
        _finish(figure, [axes])
        return figure


def along_text(
    values: Floats,
    characters: str,
    *,
    label: str,
    unit: str = "character",
    title: str = "",
    look: Look = PAPER,
) -> Figure:
    """Numbers (N,) along a text of N characters: bars over the text itself where it is short,
    else a curve and its moving average. ``label`` names the numbers and their unit."""
    with settings(look):
        if len(characters) <= LONGEST_SPELLED:
            return _over_the_text(values, characters, label, title, look)
        figure = blank(look, 3.8)
        axes = figure.subplots()
        width = average_width(values.size)
        places = np.arange(1, values.size + 1)
        axes.plot(places, values, color=_BLUE, alpha=0.35, linewidth=0.6, label=f"each {unit}")
        average = moving_average(values, width)
        axes.plot(places, average, color=_ORANGE, label=f"mean of {width} {unit}s")
        axes.set(title=drawable(title), xlabel=f"{unit} of the text", ylabel=label)
        axes.margins(x=0.01)
        _finish(figure, [axes])
        return figure


def average_width(size: int) -> int:
    """Over how many of ``size`` characters a moving average goes: an odd number."""
    return 2 * (size // 100) + 1


def _over_the_text(values: Floats, characters: str, label: str, title: str, look: Look) -> Figure:
    rows = max(1, math.ceil(len(characters) / _ROW))
    figure = blank(look, 0.8 + 0.9 * rows)
    figure.suptitle(drawable(title), x=0.01, ha="left", fontsize=11)
    figure.supylabel(label, fontsize=10)
    high = float(np.nanmax(np.abs(values), initial=0.0)) or 1.0
    low = -high if np.nanmin(values, initial=0.0) < 0 else 0.0
    for row, axes in enumerate(figure.subplots(rows, 1, squeeze=False).flat):
        part = slice(row * _ROW, (row + 1) * _ROW)
        heights = np.nan_to_num(values[part])
        places = np.arange(heights.size)
        axes.bar(places, heights, color=np.where(heights < 0, _ORANGE, _BLUE))
        letters = [drawable(spelled(c), MONO) for c in characters[part]]
        axes.set_xticks(places, letters, family=MONO, fontsize=10)
        for tick in axes.get_xticklabels():
            if len(tick.get_text()) > 2:  # an escape
                tick.set(rotation=90, fontsize=6)
        axes.tick_params(axis="x", length=0, pad=2)
        axes.tick_params(axis="y", labelsize=8)
        axes.set(xlim=(-0.7, _ROW - 0.3), ylim=(1.05 * low, 1.05 * high))
        if low < 0:
            axes.axhline(0, color=look.ink, linewidth=0.6)
            axes.spines["bottom"].set_visible(False)
    return figure


def units(matches: Sequence[UnitMatch], *, title: str = "", look: Look = PAPER) -> Figure:
    """The units that follow something in a text, by their absolute correlation with it."""
    with settings(look):
        figure = blank(look, 0.9 + 0.26 * len(matches))
        axes = figure.subplots()
        features = list(dict.fromkeys(match.feature for match in matches))
        middles: dict[str, list[float]] = {feature: [] for feature in features}
        for number, match in enumerate(matches):
            place, size = number + 0.6 * features.index(match.feature), abs(match.correlation)
            middles[match.feature].append(place)
            axes.barh(place, size, height=0.8, color=_ORANGE if match.correlation < 0 else _BLUE)
            told = f"unit {match.unit}, {match.correlation:+.2f}".replace("-", "−")
            axes.text(size + 0.01, place, told, va="center", fontsize=8)
        axes.set_yticks([float(np.mean(places)) for places in middles.values()], features)
        axes.tick_params(axis="y", length=0)
        axes.margins(y=0.02)
        axes.invert_yaxis()
        axes.set(
            xlim=(0, 1.15),
            xticks=[0, 0.2, 0.4, 0.6, 0.8, 1],
            title=drawable(title),
            xlabel="absolute correlation along the text",
        )
        axes.grid(axis="x")
        return figure


def embedding(
    projection: Projection,
    labels: Sequence[str],
    kinds: Sequence[str],
    *,
    title: str = "",
    look: Look = PAPER,
) -> Figure:
    """The embedding in two dimensions, with the label of each of its V rows in the colour of its
    kind (see `signs`). Of more than a hundred, those without room for their label are dots."""
    with settings(look):
        figure = blank(look, 6.4)
        axes = figure.subplots()
        points = projection.points
        shown = [drawable(label) for label in labels]
        size = 11 if len(points) <= _MOST_CROWDED else 8
        is_named = _with_room(points, shown, size)
        for kind, color in (_COLOR_OF | {"space": look.ink}).items():
            is_kind = np.array([other == kind for other in kinds])
            if not is_kind.any():
                continue
            x, y = points[is_kind & ~is_named].T
            axes.scatter(x, y, s=4, color=color)
            axes.scatter([], [], s=24, color=color, label=kind)
            style: dict[str, Any] = {"color": color, "ha": "center", "va": "center"}
            style |= {"weight": "bold", "fontsize": size + 4 * (kind == "sign")}
            for row in np.flatnonzero(is_kind & is_named).tolist():
                axes.text(points[row, 0], points[row, 1], shown[row], **style)
        axes.update_datalim(points)
        axes.set_aspect("equal", adjustable="datalim")
        axes.margins(0.06)
        axes.autoscale_view()
        first, second = (f"{100 * share:.0f} % of the variance" for share in projection.shares)
        axes.set(
            title=drawable(title),
            xlabel=f"first principal component, {first}",
            ylabel=f"second principal component, {second}",
        )
        _finish(figure, [axes])
        return figure


def _with_room(points: Floats, labels: Sequence[str], size: int) -> NDArray[np.bool_]:
    """Which of many labels can stand at their points, clear of each other: the one furthest from
    the middle comes first. ``size`` is that of the letters, in points of print."""
    if len(points) <= _MOST_CROWDED:
        return np.ones(len(points), np.bool_)
    scale = 72 * np.min(np.array(_PLANE) / np.maximum(np.ptp(points, axis=0), 1e-30))
    places = scale * points
    halves = size * np.array([[0.4 * len(label) + 0.2, 0.7] for label in labels])
    named: list[int] = []
    for row in np.argsort(-np.linalg.norm(points, axis=1), kind="stable").tolist():
        apart = np.abs(places[named] - places[row]) > halves[named] + halves[row]
        if apart.any(axis=1).all():
            named.append(row)
    found = np.zeros(len(points), np.bool_)
    found[named] = True
    return found
