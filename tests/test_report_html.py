"""The HTML of ``chargen report``: what it is made of, its structure and its colours, charts that
lie where their axes say, and the text of strangers."""

import base64
import hashlib
import itertools
import math
import re
import unicodedata
from typing import Any

import numpy as np
import pytest
from pages import FABLE, LIMIT, Node, check_structure, page_of, random_model, read
from test_hostile_text import HOSTILE, KINDS, is_obeyed

from chargen.cli.consoles import surprisal_color
from chargen.errors import TextError
from chargen.report import charts
from chargen.report.charts import Line, line_chart
from chargen.report.page import document, element, join, number, table, visible
from chargen.report.theme import DARK, LEVELS, LIGHT


@pytest.fixture(scope="module")
def fable_page() -> str:
    return page_of(random_model(FABLE), FABLE)


@pytest.fixture(scope="module")
def fable(fable_page: str) -> Node:
    return read(fable_page)


# elements


def test_whatever_is_not_markup_is_escaped() -> None:
    made = element("a", "<b>&", element("i", '"'), title='"<', href=None, hidden=True, tabindex=0)
    assert made == '<a title="&quot;&lt;" hidden tabindex="0">&lt;b&gt;&amp;<i>&quot;</i></a>'
    assert join("<", element("i"), made) == f"&lt;<i></i>{made}"
    assert "<td>&lt;td&gt;</td>" in table("a", ("b", "c"), [("d", "<td>")])


def test_a_line_break_at_the_head_of_a_text_is_kept() -> None:
    assert read(element("pre", "\n\na")).text == "\n\na"


@pytest.mark.parametrize("kind", KINDS)
def test_what_cannot_be_seen_is_shown(kind: str) -> None:
    shown = visible(KINDS[kind])
    kept = [c for c in KINDS[kind] if c in shown]
    assert "".join(c for c in shown if c in kept and ord(c) > 0x7F) == "".join(
        c for c in kept if ord(c) > 0x7F
    )
    for character in set(shown):
        assert not is_obeyed(character)
        category = unicodedata.category(character)
        assert category not in ("Cs", "Co", "Cn", "Zl", "Zp") or character == "\ufffd"
        assert category != "Cf" or character in "\u200c\u200d"


@pytest.mark.parametrize(
    ("value", "told"),
    [
        *((0, "0"), (-0.0, "0"), (1234567, "1,234,567"), (1234567.5, "1.2346e+06")),
        *((0.30000000000000004, "0.3"), (-1.5, "−1.5"), (1e-7, "1e−07"), (1e15, "1e+15")),
        *((float("inf"), "inf"), (float("nan"), "nan")),
    ],
)
def test_numbers_are_short(value: float, told: str) -> None:
    assert number(value) == told


# the document


def policy_of(page: Node) -> dict[str, str]:
    meta = page.one("meta", **{"http-equiv": "Content-Security-Policy"})
    parts = (part.split(maxsplit=1) for part in str(meta.attributes["content"]).split(";"))
    return {part[0]: part[1] for part in parts}


def test_the_policy_lets_nothing_work_but_the_pages_own_style_and_script(fable: Node) -> None:
    policy = policy_of(fable)
    assert policy.pop("img-src") == "data:"
    for name in ("style", "script"):
        digest = hashlib.sha256(fable.one(name).text.encode()).digest()
        assert policy.pop(f"{name}-src") == f"'sha256-{base64.b64encode(digest).decode()}'"
    assert policy == dict.fromkeys(("default-src", "base-uri", "form-action"), "'none'")


def test_nothing_is_asked_of_the_network(fable: Node) -> None:
    addresses = {"href", "src", "srcset", "action", "data", "poster", "xlink:href", "ping"}
    for node in fable.all():
        for name, value in node.attributes.items():
            assert name != "style" and not name.startswith("on")
            if name in addresses:
                assert value == "data:," or str(value).startswith("#")
    style, script = fable.one("style").text, fable.one("script").text
    assert not re.search(r"url\(|@import|https?:|//", style)
    assert not re.search(r"https?:|fetch|XMLHttp|WebSocket|import|eval|innerHTML", script)


def test_the_page_says_what_it_is(fable: Node) -> None:
    assert fable.one("html").attributes["lang"] == "en"
    assert "width=device-width" in str(fable.one("meta", name="viewport").attributes["content"])
    assert fable.one("meta", name="color-scheme").attributes["content"] == "light dark"
    assert fable.one("head").one("title").text == "some.keras · chargen report"
    style = fable.one("style").text
    for part in ("color-scheme:light dark", "prefers-color-scheme:dark", "@media print"):
        assert part in style


def test_the_structure_is_sound(fable: Node) -> None:
    check_structure(fable)
    assert len([*fable.all("svg", role="img")]) == 4
    assert len([*fable.all("details")]) == 5


def test_the_check_of_the_structure_can_fail(fable_page: str) -> None:
    for good_part, bad_part in (
        ('id="part2"', 'id="part1"'),
        ("<h2", "<h4"),
        ('scope="col"', 'scope="none"'),
        ("<desc>", "<title>"),
        ('for="place"', 'for="nothing"'),
        ("<caption>", "<p>"),
    ):
        assert good_part in fable_page
        with pytest.raises((AssertionError, ValueError, KeyError)):
            check_structure(read(fable_page.replace(good_part, bad_part)))


def test_the_same_call_makes_the_same_page(fable_page: str) -> None:
    assert page_of(random_model(FABLE), FABLE) == fable_page


# colours


def luminance(color: str) -> float:
    """Relative, as WCAG 2.2 defines it."""
    parts = [int(color[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def contrast(one: str, other: str) -> float:
    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


def lightness(color: str) -> float:
    """CIE L*, from 0 to 100."""
    y = luminance(color)
    return 116 * y ** (1 / 3) - 16 if y > 0.008856 else 903.3 * y


def test_contrast_is_that_of_the_definition() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)


@pytest.mark.parametrize("colors", [LIGHT, DARK], ids=["light", "dark"])
def test_whatever_is_written_can_be_read(colors: dict[str, str]) -> None:
    backgrounds = ["paper", "card", "level1", "level2", "level3", "level4"]
    for background in [*backgrounds, "low1", "low2", "high1", "high2"]:
        assert contrast(colors["ink"], colors[background]) >= 4.5, background
    for text, background in itertools.product(("soft", "link"), ("paper", "card")):
        assert contrast(colors[text], colors[background]) >= 4.5, (text, background)
    for line in ("line1", "line2", "link"):
        assert contrast(colors[line], colors["paper"]) >= 3, line


@pytest.mark.parametrize("colors", [LIGHT, DARK], ids=["light", "dark"])
def test_the_colors_of_surprisal_go_one_way_in_lightness(colors: dict[str, str]) -> None:
    scale = [lightness(colors[name]) for name in ("paper", "level1", "level2", "level3", "level4")]
    steps = np.diff(scale) * (-1 if colors is LIGHT else 1)
    assert (steps > 3).all(), scale
    assert set(LIGHT) == set(DARK)


def test_the_levels_are_those_of_the_terminal() -> None:
    for least in LEVELS:
        assert surprisal_color(least - 1e-9) != surprisal_color(least)
    assert len({surprisal_color(bits) for bits in np.linspace(0, 20, 401)}) == len(LEVELS) + 1


# charts


def drawn(chart: str) -> tuple[Node, list[list[tuple[float, float]]]]:
    """The plot, and the points of each of its lines, as shares of its width and height."""
    plot = read(chart).one("svg", role="img")
    height = int(str(plot.attributes["height"])) - 26
    lines = []
    for path in plot.all("path"):
        numbers = re.findall(r"[ML]([-0-9.]+) ([-0-9.]+)", str(path.attributes["d"]))
        lines.append([(float(x) / 1000, 1 - float(y) / height) for x, y in numbers])
    return plot, lines


def axis(plot: Node, anchor: str) -> list[tuple[float, float]]:
    """The numbers written on an axis, and their places as shares of it."""
    height = int(str(plot.attributes["height"])) - 26
    powers = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹−", "-0123456789-")
    found = []
    for tick in plot.all("text", **{"text-anchor": anchor}):
        is_power = tick.text != tick.text.translate(powers) and tick.text.startswith("10")
        told = tick.text.translate(powers).replace(",", "")
        value = 10.0 ** int(told[2:]) if is_power else float(told)
        place = (
            float(str(tick.attributes["x"])[:-1]) / 100
            if anchor == "middle"
            else 1 - float(str(tick.attributes["y"])) / height
        )
        found.append((value, place))
    return found


CHARTS: dict[str, tuple[list[float], list[float], dict[str, Any]]] = {
    "curve": ([10, 20, 30, 40], [3.0, 2.5, 2.25, 2.2], {}),
    "from zero": ([1, 2, 3], [0.008, 0.004, 0.0], {"from_zero": True}),
    "negative": ([0, 50, 100], [-0.7, 0.2, 0.35], {}),
    "large": ([1000, 250000], [1200.0, 98000.0], {}),
    "logarithmic": (list(range(101)), [10 ** (-k / 9) for k in range(101)], {"log": True}),
    "flat": ([1, 2], [2.0, 2.0], {}),
}


@pytest.mark.parametrize("name", CHARTS)
def test_a_point_lies_where_the_axes_say(name: str) -> None:
    x, y, options = CHARTS[name]
    chart = line_chart(
        [Line("a", x, y)], title="t", description="d", x_label="x", y_label="y", **options
    )
    plot, (points,) = drawn(chart)
    for anchor, values, places in (
        ("middle", x, [point[0] for point in points]),
        ("end", y, [point[1] for point in points]),
    ):
        ticks = axis(plot, anchor)
        assert 2 <= len(ticks) <= 8
        shares = [place for _, place in ticks]
        assert shares == sorted(shares)
        assert shares[0] >= -1e-9 and shares[-1] <= 1 + 1e-9
        is_log = anchor == "end" and "log" in options
        scale = np.log if is_log else np.asarray
        slope, offset = np.polyfit(scale([value for value, _ in ticks]), shares, 1)
        np.testing.assert_allclose(slope * scale(values) + offset, places, atol=3e-3)
        assert all(-1e-9 <= place <= 1 + 1e-9 for place in places)
    if "from_zero" in options:
        assert axis(plot, "end")[0] == (0, 0)


def test_what_cannot_be_drawn_is_a_gap() -> None:
    y = [1.0, math.nan, 2.0, math.inf, 3.0, 1e300, 0.5]
    options: dict[str, Any] = {"title": "t", "description": "d", "x_label": "x", "y_label": "y"}
    plot, (points,) = drawn(line_chart([Line("a", range(7), y)], **options))
    assert len(points) == 4
    assert next(plot.all("path")).attributes["d"].count("M") == 4
    _, (positive,) = drawn(line_chart([Line("a", range(3), [1.0, 0.0, -1.0])], log=True, **options))
    assert len(positive) == 1
    for nothing in ([], [math.nan, math.inf]):
        _, (none,) = drawn(line_chart([Line("a", range(len(nothing)), nothing)], **options))
        assert none == []


def test_few_points_are_marked_and_several_lines_named() -> None:
    options: dict[str, Any] = {"title": "t", "description": "d", "x_label": "x", "y_label": "y"}
    most = charts._MOST_MARKED
    for size, marks in ((1, 1), (most, most), (most + 1, 0)):
        chart = read(line_chart([Line("a", range(size), [1.0] * size)], **options))
        assert len([*chart.all("circle")]) == marks
    two = read(line_chart([Line("<a>", [1], [1]), Line("b", [1], [2], 2)], **options))
    assert two.one("div", **{"class": "legend"}).text == "y <a> b"


# the text of strangers


@pytest.mark.parametrize("kind", ["char", "byte"])
def test_a_hostile_text_is_seen_and_does_nothing(kind: str) -> None:
    text = f"</pre></script><script>alert(1)</script>&lt;<!--{HOSTILE}'\"" * 2
    if kind == "byte":
        text = text.replace("\ufffd", "")  # as is shown by its bytes there
    name = "<h1><img src=x onerror=alert(1)>\u202e.keras"
    model = random_model(text, kind=kind, name=name)
    facts = {"trained on": "<i>\x1b\udce9</i>", "long": "x" * 10_000}
    made = page_of(model, text, facts=facts, repeat=f"chargen train '{text}'", generate="<b>")
    page = read(made)
    check_structure(page)
    allowed = {"\n", "\t"}
    assert not [c for c in set(made) if unicodedata.category(c) == "Cc" and c not in allowed]
    assert not any(map(is_obeyed, made))
    assert len([*page.all("script")]) == 1
    assert not [*page.all("img")] and not [*page.all("b")]
    assert page.one("pre", id="text").text == visible(text)
    assert page.one("h1").text == visible(name)
    made.encode("utf-8")
    assert len(made.encode()) < LIMIT
    assert "x" * 2000 in made and "x" * 2001 not in made


def test_a_document_is_ended_by_nothing_in_it() -> None:
    page = read(document("</title>", "a{}", "1", element("p", "</body></html>")))
    assert page.one("title").text == "</title>"
    assert page.one("p").text == "</body></html>"


def test_a_model_of_absurd_numbers_has_a_page(recwarn: pytest.WarningsRecorder) -> None:
    model = random_model(FABLE)
    model.history = [
        {"step": 2**62 * n, "loss": 3e38 * (-1) ** n, "learning_rate": 1e-300, "bits_per_char": 0}
        for n in (1, 2)
    ]
    check_structure(read(page_of(model, FABLE)))
    assert not recwarn.list


@pytest.mark.parametrize("text", ["Th", "The", "The wolf"])
@pytest.mark.parametrize("record", [{}, {"objective": "last", "sequence_length": 5}])
def test_a_short_text_has_a_page(
    text: str, record: dict[str, Any], recwarn: pytest.WarningsRecorder
) -> None:
    page = read(page_of(random_model(FABLE, **record), text))
    check_structure(page)
    assert page.one("pre", id="text").text == text
    assert not recwarn.list


def test_a_window_of_one_character_has_a_page() -> None:
    model = random_model(FABLE, objective="last", sequence_length=1)
    check_structure(read(page_of(model, FABLE)))


def test_too_short_a_text_is_refused() -> None:
    with pytest.raises(TextError, match="at least 2"):
        page_of(random_model(FABLE), "T")
