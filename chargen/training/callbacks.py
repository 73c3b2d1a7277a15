"""What happens inside Keras' `fit`: counting steps, looking at the held-out text, keeping the best.

An "epoch" of `fit` is the stretch between two validations. Validation reads a copy of the weights
with the NumPy engine, so that it never touches the carried states. Knows nothing of files.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from chargen.config import ModelConfig, SamplingConfig
from chargen.corpus import Tokens
from chargen.engine import Engine
from chargen.evaluation import Evaluation, evaluate
from chargen.generation import generate_tokens
from chargen.sampling import Sampler
from chargen.training.budget import Budget, Plan
from chargen.training.events import Listener, Note, Progress, Sample, Validated
from chargen.training.network import tensors_of
from chargen.vocabulary import Vocabulary

__all__ = ["Examiner", "Pace", "Run", "Validation"]

_LARGEST_GLANCE = 1 << 17  # held-out characters read at a validation before the last
_SAMPLE_LENGTH = 160
_PROGRESS_INTERVAL = 0.1  # seconds


@dataclass
class Run:
    """Where a run stands."""

    plan: Plan
    step: int = 0
    loss: float = math.nan
    history: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, Any] | None = None  # the weights of the best validation
    best_figure: Evaluation | None = None  # theirs on the text a validation reads
    best_step: int = 0
    interrupted: bool = False
    step_seconds: float = 0.0  # of the last stretch, validation not counted
    validation_seconds: float = 0.0


class Examiner:
    """Looks at a network through the NumPy engine."""

    def __init__(
        self,
        network: keras.Sequential,
        config: ModelConfig,
        vocabulary: Vocabulary,
        held_out: Tokens,
        window: int | None,
    ) -> None:
        self._network = network
        self._config = config
        self._vocabulary = vocabulary
        self._window = window
        self.held_out = held_out
        self.glance = held_out[: max(2, _LARGEST_GLANCE // (window or 1))]

    def tensors(self) -> dict[str, Any]:
        """A copy of the weights as they are now."""
        return tensors_of(self._network)

    def evaluate(self, tensors: dict[str, Any], tokens: Tokens) -> Evaluation:
        return evaluate(Engine(self._config, tensors), tokens, window=self._window)

    def sample(self, tensors: dict[str, Any], seed: int) -> str:
        line_break = self._vocabulary.line_break
        prompt = np.array([] if line_break is None else [line_break], np.int32)
        tokens = generate_tokens(
            Engine(self._config, tensors),
            prompt,
            Sampler(SamplingConfig(), np.random.default_rng(seed)),
            window=self._window,
        )
        return self._vocabulary.decode([next(tokens)[0] for _ in range(_SAMPLE_LENGTH)])


class Pace(keras.callbacks.Callback):
    """Counts steps, tells of them, and ends the run at its total, its budget or a request."""

    def __init__(
        self,
        run: Run,
        characters_per_step: int,
        listener: Listener,
        is_stopped: Callable[[], bool],
        budget: Budget | None,
    ) -> None:
        super().__init__()
        self._run = run
        self._characters_per_step = characters_per_step
        self._listener = listener
        self._is_stopped = is_stopped
        self._budget = budget
        self._told = 0.0
        self._began = (0.0, 0)  # time and step at which this stretch began

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._began = (time.monotonic(), self._run.step)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        run = self._run
        run.step += 1
        run.loss = float(logs["loss"])
        now = time.monotonic()
        run.step_seconds = (now - self._began[0]) / (run.step - self._began[1])
        run.interrupted = self._is_stopped()
        over_budget = self._budget is not None and self._budget.is_spent()
        if run.interrupted or over_budget or run.step >= run.plan.steps:
            self.model.stop_training = True
        elif now - self._told < _PROGRESS_INTERVAL:
            return
        self._told = now
        left = (run.plan.steps - run.step) * run.step_seconds
        speed = self._characters_per_step / run.step_seconds
        self._listener(Progress(run.step, run.plan.steps, run.loss, speed, left))


class Validation(keras.callbacks.Callback):
    """Looks at the held-out text after each stretch and keeps the best weights.

    Without held-out text the last weights are the best.
    """

    def __init__(
        self,
        run: Run,
        examiner: Examiner,
        listener: Listener,
        set_total: Callable[[int], None],
        patience: int | None,
        budget: Budget | None,
    ) -> None:
        super().__init__()
        self._run = run
        self._examiner = examiner
        self._listener = listener
        self._set_total = set_total
        self._patience = patience
        self._budget = budget
        self._without_gain = 0
        self._is_lowered = False

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        run = self._run
        tensors = self._examiner.tensors()
        point = {"step": run.step, "loss": run.loss}
        if not all(np.isfinite(tensor).all() for tensor in tensors.values()):
            self._listener(
                Note(
                    f"the loss is no longer finite at step {run.step}: training ends here with the"
                    " best weights so far; try a lower --learning-rate"
                )
            )
            self.model.stop_training = True
            return
        began = time.monotonic()
        if self._examiner.glance.size:
            figure = self._examiner.evaluate(tensors, self._examiner.glance)
            bits = point["bits_per_char"] = figure.bits_per_char
            is_best = run.best_figure is None or bits < run.best_figure.bits_per_char
            self._listener(Validated(run.step, run.plan.steps, run.loss, bits, is_best))
        else:
            figure, is_best = None, True
        run.history.append(point)
        if is_best:
            run.best, run.best_figure, run.best_step = tensors, figure, run.step
        self._without_gain = 0 if is_best else self._without_gain + 1
        self._listener(Sample(self._examiner.sample(tensors, run.step)))
        run.validation_seconds = time.monotonic() - began
        if self._patience is not None and self._without_gain >= self._patience:
            self._listener(Note(f"no gain in {self._patience} validations: training ends here"))
            self.model.stop_training = True
        elif self._budget is not None and not self._is_lowered:
            self._lower(self._budget)

    def _lower(self, budget: Budget) -> None:
        run = self._run
        total = budget.lowered(run.step, run.plan, run.step_seconds, run.validation_seconds)
        if total < run.plan.steps:
            run.plan = Plan(total, run.plan.validate_every)
            self._set_total(total)
            self._is_lowered = True
