"""Pictures: what is drawn is what was given, in bytes that repeat, with nothing that warns."""

import ast
import hashlib
import itertools
import math
import os
import subprocess
import sys
import warnings
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_walls import FILES, NAMES, packages

from chargen import figures, plots
from chargen.errors import RunError
from chargen.figures import NEUTRAL, PAPER, render, svg_element
from chargen.inspection import UnitMatch, moving_average, principal_components
from chargen.signs import escaped, kinds_of, labels_of, spelled
from chargen.vocabulary import Vocabulary

SVG = "{http://www.w3.org/2000/svg}"
ODD = "$x$ \\alpha 一ü\x1b\n😀"
ODD_SHOWN = "$x$ \\alpha U+4E00ü\\x1b\\n"
RNG = np.random.default_rng(0)
HISTORY = [
    {"step": 10, "loss": 3.0, "learning_rate": 0.01},
    {"step": 20, "loss": 2.0, "learning_rate": 0.005, "bits_per_char": 3.1},
    {"step": 30, "loss": 1.5, "learning_rate": 0.001, "bits_per_char": 2.9},
]
BARE = [{"step": 7, "loss": 2.5}]
MATCHES = [
    UnitMatch("inside quotes", 3, -0.9),
    UnitMatch("inside quotes", 5, 0.25),
    UnitMatch("capital", 3, 0.5),
]
NORMS = np.array([2.0, 1.0, 0.5, 0.0])
VOCABULARY = Vocabulary.from_text("abcXY 1.\n一")
PLANE = principal_components(RNG.normal(size=(len(VOCABULARY), 5)))


def pictures(**options: Any) -> dict[str, Callable[[], Any]]:
    """One of each kind; the options go to all."""
    values, text = np.sin(np.arange(900.0) ** 2), "The quick $5$ 一二 fox\n" * 45
    both = {"a.keras": HISTORY, ODD: BARE}
    short = {"label": "bits", **options}
    return {
        "history": lambda: plots.history(both, **options),
        "memory": lambda: plots.memory({"a": NORMS, ODD: NORMS[:2] + 1}, **options),
        "long": lambda: plots.along_text(values, text[:900], **short),
        "short": lambda: plots.along_text(values[:90], text[:90], **short),
        "units": lambda: plots.units(MATCHES, **options),
        "embedding": lambda: plots.embedding(
            PLANE, labels_of(VOCABULARY), kinds_of(VOCABULARY), **options
        ),
    }


PICTURES = tuple(pictures())
every_picture = pytest.mark.parametrize("name", PICTURES)


def texts(figure: Any) -> list[str]:
    """All that is written in a figure, as it is shown."""
    from matplotlib.text import Text

    figure.draw_without_rendering()
    found = [text.get_text() for text in figure.findobj(Text) if text.get_visible()]
    return [text.replace(r"\$", "$") for text in found if text]


# bytes


@every_picture
def test_every_picture_is_a_png_and_an_svg_and_says_nothing(
    name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = pictures(title=ODD)[name]()
        png, svg = render(figure, "png"), render(figure, "svg")
    assert capfd.readouterr() == ("", "")
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    assert int.from_bytes(png[16:20]) == 8 * 160
    assert ElementTree.fromstring(svg).tag == f"{SVG}svg"
    assert b"<dc:date>" not in svg
    assert b"Software" not in png
    assert any(text.startswith(ODD_SHOWN) for text in texts(figure))


CHILD = """
import sys
from test_plots import hashes
print(*hashes(), "matplotlib.pyplot" in sys.modules)
"""


def hashes() -> list[str]:
    """Of each picture, by turns of its PNG and of its SVG."""
    kinds = itertools.cycle(("png", "svg"))
    made = [render(make(), kind) for make, kind in zip(pictures().values(), kinds, strict=False)]
    return [hashlib.sha256(data).hexdigest() for data in made]


def test_the_same_numbers_give_the_same_bytes_whatever_the_reader_has_set(tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_text("lines.linewidth: 9\nsvg.fonttype: none\n")
    paths = ":".join([str(Path(__file__).parent), *filter(None, sys.path)])
    ended = subprocess.run(
        [sys.executable, "-c", CHILD],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": paths},
    )
    *found, has_pyplot = ended.stdout.split()
    assert (found, has_pyplot, ended.stderr) == (hashes(), "False", "")
    assert len(set(found)) == len(PICTURES)


def test_an_svg_element_stands_in_a_page_and_leaves_the_rest_of_it_alone() -> None:
    element = svg_element(pictures()["memory"]())
    assert element.startswith("<svg ")
    root = ElementTree.fromstring(element)
    assert "stroke-linejoin" in root.attrib["style"]
    assert {f"{SVG}style", f"{SVG}metadata"}.isdisjoint(part.tag for part in root.iter())
    whole = ElementTree.fromstring(render(pictures()["memory"](), "svg"))
    assert [p.attrib for p in root.iter(f"{SVG}path")] == [
        p.attrib for p in whole.iter(f"{SVG}path")
    ]


@every_picture
def test_a_neutral_picture_has_nothing_behind_it_and_no_black_or_white(name: str) -> None:
    neutral = render(pictures(look=NEUTRAL)[name](), "svg").decode()
    assert NEUTRAL.ink in neutral
    for color in (PAPER.ink, "#ffffff", "#000000"):
        assert color not in neutral
    if name == "memory":
        paper = render(pictures()[name](), "svg").decode()
        assert PAPER.ink in paper
        assert "#ffffff" in paper


@every_picture
def test_the_legend_covers_nothing(name: str) -> None:
    figure = pictures(title="t")[name]()
    figure.draw_without_rendering()
    for legend in figure.legends:
        box = legend.get_window_extent()
        assert not any(box.overlaps(axes.get_tightbbox()) for axes in figure.axes)
        assert figure.bbox.contains(box.x0, box.y0)
        assert figure.bbox.contains(box.x1, box.y1)
    for axes in figure.axes:
        assert figure.bbox.padded(1).containsy(axes.get_tightbbox().y0)


# what is drawn


def lines_of(axes: Any) -> list[tuple[list[float], list[float]]]:
    drawn = [line.get_data() for line in axes.lines]
    return [(list(map(float, x)), list(map(float, y))) for x, y in drawn]


def test_a_history_is_drawn_in_bits_with_the_learning_rate_below() -> None:
    figure = plots.history({"a": HISTORY, "b": BARE}, unit="byte", title="Runs")
    bits, rates = figure.axes
    nats = [y * math.log(2) for _, ys in lines_of(bits)[::2] for y in ys]
    assert nats == pytest.approx([3, 2, 1.5, 2.5])
    assert [x for x, _ in lines_of(bits)] == [[10, 20, 30], [20, 30], [7], []]
    assert lines_of(bits)[1] == ([20, 30], [3.1, 2.9])
    assert lines_of(rates) == [([10, 20, 30], [0.01, 0.005, 0.001]), ([], [])]
    assert [bits.get_ylabel(), rates.get_ylabel(), rates.get_xlabel()] == [
        "bits per byte",
        "learning rate",
        "step",
    ]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["training", "held out", "a", "b"]
    assert bits.lines[0].get_color() == bits.lines[1].get_color() != bits.lines[2].get_color()
    assert bits.lines[0].get_marker() != bits.lines[2].get_marker()
    assert bits.lines[0].get_linestyle() != bits.lines[1].get_linestyle()


def test_a_history_without_learning_rates_has_one_panel() -> None:
    (axes,) = plots.history({"a": BARE}).axes
    assert axes.get_xlabel() == "step"


@pytest.mark.parametrize("relative", [False, True])
def test_memory_is_drawn_on_a_logarithmic_scale(relative: bool) -> None:
    (axes,) = plots.memory({"a": NORMS, "b": NORMS + 1}, relative=relative).axes
    assert axes.get_yscale() == "log"
    first, second = (line.get_ydata() for line in axes.lines)
    np.testing.assert_array_equal(first, np.array([2, 1, 0.5, np.nan]) / (2 if relative else 1))
    np.testing.assert_array_equal(second, (NORMS + 1) / (3 if relative else 1))
    assert [line.get_xdata().tolist() for line in axes.lines] == [[0, 1, 2, 3]] * 2
    assert axes.lines[0].get_linestyle() != axes.lines[1].get_linestyle()
    assert ("k = 0" in axes.get_ylabel()) == relative


def test_a_short_text_is_spelled_out_under_its_bars() -> None:
    text = "ab c\nd\té一$" + "x" * 80
    values = np.linspace(-1, 1, len(text))
    values[0] = np.nan
    figure = plots.along_text(values, text, label="h", title="Unit")
    assert len(figure.axes) == 2
    bars = [bar for axes in figure.axes for bar in axes.patches]
    assert [bar.get_height() for bar in bars] == pytest.approx([0, *values[1:]])
    letters = [tick.get_text() for axes in figure.axes for tick in axes.get_xticklabels()]
    assert "".join(letters[:10]) == "ab c↵d→éU+4E00\\$"
    assert letters[10:] == ["x"] * 80
    down, up = bars[1].get_facecolor(), bars[-1].get_facecolor()
    assert down != up
    assert {axes.get_ylim() for axes in figure.axes} == {(-1.05, 1.05)}
    positive = plots.along_text(np.abs(values), text, label="bits").axes[0]
    assert positive.get_ylim()[0] == 0


def test_a_long_text_has_a_moving_average() -> None:
    values = RNG.normal(size=1000)
    (axes,) = plots.along_text(values, "x" * 1000, label="bits").axes
    each, average = axes.lines
    np.testing.assert_array_equal(each.get_ydata(), values)
    np.testing.assert_array_equal(average.get_ydata(), moving_average(values, 21))
    assert average.get_label() == "mean of 21 characters"
    assert average.get_xdata()[[0, -1]].tolist() == [1, 1000]
    assert len(plots.along_text(values[:480], "x" * 480, label="bits").axes) == 6


def test_units_are_bars_with_the_sign_of_their_correlation() -> None:
    figure = plots.units(MATCHES, title="Units")
    (axes,) = figure.axes
    assert [bar.get_width() for bar in axes.patches] == [0.9, 0.25, 0.5]
    colors = [bar.get_facecolor() for bar in axes.patches]
    assert colors[0] != colors[1] == colors[2]
    shown = texts(figure)
    for text in ("unit 3, −0.90", "unit 5, +0.25", "unit 3, +0.50", "inside quotes", "capital"):
        assert text in shown
    tops = [bar.get_y() for bar in axes.patches]
    assert tops == sorted(tops)
    assert axes.yaxis_inverted()


def test_an_embedding_has_each_label_at_its_point() -> None:
    labels, kinds = labels_of(VOCABULARY), kinds_of(VOCABULARY)
    (axes,) = plots.embedding(PLANE, labels, kinds).axes
    placed = {text.get_text(): text.get_position() for text in axes.texts}
    shown = [label if label != "一" else "U+4E00" for label in labels]
    assert {"\\n", "␣", "a", "X", "1", "."} < set(shown)
    assert placed == dict(zip(shown, map(tuple, PLANE.points.tolist()), strict=True))
    for x, y in PLANE.points:
        assert axes.viewLim.contains(x, y)


def test_labels_of_a_large_vocabulary_stand_clear_of_each_other() -> None:
    plane = PLANE._replace(points=RNG.normal(size=(700, 2)))
    labels = [["x", "\\xe9", "W", "一"][row % 4] for row in range(700)]
    figure = plots.embedding(plane, labels, ["letter", "byte"] * 350)
    figure.draw_without_rendering()
    (axes,) = figure.axes
    named = {text.get_position() for text in axes.texts}
    assert len(named) > 50
    furthest = max(plane.points.tolist(), key=lambda point: math.hypot(*point))
    assert tuple(furthest) in named
    dots = {tuple(dot) for drawn in axes.collections for dot in drawn.get_offsets().tolist()}
    assert named.isdisjoint(dots)
    assert named | dots == set(map(tuple, plane.points.tolist()))
    boxes = [text.get_window_extent() for text in axes.texts]
    assert not any(box.overlaps(other) for box, other in itertools.combinations(boxes, 2))


# signs


def test_signs() -> None:
    assert escaped("a\tb\x1b[0m\u202eé") == "a\\tb\\x1b[0m\\u202eé"
    assert "".join(map(spelled, "a b\n\t\r\x00é")) == "a b↵→\\r\\x00é"
    assert labels_of(Vocabulary.from_text(" \na\u200b")) == ["\\n", "␣", "a", "\\u200b"]
    kinds = " ".join(kinds_of(Vocabulary.from_text("\n !9a²É\u200b一")))
    assert kinds == "space space sign digit letter digit capital space letter"
    of_bytes = Vocabulary.of_bytes()
    assert labels_of(of_bytes)[0x41] == "A"
    assert labels_of(of_bytes)[0xE9] == "\\xe9"
    assert kinds_of(of_bytes)[0x7F:0x81] == ["space", "byte"]


# Matplotlib


def test_without_matplotlib_a_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(RunError, match=r"pip install 'chargen\[plot\]'") as caught:
        plots.memory({"a": NORMS})
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("path", FILES, ids=NAMES.values())
def test_only_figures_and_plots_import_matplotlib(path: Path) -> None:
    allowed = {"chargen/figures", "chargen/plots"}
    tree = ast.parse(path.read_text("utf-8"))
    at_once = {
        ast.unparse(node) for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert not any("matplotlib" in statement for statement in at_once)
    assert "matplotlib" not in packages(path) or NAMES[path] in allowed


def test_the_fonts_lack_what_is_escaped() -> None:
    assert figures.drawable("é一") == "éU+4E00"
    assert figures.drawable("a$b\\", figures.MONO) == "a\\$b\\"
