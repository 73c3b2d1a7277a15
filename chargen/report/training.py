"""How a model was trained: what its file says of it, the command that repeats it, and the curve."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from chargen.inspection import learning_curves
from chargen.model import Model
from chargen.report.charts import Line, line_chart
from chargen.report.coloring import names_of
from chargen.report.page import Html, command_line, cut, element, number, table

__all__ = ["trained"]

_LONGEST = 2000  # characters of a fact, or of the command


def trained(model: Model, facts: Mapping[str, str], repeat: str | None) -> Iterator[Html]:
    """The section; ``facts`` are rows of the table, beside which the vocabulary is one."""
    known = f"{len(model.vocabulary):,} {model.vocabulary.unit}s"
    if model.vocabulary.kind == "char":
        known += f": {' '.join(names_of(model.vocabulary))}"
    rows = [(name, cut(fact, _LONGEST)) for name, fact in {**facts, "vocabulary": known}.items()]
    yield table("The model and its training", (), rows, class_="facts")
    if repeat is not None and len(repeat) <= _LONGEST:
        yield element("p", "The command that repeats the run:")
        yield command_line(repeat)
    elif repeat is not None:
        yield element("p", "The command that repeats the run is long: chargen info shows it.")
    yield from _curves(model)


def _curves(model: Model) -> Iterator[Html]:
    training, held_out, rate = learning_curves(model.history)
    unit = f"bits per {model.vocabulary.unit}"
    lines = [Line("in training", training.steps, training.values, 2)]
    told = f"The loss in training ends at {number(training.values[-1], 4)} {unit}."
    if held_out.values:
        lines.insert(0, Line("held out", held_out.steps, held_out.values))
        began, best = held_out.values[0], min(held_out.values)
        fall = f"{number(began, 4)} at first, {number(best, 4)} {unit} at best"
        told = f"On the held-out text: {fall}. {told}"
    columns = [
        dict(zip(series.steps, series.values, strict=True)) for series in (held_out, training, rate)
    ]
    yield element("p", told)
    yield line_chart(
        lines,
        title="The curve",
        description=told,
        x_label="step",
        y_label=unit,
        header=("step", "held out", "in training", "learning rate"),
        rows=[
            [number(step), *(number(column[step]) if step in column else "" for column in columns)]
            for step in training.steps
        ],
    )
    yield line_chart(
        [Line("learning rate", rate.steps, rate.values)],
        title="The learning rate",
        description=f"At most {number(max(rate.values))}.",
        x_label="step",
        y_label="learning rate",
        height=110,
        from_zero=True,
    )
