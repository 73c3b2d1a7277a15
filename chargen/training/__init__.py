"""Training: the only folder that may import Keras or TensorFlow.

Importing it costs nothing; `train` reads and checks everything it can before it loads them. It
knows nothing of the command line: what happens during a run goes to a listener (`events`).
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from chargen.archive import read_archive
from chargen.config import Cell, ModelConfig, Objective, Precision, parse_duration
from chargen.corpus import read_corpus
from chargen.errors import UsageError
from chargen.files import check_writable
from chargen.model import Model
from chargen.training.events import Listener, Note, Saved, Stage
from chargen.training.recipe import DEFAULT_BUDGET, model_config, training_config
from chargen.vocabulary import TokenKind

__all__ = ["train"]

PathLike = str | os.PathLike[str]


def train(
    corpus: PathLike | Sequence[PathLike] | None = None,
    *,
    text: str | None = None,
    output: PathLike | None = None,
    force: bool = False,
    init: PathLike | None = None,
    tokens: TokenKind = "char",
    encoding: str = "utf-8",
    lines: bool = False,
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
    random_seed: int = 0,
    listener: Listener = lambda event: None,
    is_stopped: Callable[[], bool] = lambda: False,
    started: float | None = None,
) -> Model:
    """Train a model on a corpus and return it; with ``output``, write it there too.

    Args:
        corpus: a file, folder, glob or ``-``, or several; or else ``text`` is the corpus itself.
        init: a model file to start from; its architecture and known characters are kept.
        budget: a time such as ``"3m"``, or seconds; ``epochs`` and ``steps`` are the other ways to
            say how long. None of them is three minutes.
        listener: is told what happens (see ``chargen.training.events``).
        is_stopped: asked after every step; True ends the run with the best weights so far.
        started: when the budget began, of ``time.monotonic`` (default: now).

    An option that is None is chosen from the size of the corpus; the others stand in
    ``ModelConfig``, ``TrainingConfig`` and ``chargen.corpus.read_corpus``. Raises ``UsageError``,
    ``TextError``, ``ModelFileError`` or ``RunError``.
    """
    started = time.monotonic() if started is None else started
    if (corpus is None) == (text is None):
        raise UsageError("name a corpus, or give its text: one of the two")
    sources = [corpus] if isinstance(corpus, str | os.PathLike) else list(corpus or ())
    architecture: dict[str, Any] = {
        "cell": cell,
        "units": units,
        "num_layers": num_layers,
        "embedding_dim": embedding_dim,
        "dropout": dropout,
    }
    how: dict[str, Any] = {
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
        "random_seed": random_seed,
    }
    if patience is not None and val_fraction == 0:
        raise UsageError("--patience looks at held-out text, and --val-fraction 0 holds out none")
    if budget is None and epochs is None and steps is None:
        how["budget"] = DEFAULT_BUDGET
    # Everything that can be refused is refused before the corpus is read, which may take long.
    training_config(how, model_config(architecture, 2, 1), 2)
    if output is not None:
        if os.path.lexists(output) and not force:
            raise UsageError(
                f"{os.fspath(output)}: exists; --force overwrites it, -o/--output names another"
            )
        check_writable(output)
    start = None if init is None else read_archive(init)
    if start is not None:
        architecture = _kept_architecture(architecture, start.model, os.fspath(init or ""))
    listener(Stage("reading the corpus"))
    read = read_corpus(
        sources,
        text=text,
        tokens=tokens,
        encoding=encoding,
        lines=lines,
        val_fraction=val_fraction,
        random_seed=random_seed,
        known=None if start is None else start.vocabulary,
        spool_folder=None if output is None else Path(output).absolute().parent,
    )
    size = read.training_part.size
    # Sliding windows learn too slowly for a wide network.
    seconds = None if objective == "last" else how["budget"]
    model = model_config(architecture, size, len(read.vocabulary), seconds)
    config, notes = training_config(how, model, size, fine_tuning=start is not None)
    for note in notes:
        listener(Note(note))
    if not read.held_out_size and val_fraction != 0:
        listener(Note("too little text to hold any out: the last weights are kept"))

    listener(Stage("starting TensorFlow"))
    from chargen.training.backend import ensure_backend

    ensure_backend()
    from chargen.training.trainer import run_training

    archive, run = run_training(
        read,
        model,
        config,
        origin={
            "corpus": None if corpus is None else [os.fspath(source) for source in sources],
            "tokens": tokens,
            "encoding": encoding,
            "lines": lines,
            "val_fraction": val_fraction,
            "init": None if init is None else os.fspath(init),
        },
        start=None if start is None else (start.vocabulary, start.tensors),
        listener=listener,
        is_stopped=is_stopped,
        started=started,
    )
    trained = Model(archive)
    if output is not None:
        if os.path.lexists(output) and not force:
            output, taken = _free_name(Path(output)), output
            listener(Note(f"{os.fspath(taken)} has come to exist meanwhile: {output} is written"))
        trained.save(output, force=force)
    held_out = archive.training["held_out"]
    listener(
        Saved(
            None if output is None else os.fspath(output),
            run.step,
            run.interrupted,
            None if held_out is None else held_out["bits_per_char"],
        )
    )
    return trained


def _free_name(path: Path) -> Path:
    """The first of NAME-1, NAME-2, ... that does not exist."""
    names = (path.with_stem(f"{path.stem}-{number}") for number in itertools.count(1))
    return next(name for name in names if not os.path.lexists(name))


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
