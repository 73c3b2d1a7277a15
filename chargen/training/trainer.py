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

from chargen.archive import Archive, revised_archive
from chargen.errors import RunError
from chargen.training.backend import has_gpu, make_deterministic
from chargen.training.budget import Budget, Plan, plan_for_steps
from chargen.training.building import compiled, initial_network
from chargen.training.callbacks import Examiner, Pace, Restore, Stopwatch, Validation, look
from chargen.training.checkpoint import Checkpoint
from chargen.training.events import Listener, Note, Planned, Stage
from chargen.training.export import export
from chargen.training.pipeline import dataset
from chargen.training.preparation import Prepared
from chargen.training.recipe import MOST_EPOCHS
from chargen.training.run import Run, is_finite
from chargen.training.saving import Saver
from chargen.training.shards import num_shards
from chargen.windows import windows_of

__all__ = ["Training"]

_CALIBRATION_SHARE = 0.015  # of the budget
_ENDING_SECONDS = 0.2  # of a process, after its last write
_SAVED_BYTES = 20  # a parameter, in the model and the state
_SAVING_SPEED = 2e8  # bytes a second, hashed, written, synced and read back
_MOST_HALVINGS = 3


class Training:
    """A run: built, then taken ``to_end``: its own, a request to stop, or a loss that stays not
    finite.

    ``saver`` writes what the run leaves on the way; None keeps it in memory. ``tensorboard`` is a
    folder for event files, and ``started`` is when this process began to spend the budget, of
    ``time.monotonic``.
    """

    def __init__(
        self,
        prepared: Prepared,
        *,
        saver: Saver | None,
        tensorboard: str | None,
        listener: Listener,
        is_stopped: Callable[[], bool],
        started: float,
    ) -> None:
        config, earlier = prepared.training, prepared.earlier
        if config.deterministic and has_gpu():  # on a processor they already are, and far faster
            make_deterministic()
        if has_gpu() and config.precision != "float32":
            config = dataclasses.replace(config, precision="float32")
            listener(Note("a GPU trains in float32; --precision is for processors"))
        listener(Stage("building the network"))
        self._prepared = prepared
        self._config = config
        self._saver = saver
        self._tensorboard = tensorboard
        self._listener = listener
        self._is_stopped = is_stopped
        self._started = started
        model, corpus = prepared.model, prepared.corpus
        network = initial_network(corpus, model, config.random_seed, prepared.start)
        self._windows = windows_of(corpus.training_part, config)
        self._examiner = Examiner(
            network,
            model,
            corpus.vocabulary,
            corpus.held_out_part,
            config.sequence_length if config.objective == "last" else None,
        )
        self._trainee, self._schedule = compiled(network, model, config)
        self._budget: Budget | None = None
        self.run = Run(Plan(1, 1)) if earlier is None else earlier.run
        self._restore = Restore(self.run)
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
        self._plan()

    def _plan(self) -> None:
        """Say how many steps there are, which for a time must be measured first."""
        run, config, windows = self.run, self._config, self._windows
        corpus, earlier = self._prepared.corpus, self._prepared.earlier
        steps = config.steps
        if config.epochs is not None:
            steps = math.ceil(config.epochs * windows.steps_per_epoch)
        known = run.plan.steps if earlier is not None else steps
        sizes = corpus.training_part.size, corpus.held_out_size
        unit = corpus.vocabulary.unit
        self._listener(Planned(self._prepared.model, config, *sizes, unit, known))
        self._listener(Stage("compiling"))
        if earlier is None and steps is not None:
            run.plan = plan_for_steps(steps, config.validate_every)
        elif config.budget is not None:
            self._plan_for_time(config.budget)
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

    def _plan_for_time(self, seconds: float) -> None:
        run, earlier = self.run, self._prepared.earlier
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
        examiner, ending = self._examiner, _ENDING_SECONDS + self._saving_seconds()
        if examiner.glance.size == examiner.held_out.size:
            return ending
        return ending + validation_seconds * examiner.held_out.size / examiner.glance.size

    def _saving_seconds(self) -> float:
        if self._saver is None:
            return 0.0
        return _SAVED_BYTES * self._prepared.model.num_parameters / _SAVING_SPEED

    def _calibrated(self, seconds: float, began: float) -> tuple[Budget, Plan]:
        """Measure a step and a validation, undo what was learned meanwhile, and plan."""
        looked, validation_seconds = time.monotonic(), 0.0
        if self._examiner.glance.size:
            self._examiner.evaluate(self._examiner.tensors(), self._examiner.glance)
            validation_seconds = time.monotonic() - looked + self._saving_seconds()
        stopwatch = Stopwatch(_CALIBRATION_SHARE * seconds)
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
            weights = self._examiner.tensors()
            if look(shown, self._examiner, weights, self._listener, self._schedule) is None:
                shown = run
                run.step, self._restore.pending = self._good
        if self._restore.pending is not None:  # gone back to, and not gone on from
            self._trainee.restore(self._restore.pending)
        archive = self._archive(shown, measured=run.is_over)
        if self._saver is not None:
            self._saver.save_last(archive, self._checkpoint(self._trainee.snapshot()))
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
            **self._prepared.origin,
            "characters": self._prepared.corpus.training_part.size,
            "best_step": run.best_step,
            "completed": run.is_over,
            "as_planned": run.as_planned,
            "held_out": None,
        }

    def _checkpoint(self, snapshot: dict[str, Any]) -> Checkpoint:
        self.run.seconds = self._spent_before + time.monotonic() - self._started
        prepared = self._prepared
        return Checkpoint(
            prepared.model,
            self._config,
            prepared.corpus.vocabulary,
            prepared.asked,
            prepared.origin,
            self.run,
            snapshot,
        )
