"""The page of ``chargen report``: its numbers against slow twins, its HTML against a strict reader,
the text of strangers, and the command."""

import base64
import hashlib
import itertools
import json
import math
import re
import shlex
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import PANGRAMS, Command
from pages import FACTS, HISTORY, Node, page_of, random_model, read
from test_cli import good
from test_cli_errors import FAILED, MODEL, TEXT, USAGE, is_refused
from test_evaluation import slow_expectation
from test_hostile_text import HOSTILE, KINDS, is_obeyed
from test_walls import loaded_by_command

import chargen
from chargen.cli.consoles import surprisal_color
from chargen.evaluation import baselines, surprisal_bits
from chargen.features import text_features
from chargen.inspection import activations, find_units, gradient_norms
from chargen.report import charts, own_corpus, own_subject, report, subject
from chargen.report.charts import Line, line_chart
from chargen.report.coloring import by_activation, clusters_of
from chargen.report.memory import reach
from chargen.report.page import document, element, join, number, table, visible
from chargen.report.theme import DARK, LEVELS, LIGHT
from chargen.report.units import _stretch
from chargen.vocabulary import Vocabulary

FABLE = "The wolf said: “Thank you (for 1 thing).”\n\nA crane, and a wolf; naïve!\n" * 8
LIMIT = 1_000_000  # bytes, of a page


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


def check_structure(page: Node) -> None:
    """What those need who do not see the page."""
    ids = [node.attributes["id"] for node in page.all() if "id" in node.attributes]
    assert len(set(ids)) == len(ids)
    levels = [int(node.name[1]) for node in page.all() if re.fullmatch("h[1-6]", node.name)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    for one in page.all("table"):
        assert one.one("caption").text
        assert all(head.attributes["scope"] in ("row", "col") for head in one.all("th"))
        widths = {len([c for c in row.children if isinstance(c, Node)]) for row in one.all("tr")}
        assert len(widths) == 1
    for picture in page.all("svg", role="img"):
        first, second = picture.children[:2]
        assert isinstance(first, Node) and isinstance(second, Node)
        assert (first.name, second.name) == ("title", "desc")
        assert first.text and second.text
    pictures = [node for node in page.all("svg") if "role" not in node.attributes]
    inner = [one for picture in page.all("svg", role="img") for one in picture.all("svg")]
    hidden = [one for one in pictures if one.attributes.get("aria-hidden") == "true"]
    assert len(pictures) == len(inner) + len(hidden)
    labels = {label.attributes["for"] for label in page.all("label")}
    assert {slider.attributes["id"] for slider in page.all("input")} == labels
    targets = {str(link.attributes["href"])[1:] for link in page.all("a")}
    targets |= {str(node.attributes["aria-labelledby"]) for node in page.all("section")}
    assert targets <= set(ids)
    assert [link.text for link in page.all("a")] == [head.text for head in page.all("h2")]


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


# the text in colours


def test_the_text_is_all_there(fable: Node) -> None:
    assert fable.one("pre", id="text").text == FABLE


@pytest.mark.parametrize("cell", ["lstm", "rnn"])
def test_places_tell_what_a_plain_loop_finds(cell: str) -> None:
    model = random_model(FABLE, cell)
    spans = [*read(page_of(model, FABLE)).one("pre", id="text").all("span")]
    tokens = model.vocabulary.encode(FABLE)
    assert len(spans) == tokens.size
    assert spans[0].attributes == {"title": "nothing came before: T"}
    for place in (1, 2, 40, 41, 77, 300):
        expected = slow_expectation(model.engine, tokens[:place], len(model.vocabulary))
        bits = -math.log2(dict(expected)[tokens[place]])
        told, *guesses = str(spans[place].attributes["title"]).split("\n")
        assert told == f"{bits:.2f} bits: {spelled_out(FABLE[place])}"
        assert [guess.split(" % ")[1] for guess in guesses] == [
            spelled_out(chr(model.vocabulary.characters[index])) for index, _ in expected[:3]
        ]
        assert [float(guess.split(" %")[0]) for guess in guesses] == pytest.approx(
            [100 * share for _, share in expected[:3]], abs=0.5
        )
        level = f"s{sum(bits >= least for least in (1, 2.5, 4.5, 7))}"
        assert ({level} - {"s0"}) == {c for c in spans[place].classes if c != "n"}


def spelled_out(character: str) -> str:
    return {"\n": "↵", " ": "␣"}.get(character, character)


CLUSTERS = {
    "plain": (["a", "b", "\n"], "char"),
    "marks": (["e\u0301", "u\u0308\u0304", "a"], "char"),
    "joined": (["👩\u200d👧", "b"], "char"),
    "greek": (["α", "β", "\n", "x"], "byte"),
    "emoji": (["👩", "a"], "byte"),
}


@pytest.mark.parametrize("name", CLUSTERS)
def test_what_belongs_together_is_shown_together(name: str) -> None:
    parts, kind = CLUSTERS[name]
    text = "".join(parts)
    vocabulary = Vocabulary.of_bytes() if kind == "byte" else Vocabulary.from_text(text)
    found = clusters_of(vocabulary, vocabulary.encode(text))
    assert [cluster.text for cluster in found] == parts
    assert [cluster.end for cluster in found][:-1] == [cluster.start for cluster in found][1:]
    assert (found[0].start, found[-1].end) == (0, vocabulary.encode(text).size)


def test_bytes_of_no_character_are_told_apart() -> None:
    vocabulary = Vocabulary.of_bytes()
    found = clusters_of(vocabulary, np.frombuffer(b"\xb1a\xce\xff\xce\xb1\x80\x1b", np.uint8))
    assert [c.text for c in found] == ["\\xb1", "a", "\\xce", "\\xff", "α", "\\x80", "\x1b"]
    assert [c.form for c in found] == ["x", "", "x", "x", "", "x", "x"]


def test_marks_without_end_are_cut() -> None:
    text = "a" + "\u0301" * 100
    vocabulary = Vocabulary.from_text(text)
    sizes = [c.end - c.start for c in clusters_of(vocabulary, vocabulary.encode(text))]
    assert sum(sizes) == 101
    assert max(sizes) == 32


def test_activations_are_colored_against_the_largest() -> None:
    text = "abcdefgh"
    vocabulary = Vocabulary.from_text(text)
    clusters = clusters_of(vocabulary, vocabulary.encode(text))
    values = np.array([0.0, 0.09, 0.11, 0.29, 0.31, 0.5, -0.2, -0.4])
    pre = read(by_activation(clusters, values)).one("pre")
    assert pre.text == text
    assert [(span.text, span.attributes["class"]) for span in pre.all("span")] == [
        *[("cd", "high1"), ("ef", "high2"), ("g", "low1"), ("h", "low2")]
    ]
    assert "span" not in by_activation(clusters, np.zeros(8))


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


# the numbers of the page


def tables_of(page: Node) -> dict[str, list[list[str]]]:
    return {
        one.one("caption").text: [
            [c.text for c in row.children if isinstance(c, Node)] for row in one.all("tr")
        ]
        for one in page.all("table")
    }


def test_the_figures_are_those_of_evaluation(fable: Node) -> None:
    model = random_model(FABLE)
    found = model.evaluate(FABLE)
    tiles = dict(zip((n.text for n in fable.all("dt")), (n.text for n in fable.all("dd"))))  # noqa: B905
    assert tiles["bits per character"] == f"{found.bits_per_char:.4f}"
    assert tiles["perplexity"] == f"{found.perplexity:.3f}"
    assert tiles["parameters"] == f"{model.config.num_parameters:,}"
    ranking = tables_of(fable)["Bits per character, the best first"][1:]
    assert {name: bits for name, bits, _ in ranking} == {
        "this model": f"{found.bits_per_char:.4f}",
        "uniform": f"{math.log2(len(model.vocabulary)):.4f}",
    }


def test_training_text_brings_the_rivals() -> None:
    model = random_model(FABLE)
    training = model.vocabulary.encode(FABLE[::-1]).astype(np.uint32)
    page = read(page_of(model, FABLE, training=training))
    rows = tables_of(page)["Bits per character, the best first"][1:]
    expected = baselines(model.vocabulary.encode(FABLE), model.vocabulary, training)
    expected["this model"] = model.evaluate(FABLE).bits_per_char
    assert [name for name, _, _ in rows] == sorted(expected, key=lambda name: expected[name])
    assert [bits for _, bits, _ in rows] == [f"{expected[name]:.4f}" for name, _, _ in rows]
    widths = [float(str(one.attributes["width"])[:-1]) for one in page.all("rect")]
    assert widths == pytest.approx(
        [100 * expected[name] / max(expected.values()) for name, _, _ in rows], abs=0.06
    )
    assert page.one("svg", **{"class": "own"})


def test_the_curve_has_its_table(fable: Node) -> None:
    rows = tables_of(fable)["The curve"][1:]
    assert [[float(cell) for cell in row] for row in rows] == [
        pytest.approx(
            [p["step"], p["bits_per_char"], p["loss"] / math.log(2), p["learning_rate"]], rel=1e-4
        )
        for p in HISTORY
    ]


def test_the_surprises_are_the_largest_surprisals(fable: Node) -> None:
    model = random_model(FABLE)
    bits = surprisal_bits(model.engine, model.vocabulary.encode(FABLE))
    rows = tables_of(fable)["The most surprising places, the most first"][1:]
    assert [row[3] for row in rows] == [f"{b:.2f}" for b in sorted(bits[1:], reverse=True)[:12]]
    for place, before, came, told, _ in rows:
        at = int(place) - 1
        assert told == f"{bits[at]:.2f}"
        assert (spelled_out(FABLE[at]), FABLE[:at].replace("\n", "↵")[-24:]) == (came, before)


@pytest.mark.parametrize("record", [{}, {"objective": "last", "sequence_length": 7}])
def test_units_and_memory_are_those_of_inspection(record: dict[str, Any]) -> None:
    model = random_model(FABLE, **record)
    page = read(page_of(model, FABLE))
    tables = tables_of(page)
    tokens = model.vocabulary.encode(FABLE)
    where: tuple[Any, ...] = (model.config, model.tensors, tokens)
    matches = find_units(activations(*where, window=model.window), text_features(FABLE))
    signed = [f"{match.correlation:+.2f}".replace("-", "−") for match in matches]
    assert tables["The units that follow each most closely"][1:] == [
        [match.feature, str(match.unit), told] for match, told in zip(matches, signed, strict=True)
    ]
    heads = [head.text for head in page.all("h3") if head.text.startswith("Unit ")]
    best = sorted(zip(matches[::3], signed[::3], strict=True), key=lambda m: -abs(m[0].correlation))
    assert heads == [f"Unit {m.unit}: {m.feature} ({told})" for m, told in best[: len(heads)]]
    assert 1 <= len(heads) <= 8
    norms = gradient_norms(*where, distance=100, window=model.window)
    rows = tables["How much the past moves the loss"][1:]
    assert [int(k) for k, _ in rows] == list(range(norms.size))
    told_norms = [float(norm.replace("−", "-")) for _, norm in rows]
    assert told_norms == pytest.approx(norms.tolist(), rel=6e-3)


def test_a_unit_is_shown_where_what_it_follows_varies() -> None:
    text = "plain\n" * 100 + "PLAIN\nplain\n" * 20 + "plain\n" * 100
    vocabulary = Vocabulary.from_text(text)
    clusters = clusters_of(vocabulary, vocabulary.encode(text))
    shown = _stretch(clusters, text_features(text)["capital"])
    assert len(shown) == 240
    assert re.fullmatch("(plain\n|PLAIN\n)+", joined := "".join(c.text for c in shown))
    assert joined.count("PLAIN") == 20
    chinese = "一二三四五六七八" * 60 + "X九" * 20 + "一" * 500
    vocabulary = Vocabulary.from_text(chinese)
    clusters = clusters_of(vocabulary, vocabulary.encode(chinese))
    shown = _stretch(clusters, text_features(chinese)["capital"])
    assert "X九" * 20 in "".join(cluster.text for cluster in shown)
    assert _stretch(clusters[:5], text_features(chinese[:5])["capital"]) == clusters[:5]


def slow_reach(norms: list[float], part: float) -> int:
    total = math.fsum(norms)
    for count in range(1, len(norms) + 1):
        if math.fsum(norms[:count]) >= part * total:
            return count
    raise AssertionError


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_how_far_back_half_lies_is_that_of_a_plain_loop(part: float) -> None:
    rng = np.random.default_rng(1)
    for size in (1, 2, 3, 100):
        norms = rng.random(size) * 0.9 ** np.arange(size)
        assert reach(norms, part) == slow_reach(norms.tolist(), part)
    assert reach(np.array([1.0, 1.0]), 0.5) == 1
    assert reach(np.zeros(3), 0.5) == 1


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
    with pytest.raises(chargen.TextError, match="at least 2"):
        page_of(random_model(FABLE), "T")


# which text


def test_the_held_out_part_of_its_corpus_is_the_text(sequence_model: Path) -> None:
    model = chargen.load(sequence_model)
    corpus = own_corpus(model)
    assert corpus is not None
    found = own_subject(model, corpus)
    assert found.tokens.tolist() == model.held_out_part([PANGRAMS]).tolist()
    assert "held-out part" in found.name


def own_model(tmp_path: Path, text: str, **record: Any) -> chargen.Model:
    """One that says that it was trained on a file of ``text``."""
    path = tmp_path / "own.txt"
    path.write_text(text)
    model = random_model(text, corpus=[str(path)], **record)
    read_again = chargen.corpus.read_corpus([path], val_fraction=record.get("val_fraction"))
    model.training["corpus_sha256"] = read_again.sha256()
    return model


def test_a_corpus_of_which_nothing_was_held_out_is_the_text(tmp_path: Path) -> None:
    model = own_model(tmp_path, FABLE, val_fraction=0)
    found = own_subject(model, own_corpus(model))
    assert model.vocabulary.decode(found.tokens) == FABLE
    assert "has learned from it" in found.origin


def test_a_corpus_that_is_not_as_it_was_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = own_model(tmp_path, FABLE)
    path = tmp_path / "own.txt"
    assert own_corpus(model) is not None
    monkeypatch.setattr(subject, "_LARGEST_CORPUS", len(FABLE.encode()) - 1)
    assert own_corpus(model) is None
    monkeypatch.undo()
    path.write_text(FABLE.replace("wolf", "lamb"))
    assert own_corpus(model) is None
    path.unlink()
    assert own_corpus(model) is None
    for names in (None, ["-"], ["/dev/zero"], [str(tmp_path)], ["a\0b"]):
        model.training["corpus"] = names
        assert own_corpus(model) is None
    found = own_subject(model, None)
    assert found.tokens.size == 3000
    assert found.tokens.tolist() == own_subject(model, None).tokens.tolist()
    assert "wrote it" in found.origin


# the command

REPORT = ("report", "--text", "text.txt")


def test_the_page_is_written_and_its_commands_work(
    run: Command, sequence_model: Path, tmp_path: Path
) -> None:
    text = PANGRAMS.read_text()[:2000]
    (tmp_path / "text.txt").write_text(text)
    assert good(run(*REPORT, "-m", sequence_model)) == b""
    data = (tmp_path / "report.html").read_bytes()
    assert len(data) < LIMIT
    page = read(data.decode())
    check_structure(page)
    assert page.one("pre", id="text").text == text
    info = json.loads(good(run("info", "-m", sequence_model, "--json")))
    repeat, *commands = (p.text for p in page.all("p", **{"class": "command"}))
    assert repeat == info["command"]
    samples = [one.text for one in page.all("pre", **{"class": "text plain"})]
    assert len(commands) == len(samples) == 3
    for command, sample in zip(commands, samples, strict=True):
        program, *words = shlex.split(command)
        assert program == "chargen"
        written = good(run(*words)).decode()
        assert written == sample + "\n" * (not sample.endswith("\n"))
    assert good(run(*REPORT, "-m", sequence_model, "-o", "-")) == data
    assert [path.name for path in tmp_path.iterdir()] != []


def test_alone_it_measures_the_held_out_part_against_all_that_learned_from_the_rest(
    run: Command, sequence_model: Path
) -> None:
    page = read(good(run("report", "-m", sequence_model, "-o", "-")).decode())
    figures = ("evaluate", PANGRAMS, "--held-out", "--json", "-m", sequence_model)
    found = json.loads(good(run(*figures, "--train-text", PANGRAMS)))
    rows = tables_of(page)["Bits per character, the best first"][1:]
    expected = {**found["baselines"], "this model": found["bits_per_char"]}
    assert {name: bits for name, bits, _ in rows} == {
        name: f"{bits:.4f}" for name, bits in expected.items()
    }
    named = run("report", "-m", sequence_model, "-o", "-", "--train-text", PANGRAMS)
    assert read(good(named).decode()).text == page.text


def test_a_page_that_exists_is_overwritten_only_with_force(
    run: Command, sequence_model: Path, tmp_path: Path
) -> None:
    path = tmp_path / "report.html"
    path.write_text("mine")
    (tmp_path / "text.txt").write_text("Some text.")
    same = (*REPORT, "-m", sequence_model)
    is_refused(run(*same), USAGE, "report.html", "exists", "--force")
    assert path.read_text() == "mine"
    assert good(run(*same, "--force")) == b""
    assert path.read_text().startswith("<!doctype html>")


def test_without_its_corpus_it_shows_what_the_model_writes_and_says_so(
    run: Command, greek_model: Path
) -> None:
    ended = run("report", "-m", greek_model, "-o", "-")
    assert ended.status == 0
    assert len(ended.lines) == 1
    assert "--text" in ended.stderr
    assert "wrote it" in read(ended.text).one("header").text


@pytest.mark.parametrize("model", ["windowed_model", "byte_model", "greek_model", "lines_model"])
def test_every_kind_of_model_has_a_page(
    model: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    loaded = chargen.load(request.getfixturevalue(model))
    found = own_subject(loaded, own_corpus(loaded))
    made = report(loaded, found, facts=FACTS, repeat=None, generate="chargen generate")
    page = read(made)
    check_structure(page)
    assert len(made.encode()) < LIMIT
    unit = "byte" if model == "byte_model" else "character"
    assert f"bits per {unit}" in [term.text for term in page.all("dt")]
    assert ("windows of 10 characters" in page.text) == (model == "windowed_model")


BAD = [
    ("--text - --train-text -", USAGE, ("'-'", "twice")),
    ("--text missing.txt", FAILED, ("missing.txt",)),
    ("--text empty.txt", TEXT, ("at least 2",)),
    ("--text snow.txt", TEXT, ("☃", "--unknown skip")),
    ("--text text.txt -o nowhere/page.html", FAILED, ("nowhere/page.html",)),
    ("--text text.txt --train-text empty.txt", TEXT, ("--train-text",)),
    ("--text text.txt -m none.keras", MODEL, ("none.keras",)),
]


@pytest.mark.parametrize(("words", "status", "told"), BAD)
def test_mistakes(
    words: str,
    status: int,
    told: tuple[str, ...],
    run: Command,
    sequence_model: Path,
    tmp_path: Path,
) -> None:
    (tmp_path / "text.txt").write_text("Some text.\n")
    (tmp_path / "snow.txt").write_text("Some snow ☃.\n")
    (tmp_path / "empty.txt").write_text("")
    model = () if "-m" in words else ("-m", sequence_model)
    is_refused(run("report", *model, *words.split()), status, *told)
    assert not (tmp_path / "report.html").exists()


def test_training_text_without_a_text_to_compare_on_is_refused(
    run: Command, greek_model: Path
) -> None:
    is_refused(run("report", "-m", greek_model, "--train-text", PANGRAMS), USAGE, "--text")


def test_skipped_characters_are_counted(run: Command, sequence_model: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("Some ☃☃ snow.\n")
    page = good(run(*REPORT, "-m", sequence_model, "--unknown", "skip", "-o", "-")).decode()
    assert "less 2 that it does not know" in read(page).one("header").text


def test_it_needs_neither_tensorflow_nor_matplotlib(sequence_model: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("Some text.\n")
    loaded = loaded_by_command(*REPORT, "-m", sequence_model, folder=tmp_path)
    assert "numpy" in loaded
    assert not loaded & {"tensorflow", "keras", "matplotlib", "rich"}
