"""Training: the only folder that may import Keras or TensorFlow.

Importing it costs nothing; `train` reads and checks everything it can before it loads them. It
knows nothing of the command line: what happens during a run goes to a listener (`events`).
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from chargen.archive import Archive
from chargen.config import Cell, Objective, Precision, parse_duration
from chargen.errors import RunError, UsageError
from chargen.files import claimed
from chargen.model import Model
from chargen.training.checkpoint import state_path
from chargen.training.events import Listener, Note, Saved, Stage
from chargen.training.preparation import PathLike, Request, prepare
from chargen.training.saving import Saver
from chargen.vocabulary import TokenKind

__all__ = ["train"]


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
        "budget": _seconds(budget, "--budget", 1) if isinstance(budget, str) else budget,
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
    one = isinstance(corpus, str | os.PathLike)
    sources: Any = [corpus] if one else list(corpus or ())  # type: ignore[arg-type]
    request = Request(sources, text, output, force, resume, asked)
    interval = _seconds(checkpoint_every, "--checkpoint-every", 0)
    if tensorboard is not None and importlib.util.find_spec("tensorboard") is None:
        raise RunError(
            "--tensorboard needs TensorBoard, which is not installed: pip install"
            " 'chargen[tensorboard]'"
        )
    with contextlib.ExitStack() as claims:
        if output is not None:
            claims.enter_context(claimed(output, state_path(output)))
        prepared = prepare(request, listener)
        if prepared.is_finished and prepared.written is not None:
            return _finished(prepared.written, output, listener)
        if tensorboard is not None:
            _make_folder(tensorboard)
        saver = None
        if output is not None:
            saver = Saver(
                Path(output),
                interval,
                listener,
                may_overwrite=force or prepared.written is not None,
                resumed=prepared.earlier is not None,
            )
        training = _started(
            prepared,
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
    listener(_saved(archive, path, run.step, run.interrupted and not run.is_over))
    return Model(archive, path)


def _started(prepared: Any, *, listener: Listener, **options: Any) -> Any:
    """The run, once TensorFlow is there."""
    listener(Stage("starting TensorFlow"))
    from chargen.training.backend import ensure_backend

    ensure_backend()
    from chargen.training.trainer import Training

    return Training(prepared, listener=listener, **options)


def _seconds(asked: float | str, option: str, least: int) -> float:
    """The time that is ``asked`` for by an option, in seconds."""
    seconds = parse_duration(asked, option) if isinstance(asked, str) else asked
    if not least <= seconds <= 366 * 86400:
        raise UsageError(f"{option} {asked!r}: expected a time from {least}s to 8784h")
    return seconds


def _make_folder(path: PathLike) -> None:
    """Make a folder for files at ``path``, or raise ``RunError``: found out before training."""
    try:
        if not os.path.lexists(path):
            os.makedirs(path)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise RunError(
            f"{os.fspath(path)}: cannot be written: {error.strerror}; name another folder with"
            " --tensorboard"
        ) from error


def _finished(written: Archive, output: PathLike | None, listener: Listener) -> Model:
    """The model of a run that had come to its end before."""
    steps = int(written.history[-1]["step"])
    listener(
        Note(f"this run is finished, after {steps:,} steps; --steps or --budget beyond it go on")
    )
    listener(_saved(written, output, steps, False))
    return Model(written, None if output is None else Path(output))


def _saved(archive: Archive, output: PathLike | None, steps: int, interrupted: bool) -> Saved:
    held_out = archive.training["held_out"]
    return Saved(
        None if output is None else os.fspath(output),
        steps,
        interrupted,
        None if held_out is None else float(held_out["bits_per_char"]),
        archive.vocabulary.unit,
    )
