"""Training: the only folder that may import Keras or TensorFlow.

Importing it costs nothing; `train` reads and checks everything it can before it loads them. It
knows nothing of the command line: what happens during a run goes to a listener (`events`).
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from chargen.archive import Archive, largest_weights, read_archive
from chargen.config import Cell, ModelConfig, Objective, Precision, TrainingConfig, parse_duration
from chargen.container import LARGEST_FILE
from chargen.corpus import Corpus, read_corpus
from chargen.errors import RunError, UsageError
from chargen.files import claimed
from chargen.model import Model
from chargen.training.checkpoint import Checkpoint, state_path
from chargen.training.events import Listener, Note, Saved, Stage
from chargen.training.recipe import DEFAULT_BUDGET, model_config, training_config
from chargen.training.resume import (
    LENGTHS,
    check_corpus,
    check_options,
    check_output,
    earlier_run,
    lengthened,
)
from chargen.training.saving import Saver
from chargen.vocabulary import TokenKind, Vocabulary
from chargen.windows import windows_of

__all__ = ["train"]

PathLike = str | os.PathLike[str]

_ARCHITECTURE = ("cell", "units", "num_layers", "embedding_dim", "dropout")
_READING = ("tokens", "encoding", "lines", "val_fraction", "init")
_MOST_NAMES = 1000  # of a corpus, kept in the model


def train(
    corpus: PathLike | Sequence[PathLike] | None = None,
    *,
    text: str | None = None,
    output: PathLike | None = None,
    force: bool = False,
    resume: bool = False,
    checkpoint_every: float | str = 60.0,
    init: PathLike | None = None,
    tokens: TokenKind | None = None,
    encoding: str | None = None,
    lines: bool | None = None,
    val_fraction: float | None = None,
    cell: Cell | None = None,
    units: int | None = None,
    num_layers: int | None = None,
    embedding_dim: int | None = None,
    dropout: float | None = None,
    objective: Objective | None = None,
    batch_size: int | None = None,
    sequence_length: int | None = None,
    stride: int | None = None,
    learning_rate: float | None = None,
    budget: float | str | None = None,
    epochs: int | None = None,
    steps: int | None = None,
    patience: int | None = None,
    validate_every: int | None = None,
    precision: Precision | Literal["auto"] = "auto",
    deterministic: bool | None = None,
    random_seed: int | None = None,
    tensorboard: PathLike | None = None,
    listener: Listener = lambda event: None,
    is_stopped: Callable[[], bool] = lambda: False,
    started: float | None = None,
) -> Model:
    """Train a model on a corpus and return it; with ``output``, write it there too.

    Args:
        corpus: a file, folder, glob or ``-``, or several; or else ``text`` is the corpus itself.
        resume: go on from the state that an earlier run left beside ``output``, with its options;
            where there is none, begin. ``steps``, ``epochs`` or ``budget`` beyond its end go on.
        checkpoint_every: seconds, or a time such as ``"60s"``, between two writes of the best
            model and the state (``OUTPUT.resume``); each better model is written at once.
        init: a model file to start from; its architecture and known characters are kept.
        budget: a time such as ``"3m"``, or seconds; ``epochs`` and ``steps`` are the other ways to
            say how long. None of them is three minutes.
        tensorboard: a folder for TensorBoard's event files.
        listener: is told what happens (see ``chargen.training.events``).
        is_stopped: asked after every step; True ends the run with the best weights so far.
        started: when the budget began, of ``time.monotonic`` (default: now).

    An option that is None is chosen from the size of the corpus; the others stand in
    ``ModelConfig``, ``TrainingConfig`` and ``chargen.corpus.read_corpus``. Raises ``UsageError``,
    ``TextError``, ``ModelFileError`` or ``RunError``; the last one too, once the best model is
    written to ``output``, where the loss stayed not finite.
    """
    started = time.monotonic() if started is None else started
    if (corpus is None) == (text is None):
        raise UsageError("name a corpus, or give its text: one of the two")
    sources = [corpus] if isinstance(corpus, str | os.PathLike) else list(corpus or ())
    asked: dict[str, Any] = {
        "cell": cell,
        "units": units,
        "num_layers": num_layers,
        "embedding_dim": embedding_dim,
        "dropout": dropout,
        "objective": objective,
        "batch_size": batch_size,
        "sequence_length": sequence_length,
        "stride": stride,
        "learning_rate": learning_rate,
        "budget": parse_duration(budget) if isinstance(budget, str) else budget,
        "epochs": epochs,
        "steps": steps,
        "patience": patience,
        "validate_every": validate_every,
        "precision": None if precision == "auto" else precision,
        "deterministic": deterministic,
        "random_seed": random_seed,
        "tokens": tokens,
        "encoding": encoding,
        "lines": lines,
        "val_fraction": val_fraction,
        "init": None if init is None else os.fspath(init),
    }
    _check_asked(asked)
    interval = _seconds_between(checkpoint_every)
    if tensorboard is not None and importlib.util.find_spec("tensorboard") is None:
        raise RunError(
            "--tensorboard needs TensorBoard, which is not installed: pip install tensorboard"
        )
    if resume and output is None:
        raise UsageError("resume needs the output that the run writes (-o/--output)")
    with contextlib.ExitStack() as claims:
        if output is not None:
            if os.path.lexists(output) and not (force or resume):
                raise UsageError(
                    f"{os.fspath(output)}: exists; --force overwrites it, -o/--output names another"
                )
            claims.enter_context(claimed(output))
        earlier = earlier_run(output) if resume and output is not None else None
        if earlier is not None:
            check_options(asked, earlier)
        start = None if init is None or earlier is not None else read_archive(init)
        architecture = {name: asked[name] for name in _ARCHITECTURE}
        if start is not None:
            architecture = _kept_architecture(architecture, start.model, os.fspath(init or ""))
        how = _how(asked)
        listener(Stage("reading the corpus"))
        known = earlier or start
        read, reading = _read(
            sources,
            text,
            asked if earlier is None else earlier.origin,
            random_seed or 0 if earlier is None else earlier.training.random_seed,
            None if known is None else known.vocabulary,
            output,
        )
        sha256 = read.sha256()
        size = read.training_part.size
        if earlier is not None:
            check_corpus(read, sha256, earlier)
            model, before = earlier.model, earlier.training
            per_epoch = windows_of(read.training_part, before).steps_per_epoch
            config, notes = lengthened(earlier.run, before, asked, per_epoch), []
        else:
            # Sliding windows learn too slowly for a wide network.
            seconds = None if objective == "last" else how["budget"]
            model = model_config(architecture, size, len(read.vocabulary), seconds)
            config, notes = training_config(how, model, size, fine_tuning=start is not None)
        _check_size(model)
        written = None
        if resume and not force and output is not None:
            written = check_output(output, model, config, sha256)
        if written is not None and (earlier.run.is_over if earlier else _is_over(written, output)):
            return _finished(written, output, listener)
        for note in [*notes, *_notes(earlier, resume, output)]:
            listener(Note(note))
        if not read.held_out_size and val_fraction != 0:
            listener(Note("too little text to hold any out: the last weights are kept"))

        listener(Stage("starting TensorFlow"))
        from chargen.training.backend import ensure_backend

        ensure_backend()
        from chargen.training.trainer import Training

        saver = None
        if output is not None:
            saver = Saver(
                Path(output), interval, listener, may_overwrite=force, resumed=earlier is not None
            )
        named = corpus is not None and len(sources) <= _MOST_NAMES
        training = Training(
            read,
            model,
            config,
            asked=asked if earlier is None else earlier.asked,
            origin={
                "corpus": [os.fspath(source) for source in sources] if named else None,
                "corpus_sha256": sha256,
                **reading,
            },
            start=None if start is None else (start.vocabulary, start.tensors),
            earlier=earlier,
            saver=saver,
            tensorboard=None if tensorboard is None else os.fspath(tensorboard),
            listener=listener,
            is_stopped=is_stopped,
            started=started,
        )
        archive = training.to_end()
        run, path = training.run, None if saver is None else saver.path
    if run.diverged and path is not None:
        raise RunError(
            f"the loss stayed not finite; {path} keeps the best weights, of step"
            f" {run.best_step:,}: try a lower --learning-rate"
        )
    listener(
        Saved(
            None if path is None else os.fspath(path),
            run.step,
            run.interrupted,
            _bits(archive),
        )
    )
    return Model(archive, path)


def _how(asked: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of ``TrainingConfig`` that are asked for, with a length in any case."""
    names = TrainingConfig.__dataclass_fields__
    how = {name: asked[name] for name in names}
    if all(asked[name] is None for name in LENGTHS):
        how["budget"] = DEFAULT_BUDGET
    return how


def _check_asked(asked: Mapping[str, Any]) -> None:
    """Refuse what can be refused before the corpus is read, which may take long."""
    if asked["patience"] is not None and asked["val_fraction"] == 0:
        raise UsageError("--patience looks at held-out text, and --val-fraction 0 holds out none")
    architecture = {name: asked[name] for name in _ARCHITECTURE}
    training_config(_how(asked), model_config(architecture, 2, 1), 2)


def _seconds_between(checkpoint_every: float | str) -> float:
    seconds = (
        parse_duration(checkpoint_every, "--checkpoint-every")
        if isinstance(checkpoint_every, str)
        else checkpoint_every
    )
    if not 0 <= seconds <= 366 * 86400:
        raise UsageError(
            f"checkpoint-every {checkpoint_every!r}: expected a time from 0s to 8784h"
            " (--checkpoint-every)"
        )
    return seconds


def _read(
    sources: Sequence[PathLike],
    text: str | None,
    asked: Mapping[str, Any],
    random_seed: int,
    known: Vocabulary | None,
    output: PathLike | None,
) -> tuple[Corpus, dict[str, Any]]:
    """The corpus, and how it was read."""
    reading = {name: asked[name] for name in _READING}
    reading |= {
        "tokens": reading["tokens"] or "char",
        "encoding": reading["encoding"] or "utf-8",
        "lines": bool(reading["lines"]),
    }
    read = read_corpus(
        sources,
        text=text,
        tokens=reading["tokens"],
        encoding=reading["encoding"],
        lines=reading["lines"],
        val_fraction=reading["val_fraction"],
        random_seed=random_seed,
        known=known,
        spool_folder=None if output is None else Path(output).absolute().parent,
    )
    return read, reading


def _check_size(model: ModelConfig) -> None:
    if largest_weights(model) > LARGEST_FILE - (1 << 23):
        raise UsageError(
            f"{model.num_parameters:,} parameters are more than a model file holds"
            f" ({LARGEST_FILE:,} bytes); try smaller --units, --layers or --embedding-dim"
        )


def _is_over(written: Archive, output: PathLike | None) -> bool:
    """Whether the model was written at the end of its run, which then left no state."""
    return bool(written.training["completed"])


def _finished(written: Archive, output: PathLike | None, listener: Listener) -> Model:
    """The model of a run that had come to its end before."""
    steps = int(written.history[-1]["step"])
    listener(
        Note(f"this run is finished, after {steps:,} steps; --steps or --budget beyond it go on")
    )
    listener(Saved(None if output is None else os.fspath(output), steps, False, _bits(written)))
    return Model(written, None if output is None else Path(output))


def _notes(earlier: Checkpoint | None, resume: bool, output: PathLike | None) -> list[str]:
    if earlier is not None:
        run = earlier.run
        return [f"going on from step {run.step:,} of {run.plan.steps:,}"]
    if resume and output is not None:
        return [f"no {state_path(output)} to go on from: the run begins"]
    return []


def _bits(archive: Archive) -> float | None:
    held_out = archive.training["held_out"]
    return None if held_out is None else float(held_out["bits_per_char"])


def _kept_architecture(asked: dict[str, Any], model: ModelConfig, init: str) -> dict[str, Any]:
    """The architecture of the model to start from; asking for another one is an error."""
    kept = {name: getattr(model, name) for name in asked}
    for name, value in asked.items():
        if value is not None and name != "dropout" and value != kept[name]:
            raise UsageError(
                f"{name} {value!r}: {init} has {kept[name]!r}, and --init keeps its architecture;"
                " leave the option out"
            )
    if asked["dropout"] is not None:
        kept["dropout"] = asked["dropout"]
    return kept
