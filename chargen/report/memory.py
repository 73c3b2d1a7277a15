"""How far back a model looks in a text: what it held before, against what that does to the loss."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from chargen.inspection import gradient_norms
from chargen.model import Model
from chargen.report.charts import Line, line_chart
from chargen.report.page import Html, element, number
from chargen.report.subject import Subject

__all__ = ["looking_back", "reach"]

_READ, _DISTANCE = 5000, 100  # tokens, as `chargen plot memory` does


def reach(norms: NDArray[np.float64], part: float) -> int:
    """The fewest of ``norms`` (K,), from the first on, whose sum is ``part`` of the whole sum."""
    sums = np.cumsum(norms)
    return int(np.argmax(sums >= part * sums[-1])) + 1


def looking_back(model: Model, subject: Subject) -> Iterator[Html]:
    """The section."""
    tokens = subject.tokens[:_READ]
    unit, window = model.vocabulary.unit, model.window
    distance = min(_DISTANCE, tokens.size - 2 if window is None else window - 1)
    if distance < 1 or (window is not None and tokens.size <= window):
        yield element("p", "The text, or the window of the model, is too short to tell.")
        return
    norms = gradient_norms(model.config, model.tensors, tokens, distance=distance, window=window)
    half, most = reach(norms, 0.5), reach(norms, 0.9)
    told = (
        f"Of what the last {norms.size} {unit}s do to the loss, by the norm of its gradient, half"
        f" lies within the last {_count(half, unit)} and nine tenths within the last"
        f" {_count(most, unit)}."
    )
    if window is not None:
        told += f" The model reads windows of {window} {unit}s and sees nothing before."
    yield element("p", told)
    yield line_chart(
        [Line("norm", range(norms.size), norms.tolist())],
        title="How much the past moves the loss",
        description=f"The norm goes from {number(norms[0], 3)} at k = 0 to {number(norms[-1], 3)}"
        f" at k = {norms.size - 1}.",
        x_label=f"k, {unit}s back from the place t of the loss",
        y_label="mean of ‖∂loss(t) / ∂h(t − k)‖, nats",
        log=True,
        header=("k", "norm"),
        rows=[(f"{k}", number(norm, 3)) for k, norm in enumerate(norms)],
    )


def _count(count: int, unit: str) -> str:
    return unit if count == 1 else f"{count} {unit}s"
