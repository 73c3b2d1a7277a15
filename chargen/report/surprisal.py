"""What surprises a model in a text: the text in colours, its curve, and the worst places."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from chargen.corpus import Tokens
from chargen.evaluation import expectations, surprisal_bits
from chargen.inspection import moving_average
from chargen.model import Model
from chargen.plots import average_width
from chargen.report.charts import Line, line_chart
from chargen.report.coloring import Expected, by_surprisal, clusters_of, names_of, scale, share
from chargen.report.page import Html, details, element, join, number, table
from chargen.report.subject import Subject
from chargen.signs import spelled

__all__ = ["surprising"]

Floats = NDArray[np.float64]

_COLORED = 3000  # tokens, from the beginning of the text
_EXPECTED = 3  # likeliest characters told for each place
_SURPRISES = 12
_BEFORE = 24  # tokens shown before a surprise


def surprising(model: Model, subject: Subject) -> Iterator[Html]:
    """The section."""
    tokens = subject.tokens[:_COLORED]
    bits = surprisal_bits(model.engine, tokens, window=model.window)
    expected = Expected(*expectations(model.engine, tokens, _EXPECTED, window=model.window))
    clusters = clusters_of(model.vocabulary, tokens)
    part = "" if tokens.size == subject.tokens.size else "the beginning of "
    yield element(
        "p",
        f"This is {part}{subject.name}. The stronger a color and the thicker the line below it, the"
        " less the model expected what came, given all that came before.",
    )
    yield scale()
    yield by_surprisal(model.vocabulary, tokens, clusters, bits, expected)
    yield _slider(len(clusters))
    yield _along(bits, model.vocabulary.unit)
    yield details("The most surprising places", _surprises(model, tokens, bits, expected))


def _slider(places: int) -> Html:
    """A place in the text and what is told of it, for pointers and keys; the script shows it."""
    slider = element(
        "input", type="range", id="place", min=0, max=places - 1, value=0, autocomplete="off"
    )
    return element(
        "div",
        element("label", "What it expected: point at a place, or move to it", for_="place"),
        slider,
        element("div", class_="told", id="told"),
        id="look",
        class_="look",
        hidden=True,
    )


def _along(bits: Floats, unit: str) -> Html:
    width = average_width(bits.size)
    average = moving_average(bits, width)
    mean = f"mean of {width} {unit}s"
    low, high = np.nanmin(average), np.nanmax(average)
    return line_chart(
        [Line(mean, range(1, bits.size + 1), average.tolist())],
        title="Surprisal along the text",
        description=f"The {mean} around each place, from {low:.2f} to {high:.2f} bits.",
        x_label=f"{unit} of the text",
        y_label="bits" if width == 1 else f"bits, {mean}",
        from_zero=True,
        header=(unit, "bits"),
        rows=[
            (number(place + 1), f"{average[place]:.3f}")
            for place in range(width // 2, bits.size, width)
        ],
    )


def _surprises(model: Model, tokens: Tokens, bits: Floats, expected: Expected) -> Html:
    names = names_of(model.vocabulary)
    rows: list[Sequence[str]] = []
    for place in np.argsort(-np.nan_to_num(bits), kind="stable")[:_SURPRISES].tolist():
        before = model.vocabulary.decode(tokens[max(0, place - _BEFORE) : place])
        before = "".join(map(spelled, before))
        pairs = zip(expected.indices[place], expected.probabilities[place], strict=True)
        rows.append(
            (
                number(place + 1),
                element("bdi", before),
                element("bdi", names[tokens[place]]),
                f"{bits[place]:.2f}",
                join(*(element("div", f"{share(p)} {names[index]}") for index, p in pairs)),
            )
        )
    header = ("place", "after", "came", "bits", "expected")
    return table("The most surprising places, the most first", header, rows, class_="places")
