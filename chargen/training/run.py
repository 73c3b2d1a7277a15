"""Where a training run stands, as plain values that go into a file and back.

Knows nothing of Keras: weights are NumPy arrays here.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from numpy.typing import NDArray

from chargen.container import LARGEST_NUMBER, Damaged, typed
from chargen.errors import ModelFileError
from chargen.evaluation import Evaluation
from chargen.records import check_history
from chargen.training.budget import Plan

__all__ = ["Run", "Snapshot", "is_finite"]

Snapshot = dict[str, NDArray[Any]]  # every variable that a step changes, by name

_MOST_POINTS = 2000  # of the history: what a model file has room for
_COUNTS = ("step", "best_step", "without_gain", "halvings", "threads")
_TIMES = ("seconds", "step_seconds", "validation_seconds")
_FLAGS = ("is_over", "as_planned")
_LARGEST = 10**12  # of a count, and of a time in seconds


@dataclass
class Run:
    """Where a run stands.

    ``best`` are the weights of the best validation and ``best_figure`` theirs on the text that a
    validation reads; ``seconds`` are those that earlier processes spent on the run; ``halvings``
    counts how often the learning rate was halved; ``threads`` are the shards of a step. A run
    ``is_over`` when it came to its end by itself, and was ``as_planned`` if nothing changed its
    length on the way.
    """

    plan: Plan
    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    best: Snapshot | None = None
    best_figure: Evaluation | None = None
    best_step: int = 0
    without_gain: int = 0
    halvings: int = 0
    threads: int = 1
    is_over: bool = False
    as_planned: bool = True
    seconds: float = 0.0
    step_seconds: float = 0.0  # of the last stretch, validation not counted
    validation_seconds: float = 0.0
    loss: float = math.nan  # since the last validation
    interrupted: bool = False
    diverged: bool = False

    def add_point(self, point: dict[str, float]) -> None:
        """Keep a point of the history; a long one is thinned to every second point."""
        self.history.append(point)
        if len(self.history) > _MOST_POINTS:
            newest = self.history[-1]
            self.history[:] = [
                kept
                for number, kept in enumerate(self.history)
                if number % 2 == 0 or kept is newest or kept["step"] == self.best_step
            ]

    def is_gain(self, figure: Evaluation | None) -> bool:
        """Whether ``figure`` beats the best so far; without held-out text the last weights do."""
        if figure is None or self.best_figure is None:
            return True
        return figure.bits_per_char < self.best_figure.bits_per_char

    def keep_best(self, weights: Snapshot, figure: Evaluation | None) -> None:
        self.best, self.best_figure, self.best_step = weights, figure, self.step

    def to_dict(self) -> dict[str, Any]:
        """All but the weights and what only this process knows."""
        figure = self.best_figure
        return {
            "steps": self.plan.steps,
            "validate_every": self.plan.validate_every,
            "history": self.history,
            "best_figure": None if figure is None else dataclasses.asdict(figure),
            **{name: getattr(self, name) for name in (*_COUNTS, *_TIMES, *_FLAGS)},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The run of ``to_dict``'s values, without its weights. Raises ``Damaged``."""
        counts = {name: typed(values, name, int) for name in (*_COUNTS, "steps", "validate_every")}
        times = {name: typed(values, name, int, float) for name in _TIMES}
        flags = {name: typed(values, name, bool) for name in _FLAGS}
        if not all(0 <= value <= _LARGEST for value in (*counts.values(), *times.values())):
            raise Damaged("its counts and times are out of range")
        plan = Plan(counts.pop("steps"), counts.pop("validate_every"))
        if not plan.validate_every or not counts["best_step"] <= counts["step"] <= plan.steps:
            raise Damaged("its step lies beyond its plan")
        history = typed(values, "history", list)
        try:
            check_history(history)
        except ModelFileError as error:
            raise Damaged(str(error)) from None
        figure = typed(values, "best_figure", dict, type(None))
        return cls(
            plan,
            history=history,
            best_figure=None if figure is None else _figure(figure),
            **counts,
            **times,
            **flags,
        )


def _figure(values: Mapping[str, Any]) -> Evaluation:
    nats = typed(values, "nats", int, float)
    hits, characters, skipped = (
        typed(values, name, int) for name in ("hits", "characters", "skipped")
    )
    if not 0 <= nats < math.inf or not 0 <= hits <= characters or not characters or skipped < 0:
        raise Damaged("its best figure is none")
    return Evaluation(nats, hits, characters, skipped)


def is_finite(weights: Snapshot) -> bool:
    """Whether all numbers are, and none is so large that a file of them would not be read."""
    return all(
        bool(-LARGEST_NUMBER < array.min() <= array.max() < LARGEST_NUMBER)
        for array in weights.values()
    )
