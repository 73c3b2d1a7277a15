"""From what a run is asked to do to what is trained: corpus, configs, and an earlier run's state.

What can be refused is refused here, by name, before TensorFlow is loaded; what the user left open
comes from the recipe, or from the run that is resumed. Knows nothing of Keras.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chargen.archive import Archive, read_archive
from chargen.config import ModelConfig, TrainingConfig, option_of
from chargen.container import LARGEST_FILE
from chargen.corpus import Corpus, read_corpus
from chargen.errors import UsageError
from chargen.files import check_vacant
from chargen.training.checkpoint import Checkpoint, largest_tensors, state_path
from chargen.training.events import Listener, Note, Stage
from chargen.training.recipe import DEFAULT_BUDGET, model_config, training_config
from chargen.training.resume import (
    LENGTHS,
    check_corpus,
    check_length,
    check_options,
    check_output,
    earlier_run,
    lengthened,
)
from chargen.vocabulary import Vocabulary
from chargen.windows import windows_of

__all__ = ["PathLike", "Prepared", "Request", "prepare"]

PathLike = str | os.PathLike[str]

_ARCHITECTURE = ("cell", "units", "num_layers", "embedding_dim", "dropout")
_MOST_NAMES = 1000  # of a corpus, kept in the model
_ZIP_AND_JSON = 1 << 24  # bytes, at most


@dataclass(frozen=True)
class Request:
    """What ``chargen.train`` was asked to do; an option of ``asked`` that is None is left open.

    Raises ``UsageError`` for what can be refused without the corpus, which may take long to read.
    """

    sources: Sequence[PathLike]
    text: str | None
    output: PathLike | None
    force: bool
    resume: bool
    asked: Mapping[str, Any]

    def __post_init__(self) -> None:
        asked = self.asked
        if bool(self.sources) == (self.text is not None):
            raise UsageError("name a corpus, or give its text: one of the two")
        if asked["patience"] is not None and asked["val_fraction"] == 0:
            raise UsageError(
                "--patience looks at held-out text, and --val-fraction 0 holds out none"
            )
        if self.resume and self.output is None:
            raise UsageError("resume needs the output that the run writes (-o/--output)")
        if asked["stride"] not in (None, 1) and asked["objective"] != "last" and not self.resume:
            raise UsageError(
                f"--stride {asked['stride']!r}: only --objective last reads windows; give it too"
            )
        training_config(self.training, model_config(self.architecture, 2, 1), 2)
        if self.output is not None and not self.force and not self.resume:
            check_vacant(self.output)

    @property
    def architecture(self) -> dict[str, Any]:
        return {name: self.asked[name] for name in _ARCHITECTURE}

    @property
    def training(self) -> dict[str, Any]:
        """The entries of ``TrainingConfig``, with a length in any case."""
        how = {name: self.asked[name] for name in TrainingConfig.__dataclass_fields__}
        if all(self.asked[name] is None for name in LENGTHS):
            how["budget"] = DEFAULT_BUDGET
        return how


@dataclass(frozen=True)
class Prepared:
    """All that a run needs.

    ``asked`` are the options that were given when it began and ``origin`` says how its corpus was
    read; ``start`` is the model to start from (fine-tuning), ``earlier`` the state to go on from,
    and ``written`` the model that this run has written before.
    """

    corpus: Corpus
    model: ModelConfig
    training: TrainingConfig
    asked: dict[str, Any]
    origin: dict[str, Any]
    start: Archive | None
    earlier: Checkpoint | None
    written: Archive | None

    @property
    def is_finished(self) -> bool:
        """Whether the run had come to its end before, and its model stands."""
        if self.written is None:
            return False
        if self.earlier is not None:
            return self.earlier.run.is_over
        return bool(self.written.training["completed"])


def prepare(request: Request, listener: Listener) -> Prepared:
    """Read the corpus and settle how it is trained.

    Raises ``UsageError``, ``TextError``, ``ModelFileError`` or ``RunError``.
    """
    earlier, start, architecture = None, None, request.architecture
    if request.resume and request.output is not None:
        earlier = earlier_run(request.output)
    init = request.asked["init"]
    if earlier is not None:
        check_options(request.asked, earlier)
    elif init is not None:
        start = read_archive(init, option="--init")
        architecture = _kept_architecture(architecture, start.model, init)
    listener(Stage("reading the corpus"))
    known = earlier or start
    corpus, origin = _read(request, earlier, None if known is None else known.vocabulary)
    size, notes = corpus.training_part.size, list[str]()
    if earlier is not None:
        check_corpus(corpus, origin["corpus_sha256"], earlier)
        model, before = earlier.model, earlier.training
        per_epoch = windows_of(corpus.training_part, before).steps_per_epoch
        training = lengthened(earlier.run, before, request.asked, per_epoch)
    else:
        # Sliding windows learn too slowly for a wide network.
        how = request.training
        seconds = None if how["objective"] == "last" else how["budget"]
        model = model_config(architecture, size, len(corpus.vocabulary), seconds)
        training, notes = training_config(how, model, size, fine_tuning=start is not None)
    _check_size(model, training)
    written = None
    if request.resume and not request.force and request.output is not None:
        written = check_output(request.output, model, training, origin["corpus_sha256"])
        if written is not None and earlier is None:
            per_epoch = windows_of(corpus.training_part, training).steps_per_epoch
            check_length(request.output, written, training, per_epoch)
    prepared = Prepared(
        corpus,
        model,
        training,
        dict(request.asked) if earlier is None else earlier.asked,
        origin,
        start,
        earlier,
        written,
    )
    if prepared.is_finished:
        return prepared
    if earlier is not None:
        notes = [f"going on from step {earlier.run.step:,} of {earlier.run.plan.steps:,}"]
    elif request.resume and request.output is not None:
        notes.append(f"no {state_path(request.output)} to go on from: the run begins")
    if not corpus.held_out_size and origin["val_fraction"] != 0:
        notes.append("too little text to hold any out: the last weights are kept")
    for note in notes:
        listener(Note(note))
    return prepared


def _read(
    request: Request, earlier: Checkpoint | None, known: Vocabulary | None
) -> tuple[Corpus, dict[str, Any]]:
    """The corpus, and how it was read: as before, where a run is resumed."""
    asked = request.asked if earlier is None else earlier.origin
    random_seed = request.asked["random_seed"] if earlier is None else earlier.training.random_seed
    reading: dict[str, Any] = {
        "tokens": asked["tokens"] or "char",
        "encoding": "utf-8" if asked["encoding"] is None else asked["encoding"],
        "lines": bool(asked["lines"]),
        "val_fraction": asked["val_fraction"],
    }
    output = request.output
    corpus = read_corpus(
        request.sources,
        text=request.text,
        random_seed=random_seed or 0,
        known=known,
        spool_folder=None if output is None else Path(output).absolute().parent,
        **reading,
    )
    if output is not None and os.path.realpath(output) in map(os.path.realpath, corpus.names):
        raise UsageError(
            f"{os.fspath(output)}: is read as a corpus too, and would be lost; name another output"
            " with -o/--output"
        )
    has_names = 0 < len(request.sources) <= _MOST_NAMES
    names = [os.fspath(source) for source in request.sources] if has_names else None
    origin = {"corpus": names, "corpus_sha256": corpus.sha256(), "init": asked["init"], **reading}
    return corpus, origin


def _check_size(model: ModelConfig, training: TrainingConfig) -> None:
    if largest_tensors(model, training) > LARGEST_FILE - _ZIP_AND_JSON:
        raise UsageError(
            f"{model.num_parameters:,} parameters are more than a model file and its state hold"
            f" ({LARGEST_FILE:,} bytes); try smaller --units, --layers or --embedding-dim"
        )


def _kept_architecture(asked: dict[str, Any], model: ModelConfig, init: str) -> dict[str, Any]:
    """The architecture of the model to start from; asking for another one is an error."""
    kept = {name: getattr(model, name) for name in asked}
    for name, value in asked.items():
        if value is not None and name != "dropout" and value != kept[name]:
            raise UsageError(
                f"{option_of(name)} {value!r}: {init} has {kept[name]!r}, and --init keeps its"
                " architecture; leave the option out"
            )
    if asked["dropout"] is not None:
        kept["dropout"] = asked["dropout"]
    return kept
