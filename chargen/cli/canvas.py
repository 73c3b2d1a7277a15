"""Pictures in a terminal: curves in braille dots, labels at points, bars over a text.

Each function returns rows of runs, a run being a text and one of the terminal's 256 colours or
None. A mark that a terminal would put on the character before it stands on a dotted circle. This
room prints nothing and knows nothing of what it draws.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import groupby, pairwise, product
from typing import NamedTuple

from rich.cells import cell_len, set_cell_size

from chargen.cli.consoles import sparkline
from chargen.signs import spelled

__all__ = ["Curve", "Row", "bars_over_text", "chart", "scatter"]

Row = list[tuple[str, int | None]]
Place = tuple[float, float]  # x from the left and y from the top, each from 0 to 1

_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # by row and column in a cell
_NO_DOTS = 0x2800
_FEWEST_TICKS = 3
_LONGEST_NAME = 24
_NEARBY = sorted(product(range(-2, 3), range(-6, 7)), key=lambda step: math.hypot(*step))


class Curve(NamedTuple):
    """Values by place, with a name and a colour."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float]
    color: int | None = None


def chart(curves: Sequence[Curve], width: int, height: int, *, log: bool = False) -> list[Row]:
    """Curves on common axes, ``width`` columns wide and ``height`` rows high over two of the axis.

    Each has its name at its right end. What is not a number is a gap, and with ``log`` so is what
    is not positive.
    """
    lines = [[(x, _height(y, log)) for x, y in zip(c.xs, c.ys, strict=True)] for c in curves]
    shown = [point for line in lines for point in line if not math.isnan(point[1])]
    if not shown:
        return [[("nothing to draw", None)]]
    left, right = min(x for x, _ in shown), max(x for x, _ in shown)
    low, high = min(y for _, y in shown), max(y for _, y in shown)
    labels: dict[int, str] = {}
    for tick in _ticks(low, high):
        row = round(_share(tick, high, low) * (height - 1))
        labels.setdefault(row, f"{10**tick if log else tick:.6g}")
    margin = max(map(len, labels.values()))
    names = min(_LONGEST_NAME, max(cell_len(curve.name) for curve in curves))
    sheet = _Braille(max(8, width - margin - 2 - (names and names + 1)), height)
    ends: dict[int, Curve] = {}
    for curve, line in zip(curves, lines, strict=True):
        places = [(_share(x, left, right), _share(y, high, low)) for x, y in line]
        drawn = [place for place in places if not math.isnan(place[1])]
        for start, stop in [*zip(drawn, drawn, strict=True), *pairwise(places)]:
            sheet.line(start, stop, curve.color)
        if drawn:
            free = [row for row in range(height) if row not in ends]
            end = drawn[-1][1] * (height - 1)
            ends[min(free, key=lambda row: abs(row - end))] = curve
    rows: list[Row] = []
    for number in range(height):
        label = labels.get(number, "")
        cells = sheet.row(number)
        if names and number in ends:
            name = set_cell_size(ends[number].name, names)
            cells += [(" ", None), (name.rstrip(), ends[number].color)]
        rows.append([(f"{label:>{margin}} {'┤' if label else '│'}", None), *_runs(cells)])
    first, last = f"{left:,.6g}", f"{right:,.6g}"
    rows.append([(f"{'':{margin}} └{'─' * sheet.width}", None)])
    rows.append([(f"{'':{margin}}  {first}{last:>{sheet.width - len(first)}}", None)])
    return rows


class _Braille:
    """A sheet of dots, two columns and four rows of them in each cell."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._cells: dict[tuple[int, int], tuple[int, int | None]] = {}

    def line(self, start: Place, end: Place, color: int | None) -> None:
        """Dots from one place to another, unless one of them is not a number."""
        if math.isnan(start[1] + end[1]):
            return
        x, y = self._dot(start)
        to_right, down = self._dot(end)[0] - x, self._dot(end)[1] - y
        steps = max(abs(to_right), abs(down), 1)
        for step in range(steps + 1):
            column, row = x + round(to_right * step / steps), y + round(down * step / steps)
            cell = (row // 4, column // 2)
            dots, _ = self._cells.get(cell, (0, None))
            self._cells[cell] = (dots | _DOTS[row % 4][column % 2], color)

    def _dot(self, place: Place) -> tuple[int, int]:
        return round(place[0] * (2 * self.width - 1)), round(place[1] * (4 * self.height - 1))

    def row(self, number: int) -> Row:
        """A row's cells, one by one."""
        cells = [self._cells.get((number, column), (0, None)) for column in range(self.width)]
        return [(chr(_NO_DOTS + dots) if dots else " ", color) for dots, color in cells]


def scatter(
    points: Sequence[Place],
    labels: Sequence[str],
    colors: Sequence[int | None],
    width: int,
    height: int,
) -> list[Row]:
    """Each label at its point (x, y), or as near as there is room; what finds none is left out."""
    xs, ys = zip(*points, strict=True)
    cells: list[list[tuple[str, int | None]]] = [[(" ", None)] * width for _ in range(height)]
    taken: set[tuple[int, int]] = set()
    for (x, y), label, color in zip(points, map(_standing, labels), colors, strict=True):
        size = cell_len(label)
        row = round(_share(y, max(ys), min(ys)) * (height - 1))
        column = round(_share(x, min(xs), max(xs)) * (width - size))
        for down, to_right in _NEARBY:
            needed = {(row + down, column + to_right + place) for place in range(size)}
            inside = all(0 <= r < height and 0 <= c < width for r, c in needed)
            if inside and not needed & taken:
                taken |= needed
                cells[row + down][column + to_right] = (label, color)
                for place in range(1, size):
                    cells[row + down][column + to_right + place] = ("", color)
                break
    return [_runs(row) for row in cells]


def bars_over_text(values: Sequence[float], characters: str, width: int) -> list[Row]:
    """A text in rows, over each a row of bars, from the lowest value to the highest; nothing
    stands over a character whose value is not a number."""
    bars = iter(sparkline([value for value in values if not math.isnan(value)]))
    over, under, size = "", "", 0
    rows: list[Row] = []
    for value, character in zip(values, characters, strict=True):
        bar, letter = " " if math.isnan(value) else next(bars), _standing(spelled(character))
        if size + cell_len(letter) > width:
            rows += [[(over.rstrip(), None)], [(under, None)]]
            over, under, size = "", "", 0
        over, under = over + bar * cell_len(letter), under + letter
        size += cell_len(letter)
    return [*rows, [(over.rstrip(), None)], [(under, None)]]


def _standing(label: str) -> str:
    return label if cell_len(label) else f"\N{DOTTED CIRCLE}{label}"


def _height(y: float, log: bool) -> float:
    if not log:
        return y
    return math.log10(y) if y > 0 else math.nan


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers from ``low`` to ``high``: multiples of 1, 2 or 5 times a power of ten."""
    if low == high:
        return [low]
    power = 10.0 ** math.floor(math.log10((high - low) / _FEWEST_TICKS))
    step = next(m * power for m in (5, 2, 1) if m * power * _FEWEST_TICKS <= high - low)
    return [number * step for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _share(value: float, start: float, end: float) -> float:
    """Where ``value`` lies on the way from ``start`` to ``end``."""
    return 0.5 if start == end else (value - start) / (end - start)


def _runs(cells: Iterable[tuple[str, int | None]]) -> Row:
    """Cells of one colour taken together, without the blanks at the end."""
    kept = list(cells)
    while kept and kept[-1][0] == " ":
        kept.pop()
    grouped = groupby(kept, key=lambda cell: cell[1])
    return [("".join(text for text, _ in group), color) for color, group in grouped]
