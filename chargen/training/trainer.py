"""One training run, from an encoded corpus to the archive of the best weights.

Ties the rooms of this folder together: network, calibration, `fit`, checkpoints, export.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from chargen.archive import Archive, revised_archive
from chargen.config import ModelConfig, TrainingConfig
from chargen.corpus import Corpus
from chargen.errors import RunError
from chargen.training.backend import has_gpu, make_deterministic
from chargen.training.budget import Budget, Plan, plan_for_steps
from chargen.training.callbacks import Examiner, Pace, Restore, Validation, look
from chargen.training.checkpoint import Checkpoint
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
from chargen.training.run import Run, is_finite
from chargen.training.saving import Saver
from chargen.training.schedule import WarmupCosine
from chargen.training.shards import num_shards
from chargen.vocabulary import Vocabulary
from chargen.windows import windows_of

__all__ = ["Training", "compiled"]

_ADAM_BETA_2 = 0.99
_CLIP_NORM = 1.0
_CALIBRATION_SHARE = 0.015  # of the budget
_SAVING_SECONDS = 0.2
_MOST_HALVINGS = 3


class Training:
    """A run: built, then ``run`` to its end, a request to stop, or a loss that is not finite.

    Args:
        asked: the options that were given; kept in the state.
        origin: how the corpus was read, and its hash; kept in the model and in the state.
        start: vocabulary and weights of the model to start from (fine-tuning).
        earlier: the state to go on from.
        saver: writes what the run leaves on the way; None keeps it in memory.
        started: when this process began to spend the budget, of ``time.monotonic``.
    """

    def __init__(
        self,
        corpus: Corpus,
        model: ModelConfig,
        config: TrainingConfig,
        *,
        asked: dict[str, Any],
        origin: dict[str, Any],
        start: tuple[Vocabulary, dict[str, Any]] | None,
        earlier: Checkpoint | None,
        saver: Saver | None,
        tensorboard: str | None,
        listener: Listener,
        is_stopped: Callable[[], bool],
        started: float,
    ) -> None:
        if config.deterministic:
            make_deterministic()
        if has_gpu() and config.precision != "float32":
            config = dataclasses.replace(config, precision="float32")
            listener(Note("a GPU trains in float32; --precision is for processors"))
        listener(Stage("building the network"))
        self._corpus = corpus
        self._model = model
        self._config = config
        self._asked = asked
        self._origin = origin
        self._saver = saver
        self._tensorboard = tensorboard
        self._listener = listener
        self._is_stopped = is_stopped
        self._started = started
        network = build_network(model, config.random_seed)
        if start is None:
            expect_frequencies(network, corpus.token_counts())
        else:
            assign_tensors(network, _grown(start, corpus.vocabulary, network))
        self._windows = windows_of(corpus.training_part, config)
        self._examiner = Examiner(
            network,
            model,
            corpus.vocabulary,
            corpus.held_out_part,
            config.sequence_length if config.objective == "last" else None,
        )
        self._trainee, self._schedule = compiled(network, model, config)
        self._restore = Restore()
        self._budget: Budget | None = None
        self.run = Run(Plan(1, 1)) if earlier is None else earlier.run
        self._spent_before = self.run.seconds
        if earlier is not None:
            self._trainee.restore(earlier.variables)
        self._good = (self.run.step, self._trainee.snapshot())
        # A model file of this network, into which the weights that are kept are put.
        self._template = export(
            network,
            model,
            corpus.vocabulary,
            self._record(self.run),
            [self._point()],
            None if saver is None else saver.path,
        )
        self._plan(earlier)

    def _plan(self, earlier: Checkpoint | None) -> None:
        """Say how many steps there are, which for a time must be measured first."""
        run, config, windows = self.run, self._config, self._windows
        steps = config.steps
        if config.epochs is not None:
            steps = math.ceil(config.epochs * windows.steps_per_epoch)
        known = run.plan.steps if earlier is not None else steps
        corpus = self._corpus
        self._listener(
            Planned(self._model, config, corpus.training_part.size, corpus.held_out_size, known)
        )
        self._listener(Stage("compiling"))
        if earlier is None and steps is not None:
            run.plan = plan_for_steps(steps, config.validate_every)
        elif config.budget is not None:
            self._plan_for_time(config.budget, earlier)
        threads = num_shards(config.batch_size)
        if earlier is None:
            run.threads = threads
        elif threads != run.threads:
            self._listener(
                Note(
                    f"the run was begun with {run.threads} thread(s) a step and goes on with"
                    f" {threads}: its weights will not be the same to the bit"
                )
            )
        self._schedule.total.assign(run.plan.steps)
        self._schedule.scale.assign(0.5**run.halvings)
        run.is_over = run.is_over or run.step >= run.plan.steps

    def _plan_for_time(self, seconds: float, earlier: Checkpoint | None) -> None:
        run = self.run
        began = self._started - self._spent_before
        if earlier is None:
            self._budget, run.plan = self._calibrated(seconds, began)
        else:
            self._budget = Budget(seconds, began, self._reserve(run.validation_seconds))
            if seconds == earlier.training.budget:
                return
            more = self._budget.plan(
                run.step_seconds, run.validation_seconds, run.plan.validate_every
            )
            run.plan = Plan(run.step + more.steps, run.plan.validate_every)
        enough = math.ceil(MOST_EPOCHS * self._windows.steps_per_epoch)
        if enough < run.plan.steps and self._config.objective == "sequence":
            if earlier is None:
                run.plan = plan_for_steps(enough, self._config.validate_every)
            else:
                run.plan = Plan(max(enough, run.step), run.plan.validate_every)
            self._listener(
                Note(f"{enough:,} steps are enough for so little text; --steps asks for more")
            )

    def _reserve(self, validation_seconds: float) -> float:
        """Seconds for what comes after the last step."""
        examiner = self._examiner
        if examiner.glance.size == examiner.held_out.size:
            return _SAVING_SECONDS
        return _SAVING_SECONDS + validation_seconds * examiner.held_out.size / examiner.glance.size

    def _calibrated(self, seconds: float, began: float) -> tuple[Budget, Plan]:
        """Measure a step and a validation, undo what was learned meanwhile, and plan."""
        looked, validation_seconds = time.monotonic(), 0.0
        if self._examiner.glance.size:
            self._examiner.evaluate(self._examiner.tensors(), self._examiner.glance)
            validation_seconds = time.monotonic() - looked
        stopwatch = _Stopwatch(_CALIBRATION_SHARE * seconds)
        self._trainee.fit(
            dataset(self._windows),
            steps_per_epoch=10**9,
            verbose=0,
            shuffle=False,
            callbacks=[stopwatch],
        )
        self._trainee.restore(self._good[1])
        budget = Budget(seconds, began, self._reserve(validation_seconds))
        return budget, budget.plan(
            stopwatch.step_seconds, validation_seconds, self._config.validate_every
        )

    def to_end(self) -> Archive:
        """Train, and return the archive of the best weights.

        Raises ``RunError`` where there are none, or where the model cannot be written.
        """
        run = self.run
        callbacks = self._callbacks()
        self._restore.pending = self._good[1]
        while not (run.is_over or run.interrupted or run.diverged):
            every = run.plan.validate_every
            done = run.step % every  # of a stretch that was broken off
            epoch = run.step // every
            last = epoch + 1 if done else math.ceil(run.plan.steps / every)
            self._trainee.fit(
                dataset(self._windows, run.step),
                initial_epoch=epoch,
                epochs=last,
                steps_per_epoch=every - done,
                verbose=0,
                shuffle=False,
                callbacks=callbacks,
            )
            if run.diverged:
                self._go_back()
        if run.best is None and run.diverged:
            raise RunError("training gave no finite weights; try a lower --learning-rate")
        return self._kept()

    def _callbacks(self) -> list[Any]:
        config, run = self._config, self.run
        characters = config.batch_size * (
            1 if config.objective == "last" else config.sequence_length
        )
        callbacks = [
            self._restore,
            Pace(
                run,
                characters,
                self._listener,
                self._is_stopped,
                self._budget,
                self._save_if_due,
            ),
            Validation(
                run,
                self._examiner,
                self._listener,
                self._schedule,
                config.patience,
                self._budget,
                self._keep,
            ),
        ]
        if self._tensorboard is not None:
            callbacks.append(keras.callbacks.TensorBoard(self._tensorboard, write_graph=False))
        return callbacks

    def _keep(self, is_gain: bool) -> None:
        """After a validation."""
        self._good = (self.run.step, self._trainee.snapshot())
        if is_gain and self._saver is not None and not self.run.is_over:
            self._saver.save(self._archive(self.run), self._checkpoint(self._good[1]))

    def _save_if_due(self) -> None:
        if self._saver is None or not self._saver.is_due():
            return
        snapshot = self._trainee.snapshot()
        if is_finite(snapshot):
            self._saver.save(self._archive(self.run), self._checkpoint(snapshot))

    def _go_back(self) -> None:
        """To the last good state with half the learning rate, or, at the last time, to its end."""
        run, bad = self.run, self.run.step
        run.step, self._restore.pending = self._good
        run.is_over = False
        if run.halvings == _MOST_HALVINGS:
            self._listener(
                Note(
                    f"the loss is no longer finite at step {bad:,}, with the learning rate halved"
                    f" {run.halvings} times: training ends here; try a lower --learning-rate"
                )
            )
            return
        run.halvings += 1
        run.diverged = False
        self._schedule.scale.assign(0.5**run.halvings)
        self._listener(
            Note(
                f"the loss is no longer finite at step {bad:,}: back to step {run.step:,} with half"
                " the learning rate"
            )
        )

    def _kept(self) -> Archive:
        """The archive at the end of this process, written where there is a place for it."""
        run = self.run
        shown = run
        if run.interrupted and not run.is_over and run.step > self._good[0]:
            # What was learned since the last look may be the best: the model has it, and the state
            # stays that of a run that was never stopped.
            shown = dataclasses.replace(run, history=[*run.history])
            look(shown, self._examiner, self._examiner.tensors(), self._listener, self._schedule)
        archive = self._archive(shown, measured=run.is_over)
        if self._saver is not None:
            snapshot = self._good[1] if run.diverged else self._trainee.snapshot()
            self._saver.save_last(archive, self._checkpoint(snapshot))
        return archive

    def _archive(self, run: Run, *, measured: bool = False) -> Archive:
        """The model of the best weights of ``run``, or of those as they are before there are any;
        ``measured`` on the whole of a long held-out text."""
        tensors = self._examiner.tensors() if run.best is None else run.best
        figure = run.best_figure
        if measured and self._examiner.glance.size < self._examiner.held_out.size:
            figure = self._examiner.evaluate(tensors, self._examiner.held_out)
        record = self._record(run)
        record["held_out"] = None if figure is None else figure.to_dict()
        return revised_archive(self._template, tensors, record, run.history or [self._point()])

    def _point(self) -> dict[str, float]:
        """The history of a run that has none yet: where it stands."""
        run = self.run
        rate = self._schedule.rate_of(run.step) if run.step else 0.0
        loss = run.loss if math.isfinite(run.loss) else 0.0
        return {"step": run.step, "loss": loss, "learning_rate": rate}

    def _record(self, run: Run) -> dict[str, Any]:
        config = dataclasses.replace(
            self._config,
            budget=None,
            steps=None if self._config.epochs is not None else run.plan.steps,
            validate_every=run.plan.validate_every,
        )
        return {
            **config.to_dict(),
            **self._origin,
            "characters": self._corpus.training_part.size,
            "best_step": run.best_step,
            "completed": run.is_over,
            "as_planned": run.as_planned,
            "held_out": None,
        }

    def _checkpoint(self, snapshot: dict[str, Any]) -> Checkpoint:
        self.run.seconds = self._spent_before + time.monotonic() - self._started
        return Checkpoint(
            self._model,
            self._config,
            self._corpus.vocabulary,
            self._asked,
            self._origin,
            self.run,
            snapshot,
        )


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


class _Stopwatch(keras.callbacks.Callback):
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
