"""What happens inside Keras' `fit`: counting steps, looking at the held-out text, keeping the best.

An "epoch" of `fit` is the stretch between two validations. Validation reads a copy of the weights
with the NumPy engine, so that it never touches the carried states. Knows nothing of files.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
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
from chargen.training.run import Run, Snapshot, is_finite
from chargen.training.schedule import WarmupCosine
from chargen.vocabulary import Vocabulary

__all__ = ["Examiner", "Pace", "Restore", "Stopwatch", "Validation", "look"]

_LARGEST_GLANCE = 1 << 17  # held-out characters read at a validation before the last
_SAMPLE_LENGTH = 160
_PROGRESS_INTERVAL = 0.1  # seconds


class Stopwatch(keras.callbacks.Callback):
    """Times steps for ``seconds``, the first ones, which compile, not counted."""

    _SKIPPED = 3

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds
        self._began = self._last = 0.0
        self._times: list[float] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        now = time.monotonic()
        if batch + 1 <= self._SKIPPED:
            self._began = self._last = now
            return
        self._times.append(now - self._last)
        self._last = now
        if now - self._began >= self._seconds:
            self.model.stop_training = True

    @property
    def step_seconds(self) -> float:
        """The median: the first steps are slower, and a busy moment is no rule."""
        return float(np.median(self._times))


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

    def tensors(self) -> Snapshot:
        """A copy of the weights as they are now."""
        return tensors_of(self._network)

    def evaluate(self, tensors: Snapshot, tokens: Tokens) -> Evaluation:
        return evaluate(Engine(self._config, tensors), tokens, window=self._window)

    def sample(self, tensors: Snapshot, seed: int) -> str:
        line_break = self._vocabulary.line_break
        prompt = np.array([] if line_break is None else [line_break], np.int32)
        tokens = generate_tokens(
            Engine(self._config, tensors),
            prompt,
            Sampler(SamplingConfig(), np.random.default_rng(seed)),
            window=self._window,
        )
        return self._vocabulary.decode([next(tokens)[0] for _ in range(_SAMPLE_LENGTH)])


class Restore(keras.callbacks.Callback):
    """Puts a network back where a snapshot was taken, once `fit` has reset its metrics.

    The sums of the loss belong to a stretch: one that begins anew begins with none.
    """

    def __init__(self, run: Run) -> None:
        super().__init__()
        self._run = run
        self.pending: Snapshot | None = None

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if self.pending is not None:
            self.model.restore(self.pending)
            self.pending = None
            if self._run.step % self._run.plan.validate_every == 0:
                self.model.reset_metrics()


class Pace(keras.callbacks.Callback):
    """Counts steps, tells of them, and ends the run at its total, its budget or a request; saves
    where the interval between two checkpoints is over."""

    def __init__(
        self,
        run: Run,
        characters_per_step: int,
        listener: Listener,
        is_stopped: Callable[[], bool],
        budget: Budget | None,
        save_if_due: Callable[[], None],
    ) -> None:
        super().__init__()
        self._run = run
        self._characters_per_step = characters_per_step
        self._listener = listener
        self._is_stopped = is_stopped
        self._budget = budget
        self._save_if_due = save_if_due
        self._told = 0.0
        self._began = (0.0, 0)  # time and step at which this stretch began
        self._has_compiled = False

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._began = (time.monotonic(), self._run.step)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        run = self._run
        run.step += 1
        run.loss = float(logs["loss"])
        now = time.monotonic()
        run.step_seconds = (now - self._began[0]) / (run.step - self._began[1])
        if not self._has_compiled:  # the first step, and how long it took tells of no other
            self._began, self._has_compiled = (now, run.step), True
        run.diverged = not math.isfinite(run.loss)
        if run.diverged:
            self.model.stop_training = True
            return
        over_budget = self._budget is not None and self._budget.is_spent()
        run.is_over = over_budget or run.step >= run.plan.steps
        run.interrupted = self._is_stopped()
        if run.interrupted or run.is_over:
            self.model.stop_training = True
        else:
            self._save_if_due()
            if now - self._told < _PROGRESS_INTERVAL:
                return
        self._told = now
        left = (run.plan.steps - run.step) * run.step_seconds
        speed = self._characters_per_step / run.step_seconds
        self._listener(Progress(run.step, run.plan.steps, run.loss, speed, left))


class Validation(keras.callbacks.Callback):
    """Looks at the held-out text after each stretch and keeps the best weights.

    ``keep`` is called after each, with whether it was a gain. A stretch that was broken off by a
    request is not looked at: the run that goes on from there looks at its end.
    """

    def __init__(
        self,
        run: Run,
        examiner: Examiner,
        listener: Listener,
        schedule: WarmupCosine,
        patience: int | None,
        budget: Budget | None,
        keep: Callable[[bool], None],
    ) -> None:
        super().__init__()
        self._run = run
        self._examiner = examiner
        self._listener = listener
        self._schedule = schedule
        self._patience = patience
        self._budget = budget
        self._keep = keep
        self._is_lowered = False

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        run = self._run
        is_whole = run.is_over or run.step % run.plan.validate_every == 0
        if run.diverged or not is_whole:
            return
        began = time.monotonic()
        weights = self._examiner.tensors()
        is_gain = look(run, self._examiner, weights, self._listener, self._schedule)
        if is_gain is None:
            run.diverged = True
            self.model.stop_training = True
            return
        if "bits_per_char" in run.history[-1]:  # for Keras' other callbacks
            logs["bits_per_char"] = run.history[-1]["bits_per_char"]
        self._listener(Sample(self._examiner.sample(weights, run.step)))
        if self._patience is not None and run.without_gain >= self._patience:
            self._listener(Note(f"no gain in {self._patience} validations: training ends here"))
            run.is_over = True
            self.model.stop_training = True
        elif self._budget is not None and not self._is_lowered:
            self._lower(self._budget)
        self._keep(is_gain)
        run.validation_seconds = time.monotonic() - began

    def _lower(self, budget: Budget) -> None:
        run = self._run
        total = budget.lowered(run.step, run.plan, run.step_seconds, run.validation_seconds)
        if total < run.plan.steps:
            run.plan = Plan(total, run.plan.validate_every)
            run.as_planned = False
            self._schedule.total.assign(total)
            self._is_lowered = True


def look(
    run: Run, examiner: Examiner, weights: Snapshot, listener: Listener, schedule: WarmupCosine
) -> bool | None:
    """Measure ``weights`` on the held-out text, keep the point and the best; True for a gain.

    None, and nothing is kept, where they are not finite. Without held-out text the last weights are
    the best.
    """
    if not is_finite(weights):
        return None
    figure = None
    point = {
        "step": run.step,
        "loss": run.loss,
        "learning_rate": schedule.rate_of(run.step),
    }
    if examiner.glance.size:
        figure = examiner.evaluate(weights, examiner.glance)
        point["bits_per_char"] = figure.bits_per_char
    is_gain = run.is_gain(figure)
    if figure is not None:
        bits = figure.bits_per_char
        listener(Validated(run.step, run.plan.steps, run.loss, bits, is_gain))
    run.without_gain = 0 if is_gain else run.without_gain + 1
    if is_gain:
        run.keep_best(weights, figure)
    run.add_point(point)
    return is_gain
