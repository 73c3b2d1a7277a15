"""What an earlier run left behind, and whether this one may go on from it.

Options are compared by name with those that the run was begun with. Knows nothing of Keras.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping
from typing import Any

from chargen.archive import Archive, read_archive
from chargen.config import ModelConfig, TrainingConfig, format_duration, option_of
from chargen.corpus import Corpus
from chargen.errors import ModelFileError, TextError, UsageError
from chargen.training.budget import Plan
from chargen.training.checkpoint import Checkpoint, read_checkpoint, state_path
from chargen.training.run import Run

__all__ = [
    "LENGTHS",
    "check_corpus",
    "check_length",
    "check_options",
    "check_output",
    "earlier_run",
    "lengthened",
]

LENGTHS = ("budget", "epochs", "steps")

# What two runs that are the same have in common, beside the model's architecture.
_LASTING = (
    *("corpus_sha256", "objective", "batch_size", "sequence_length", "stride", "learning_rate"),
    *("precision", "deterministic", "random_seed"),
)


def earlier_run(output: str | os.PathLike[str]) -> Checkpoint | None:
    """The state beside ``output``, or None. Raises ``ModelFileError`` where it is spoilt."""
    try:
        return read_checkpoint(state_path(output))
    except FileNotFoundError:
        return None


def check_options(asked: Mapping[str, Any], earlier: Checkpoint) -> None:
    """Raise ``UsageError`` where an option that is given (not None) is another than before; how
    long to train may change."""
    settings = {**earlier.model.to_dict(), **earlier.training.to_dict(), **earlier.origin}
    for name, value in asked.items():
        if name not in LENGTHS and value is not None:
            before = earlier.asked.get(name)
            if value != (settings[name] if before is None else before):
                option, own = option_of(name), settings[name] if before is None else before
                raise UsageError(
                    f"{option} {value!r}: the run to resume was begun"
                    f" {'without it' if own is None else f'with {own!r}'}; leave {option} out, or"
                    " start anew with --force instead of --resume"
                )


def check_corpus(corpus: Corpus, sha256: str, earlier: Checkpoint) -> None:
    """Raise ``TextError`` unless ``corpus``, of hash ``sha256``, is the one it was begun with."""
    if sha256 != earlier.origin["corpus_sha256"]:
        own = " ".join(earlier.origin["corpus"] or ["that one"])
        raise TextError(
            f"{' '.join(corpus.names)}: not the corpus that the run to resume was begun with, or"
            f" its text has changed; name {own} as it was, or start anew with --force instead of"
            " --resume"
        )


def check_output(
    output: str | os.PathLike[str], model: ModelConfig, training: TrainingConfig, sha256: str
) -> Archive | None:
    """The model that this very run wrote to ``output`` before, or None where nothing stands there.

    Raises ``UsageError`` for a file that is none of this run's, which is not overwritten.
    """
    if not os.path.lexists(output):
        return None
    try:
        archive = read_archive(output)
    except ModelFileError as error:
        raise UsageError(f"{error} (--force overwrites it)") from None
    own = {**training.to_dict(), "corpus_sha256": sha256}
    if archive.model != model or any(archive.training.get(n) != own[n] for n in _LASTING):
        raise UsageError(
            f"{os.fspath(output)}: exists and is the model of another run; --force overwrites it,"
            " -o/--output names another"
        )
    return archive


def check_length(
    output: str | os.PathLike[str],
    written: Archive,
    training: TrainingConfig,
    steps_per_epoch: float,
) -> None:
    """Raise ``UsageError`` where ``training`` is longer than the run of the model ``written`` at
    ``output``, which is finished and has left no state."""
    before, wanted = (
        steps or math.ceil((epochs or 0) * steps_per_epoch)
        for steps, epochs in (
            (written.training["steps"], written.training["epochs"]),
            (training.steps, training.epochs),
        )
    )
    if written.training["completed"] and wanted > before:
        raise UsageError(
            f"{os.fspath(output)}: finished, and without {state_path(output)} it cannot go on;"
            f" --init {os.fspath(output)} with another -o/--output starts from its weights"
        )


def lengthened(
    run: Run, config: TrainingConfig, asked: Mapping[str, Any], steps_per_epoch: float
) -> TrainingConfig:
    """``config`` with the length that is asked for, where that lies beyond the one of ``run``,
    which is opened again; without such an option, ``config`` as it is.

    A time is turned into steps later, by ``Budget.plan``. Raises ``UsageError`` for a length that
    does not lie beyond.
    """
    name = next((name for name in LENGTHS if asked.get(name) is not None), None)
    if name is None or asked[name] == getattr(config, name):
        return config
    value, steps = asked[name], run.plan.steps
    if name == "budget":
        before = max(run.seconds, config.budget or 0)
        if value <= before:
            raise UsageError(
                f"--budget {format_duration(value)}: the run to resume has had"
                f" {format_duration(round(before))}; give more, or leave --budget out"
            )
    else:
        steps = math.ceil(value * (steps_per_epoch if name == "epochs" else 1))
        if steps <= run.plan.steps:
            raise UsageError(
                f"--{name} {value}: the run to resume was planned for {run.plan.steps:,} steps;"
                f" give more, or leave --{name} out"
            )
    run.plan = Plan(steps, run.plan.validate_every)
    run.is_over = run.as_planned = False
    run.without_gain = 0
    return dataclasses.replace(config, **{**dict.fromkeys(LENGTHS), name: value})
