"""A line chart as HTML: an inline SVG drawn with the standard library, and its numbers as a table.

A chart is as wide as its place. The lines are stretched, and what is written on the axes is not:
its places are per cent of the width, so that it is as large on a phone as elsewhere. Colours and
dashes are the page's style sheet's, by the class of a line. This room knows nothing of models.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from chargen.report.page import Html, details, element, join, number, table

__all__ = ["Line", "line_chart"]

_STRETCHED = 1000  # units along the width of what is stretched
_BELOW = 26  # pixels for the numbers of the axis
_MOST_MARKED = 40  # points
_MOST_STEPS = 5  # between the numbers of an axis
_LARGEST = 1e30  # that is drawn
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Line:
    """Values ``y`` at ``x``, in rising order; where y is no number, or beyond 1e30, there is a gap.
    ``kind``, 1 or 2, is how it is drawn."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    kind: int = 1


@dataclass(frozen=True)
class _Scale:
    """An axis from ``low`` to ``high``, with the numbers that are written on it."""

    low: float
    high: float
    ticks: Sequence[float]
    is_log: bool = False

    def share(self, value: float) -> float:
        """Where a number lies, from 0 to 1."""
        if self.is_log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def told(self, tick: float) -> str:
        if self.is_log:
            return "10" + str(round(math.log10(tick))).translate(_SUPERSCRIPTS)
        return number(tick)


def _scale(values: Sequence[float], *, ends_round: bool = True) -> _Scale:
    """With all ``values`` (at least one) on it; it ends at the first and the last of them, or at
    round numbers."""
    low, high = min(values), max(values)
    if low == high:
        low, high, ends_round = low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2, True
    step = _round_step((high - low) / _MOST_STEPS)
    first, last = low / step, high / step
    if ends_round:
        ticks = range(math.floor(first + 1e-9), math.ceil(last - 1e-9) + 1)
        return _Scale(ticks[0] * step, ticks[-1] * step, [tick * step for tick in ticks])
    ticks = range(math.ceil(first - 1e-9), math.floor(last + 1e-9) + 1)
    return _Scale(low, high, [tick * step for tick in ticks])


def _log_scale(values: Sequence[float]) -> _Scale:
    """That of powers of ten with all ``values``, which are above 0, between them."""
    low = math.floor(math.log10(min(values)))
    high = max(low + 1, math.ceil(math.log10(max(values))))
    every = math.ceil((high - low) / _MOST_STEPS)
    ticks = [10.0**power for power in range(low, high + 1, every)]
    return _Scale(10.0**low, 10.0**high, ticks, is_log=True)


def _round_step(least: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is no less."""
    power = 10.0 ** math.floor(math.log10(least))
    return power * next(times for times in (1, 2, 5, 10) if times * power >= least * (1 - 1e-9))


def line_chart(
    lines: Sequence[Line],
    *,
    title: str,
    description: str,
    x_label: str,
    y_label: str,
    height: int = 220,
    log: bool = False,
    from_zero: bool = False,
    rows: Sequence[Sequence[str]] = (),
    header: Sequence[str] = (),
) -> Html:
    """A figure of ``lines``; ``title`` and ``description`` are what it is for those who cannot see
    it.

    ``log`` is a logarithmic scale, on which values of 0 or less are gaps; ``from_zero`` begins the
    axis of y at 0. ``rows``, below their ``header``, are the numbers, behind a disclosure.
    """
    points = [
        [
            (x, y) if abs(y) < _LARGEST and (y > 0 or not log) else None
            for x, y in zip(line.x, line.y, strict=True)
        ]
        for line in lines
    ]
    drawn = [point for of_line in points for point in of_line if point is not None]
    drawn = drawn or [(0.0, 1.0)]
    across = _scale([x for x, _ in drawn], ends_round=False)
    heights = [y for _, y in drawn]
    up = _log_scale(heights) if log else _scale([0.0, *heights] if from_zero else heights)
    lines_of_svg = [
        *_up_axis(up, height),
        *_across_axis(across, height),
        *(
            _drawn(of_line, line.kind, across, up, height)
            for line, of_line in zip(lines, points, strict=True)
        ),
    ]
    return element(
        "figure",
        element("figcaption", title),
        _legend(y_label, lines),
        element(
            "svg",
            element("title", title),
            element("desc", description),
            *lines_of_svg,
            class_="plot",
            role="img",
            height=height + _BELOW,
        ),
        element("div", x_label, class_="below"),
        *([details("The numbers", table(title, header, rows))] if rows else []),
    )


def _legend(y_label: str, lines: Sequence[Line]) -> Html:
    """What the axis of y is, and what each line is where there are several."""
    keys = [
        element(
            "span",
            element(
                "svg",
                element("path", class_=f"line{line.kind}", d="M0 5H28"),
                class_="key",
                aria_hidden="true",
            ),
            f" {line.label}",
        )
        for line in lines
    ]
    return element(
        "div", element("span", y_label), *(keys if len(keys) > 1 else []), class_="legend"
    )


def _up_axis(up: _Scale, height: int) -> Iterator[Html]:
    for tick in up.ticks:
        y = f"{height * (1 - up.share(tick)):.1f}"
        yield element("line", class_="grid", x1=0, x2="100%", y1=y, y2=y)
        yield element("text", up.told(tick), x=-8, y=y, dy=4, text_anchor="end")


def _across_axis(across: _Scale, height: int) -> Iterator[Html]:
    yield element("line", class_="axis", x1=0, x2="100%", y1=height, y2=height)
    for tick in across.ticks:
        x = f"{100 * across.share(tick):.2f}%"
        yield element("line", class_="axis", x1=x, x2=x, y1=height, y2=height + 5)
        yield element("text", across.told(tick), x=x, y=height + 20, text_anchor="middle")


def _drawn(
    points: Sequence[tuple[float, float] | None], kind: int, across: _Scale, up: _Scale, height: int
) -> Html:
    """One line, and a mark for each of its points where they are few."""
    path, marks, pen = [], [], "M"
    for point in points:
        if point is None:
            pen = "M"
            continue
        x, y = across.share(point[0]), height * (1 - up.share(point[1]))
        path.append(f"{pen}{_STRETCHED * x:.1f} {y:.1f}")
        marks.append(
            element("circle", class_=f"mark{kind}", cx=f"{100 * x:.2f}%", cy=f"{y:.1f}", r="2.6")
        )
        pen = "L"
    line = element(
        "svg",
        element("path", class_=f"line{kind}", d="".join(path)),
        width="100%",
        height=height,
        viewBox=f"0 0 {_STRETCHED} {height}",
        preserveAspectRatio="none",
    )
    return join(line, *(marks if len(marks) <= _MOST_MARKED else []))
