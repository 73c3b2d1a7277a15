"""One training run, from an encoded corpus to the archive of the best weights.

Ties the rooms of this folder together: network, calibration, `fit`, export.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from chargen.archive import Archive
from chargen.config import ModelConfig, TrainingConfig
from chargen.corpus import Corpus
from chargen.errors import RunError
from chargen.training.backend import has_gpu
from chargen.training.budget import Budget, Plan, plan_for_steps
from chargen.training.callbacks import Examiner, Pace, Run, Validation
from chargen.training.events import Listener, Note, Planned, Stage
from chargen.training.export import export
from chargen.training.network import (
    TrainingNetwork,
    assign_tensors,
    build_network,
    expect_frequencies,
    tensors_of,
)
from chargen.training.pipeline import dataset
from chargen.training.recipe import MOST_EPOCHS
from chargen.training.schedule import WarmupCosine
from chargen.vocabulary import Vocabulary
from chargen.windows import Windows, windows_of

__all__ = ["compiled", "run_training"]

_ADAM_BETA_2 = 0.99
_CLIP_NORM = 1.0
_CALIBRATION_SHARE = 0.015  # of the budget
_EXPORT_SECONDS = 0.3


def run_training(
    corpus: Corpus,
    model_config: ModelConfig,
    config: TrainingConfig,
    *,
    origin: dict[str, Any],
    start: tuple[Vocabulary, dict[str, Any]] | None,
    listener: Listener,
    is_stopped: Callable[[], bool],
    started: float,
) -> tuple[Archive, Run]:
    """Train and return the archive of the best weights, and how the run went.

    Args:
        origin: how the corpus was read; kept in the archive.
        start: vocabulary and weights of the model to start from (fine-tuning).
        started: when the budget began, of ``time.monotonic``.
    """
    if has_gpu() and config.precision != "float32":
        config = dataclasses.replace(config, precision="float32")
        listener(Note("a GPU trains in float32; --precision is for processors"))
    listener(Stage("building the network"))
    network = build_network(model_config, config.random_seed)
    if start is None:
        expect_frequencies(network, corpus.token_counts())
    else:
        assign_tensors(network, _grown(start, corpus.vocabulary, network))
    windows = windows_of(corpus.training_part, config)
    examiner = Examiner(
        network,
        model_config,
        corpus.vocabulary,
        corpus.held_out_part,
        config.sequence_length if config.objective == "last" else None,
    )
    trainee, schedule = compiled(network, model_config, config)
    steps = config.steps
    if config.epochs is not None:
        steps = math.ceil(config.epochs * windows.steps_per_epoch)
    listener(
        Planned(
            model_config,
            config,
            corpus.training_part.size,
            corpus.held_out_size,
            steps,
        )
    )
    listener(Stage("compiling"))
    budget = None
    if steps is not None:
        plan = plan_for_steps(steps, config.validate_every)
    else:
        assert config.budget is not None
        budget, plan = _calibrate(trainee, windows, examiner, config, started)
        enough = math.ceil(MOST_EPOCHS * windows.steps_per_epoch)
        if enough < plan.steps and config.objective == "sequence":
            plan = plan_for_steps(enough, config.validate_every)
            listener(Note(f"{enough:,} steps are enough for so little text; --steps asks for more"))
    schedule.total.assign(plan.steps)
    run = Run(plan)
    trainee.fit(
        dataset(windows),
        epochs=math.ceil(plan.steps / plan.validate_every),
        steps_per_epoch=plan.validate_every,
        verbose=0,
        shuffle=False,
        callbacks=[
            Pace(run, _characters_per_step(config), listener, is_stopped, budget),
            Validation(run, examiner, listener, schedule.total.assign, config.patience, budget),
        ],
    )
    if run.best is None:
        raise RunError("training gave no finite weights; try a lower --learning-rate")
    assign_tensors(network, run.best)
    training = {
        **dataclasses.replace(
            config,
            budget=None,
            steps=None if config.epochs is not None else run.plan.steps,
            validate_every=plan.validate_every,
        ).to_dict(),
        **origin,
        "characters": corpus.training_part.size,
        "best_step": run.best_step,
        "completed": run.step == plan.steps,
        "held_out": None,
    }
    figure = run.best_figure
    if examiner.glance.size < examiner.held_out.size:
        figure = examiner.evaluate(run.best, examiner.held_out)
    if figure is not None:
        training["held_out"] = figure.to_dict()
    archive = export(network, model_config, corpus.vocabulary, training, run.history)
    return archive, run


def _characters_per_step(config: TrainingConfig) -> int:
    """Targets learned from in a step."""
    return config.batch_size * (1 if config.objective == "last" else config.sequence_length)


def compiled(
    network: keras.Sequential, model_config: ModelConfig, config: TrainingConfig
) -> tuple[TrainingNetwork, WarmupCosine]:
    on_gpu = has_gpu()
    trainee = TrainingNetwork(
        network,
        model_config,
        config.batch_size,
        config.objective,
        "stock" if on_gpu else "kernels",
        config.precision,
    )
    schedule = WarmupCosine(config.learning_rate, total=1)
    trainee.compile(
        optimizer=keras.optimizers.Adam(schedule, beta_2=_ADAM_BETA_2, global_clipnorm=_CLIP_NORM),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,  # a sharded step compiles its parts; cuDNN's kernels cannot be
    )
    return trainee, schedule


def _calibrate(
    trainee: TrainingNetwork,
    windows: Windows,
    examiner: Examiner,
    config: TrainingConfig,
    started: float,
) -> tuple[Budget, Plan]:
    """Measure a step and a validation, undo what was learned meanwhile, and plan."""
    assert config.budget is not None
    began = time.monotonic()
    validation_seconds = 0.0
    reserve = _EXPORT_SECONDS
    if examiner.glance.size:
        examiner.evaluate(examiner.tensors(), examiner.glance)
        validation_seconds = time.monotonic() - began
        if examiner.glance.size < examiner.held_out.size:
            reserve += validation_seconds * examiner.held_out.size / examiner.glance.size
    trainee.optimizer.build(trainee.trainable_variables)
    variables = [*trainee.variables, *trainee.optimizer.variables]
    before = [np.asarray(variable).copy() for variable in variables]
    stopwatch = _Stopwatch(trainee, _CALIBRATION_SHARE * config.budget)
    trainee.fit(
        dataset(windows),
        steps_per_epoch=10**9,
        verbose=0,
        shuffle=False,
        callbacks=[stopwatch],
    )
    for variable, value in zip(variables, before, strict=True):
        variable.assign(value)
    budget = Budget(config.budget, started, reserve)
    return budget, budget.plan(stopwatch.step_seconds, validation_seconds, config.validate_every)


class _Stopwatch(keras.callbacks.Callback):
    """Times steps for ``seconds``, the first ones, which compile, not counted."""

    _SKIPPED = 3

    def __init__(self, trainee: TrainingNetwork, seconds: float) -> None:
        super().__init__()
        self._trainee = trainee
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
            self._trainee.stop_training = True

    @property
    def step_seconds(self) -> float:
        """The median: the first steps are slower, and a busy moment is no rule."""
        return float(np.median(self._times))


def _grown(
    start: tuple[Vocabulary, dict[str, Any]], vocabulary: Vocabulary, network: keras.Sequential
) -> dict[str, Any]:
    """Weights of a known model for a vocabulary that holds its own: what it knows is kept.

    A new character has fresh weights and the bias of the rarest known one.
    """
    known, tensors = start
    rows = np.searchsorted(vocabulary.characters, known.characters)
    grown = {**tensors}
    fresh = tensors_of(network)
    for name in ("embedding", "head/kernel", "head/bias"):
        grown[name] = fresh[name]
    grown["embedding"][rows] = tensors["embedding"]
    grown["head/kernel"][:, rows] = tensors["head/kernel"]
    grown["head/bias"][:] = tensors["head/bias"].min()
    grown["head/bias"][rows] = tensors["head/bias"]
    return grown
