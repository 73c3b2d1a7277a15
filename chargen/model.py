"""`Model`, what a Python user holds: a trained network with its vocabulary.

    >>> model = chargen.load("chargen.keras")
    >>> model.generate("The quick ", length=100, random_seed=1)

It ties the rooms below together and knows nothing of the command line.
"""

from __future__ import annotations

import codecs
import os
import sys
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from chargen.archive import Archive, read_archive, write_archive
from chargen.config import SamplingConfig
from chargen.corpus import Tokens, encode_with, read_corpus
from chargen.engine import Engine
from chargen.errors import TextError, UsageError
from chargen.evaluation import Evaluation, evaluate
from chargen.generation import generate_tokens
from chargen.sampling import Sampler
from chargen.vocabulary import UnknownPolicy, Vocabulary

__all__ = ["DEFAULT_LENGTH", "Model", "load"]

DEFAULT_LENGTH = 500


def load(path: str | os.PathLike[str] = "chargen.keras") -> Model:
    """The model in the file at ``path``; raises ``ModelFileError`` if it holds none."""
    return Model(read_archive(path), Path(path))


class Model:
    """A trained model, ready to generate and to evaluate without TensorFlow."""

    def __init__(self, archive: Archive, path: Path | None = None) -> None:
        self.config = archive.model
        self.vocabulary: Vocabulary = archive.vocabulary
        self.training = archive.training
        self.history = archive.history
        self.path = path
        self._archive = archive

    def __repr__(self) -> str:
        config = self.config
        return (
            f"<chargen.Model {config.cell} {config.num_layers} x {config.units},"
            f" {config.num_parameters:,} parameters, {len(self.vocabulary)} characters>"
        )

    @cached_property
    def engine(self) -> Engine:
        return Engine(self.config, self._archive.tensors)

    @property
    def window(self) -> int | None:
        """The rolling window of a model trained on windows; None where state is carried."""
        if self.training.get("objective") != "last":
            return None
        return int(self.training["sequence_length"])

    def tokens(
        self,
        prompt: str | bytes = "",
        *,
        sampling: SamplingConfig | None = None,
        random_seed: int | None = None,
        unknown: UnknownPolicy = "error",
    ) -> Iterator[int]:
        """Endless indices after ``prompt``; the same random seed gives the same ones.

        Without a prompt the model starts after a line break, from zero state.
        """
        indices = self.vocabulary.encode(prompt, unknown=unknown, what="the seed")
        if not indices.size and self.vocabulary.line_break is not None:
            indices = np.array([self.vocabulary.line_break], np.int32)
        sampler = Sampler(sampling or SamplingConfig(), np.random.default_rng(random_seed))
        return generate_tokens(self.engine, indices, sampler, window=self.window)

    def stream(
        self,
        prompt: str = "",
        *,
        length: int | None = DEFAULT_LENGTH,
        temperature: float = SamplingConfig.temperature,
        random_seed: int | None = None,
        unknown: UnknownPolicy = "error",
    ) -> Iterator[str]:
        """The new characters one by one, ``length`` of them (None: without end).

        A byte model counts bytes; a character of several bytes comes with its last one.
        """
        _check_length(length)
        tokens = self.tokens(
            prompt,
            sampling=SamplingConfig(temperature),
            random_seed=random_seed,
            unknown=unknown,
        )
        if self.vocabulary.kind == "char":
            characters = [chr(point) for point in self.vocabulary.characters]
            return (characters[token] for token in islice(tokens, length))
        pieces = (bytes((token,)) for token in islice(tokens, length))
        return codecs.iterdecode(pieces, "utf-8", "replace")

    def generate(
        self,
        prompt: str = "",
        *,
        length: int = DEFAULT_LENGTH,
        temperature: float = SamplingConfig.temperature,
        random_seed: int | None = None,
        unknown: UnknownPolicy = "error",
    ) -> str:
        """``length`` new characters after ``prompt``, without it. Temperature 0 is greedy."""
        if length is None:
            raise UsageError("length None never ends: use Model.stream")
        return "".join(
            self.stream(
                prompt,
                length=length,
                temperature=temperature,
                random_seed=random_seed,
                unknown=unknown,
            )
        )

    def evaluate(self, text: str | bytes, *, unknown: UnknownPolicy = "error") -> Evaluation:
        """How well the model expects ``text``; see ``chargen.evaluation`` for the definition."""
        tokens, skipped = encode_with([text], self.vocabulary, unknown=unknown)
        return self.evaluate_tokens(tokens, skipped=skipped)

    def evaluate_tokens(self, tokens: Tokens, *, skipped: int = 0) -> Evaluation:
        """The figure of text that is already encoded with this model's vocabulary."""
        if tokens.size < 2:
            raise TextError(
                f"the text holds {tokens.size} known character(s); a figure needs at least 2"
            )
        found = evaluate(self.engine, tokens, window=self.window)
        return Evaluation(found.nats, found.hits, found.characters, skipped)

    def held_out_part(self, corpus: Sequence[str | os.PathLike[str]]) -> Tokens:
        """The part of its own corpus that was held out when this model was trained."""
        recorded = self.training
        read = read_corpus(
            corpus,
            tokens=self.vocabulary.kind,
            encoding=recorded["encoding"],
            lines=recorded["lines"],
            val_fraction=recorded["val_fraction"],
            random_seed=recorded["random_seed"],
            known=self.vocabulary,
        )
        if read.vocabulary != self.vocabulary or read.training_part.size != recorded["characters"]:
            raise TextError(
                "this is not the corpus that the model was trained on: its length or its characters"
                " differ; leave --held-out out to measure the whole text"
            )
        return read.held_out_part

    def info(self) -> dict[str, Any]:
        """Everything the file says about the model, as plain values."""
        return {
            "path": None if self.path is None else str(self.path),
            "model": self.config.to_dict(),
            "parameters": self.config.num_parameters,
            "vocabulary": self.vocabulary.to_dict(),
            "training": self.training,
            "history": self.history,
        }

    def save(self, path: str | os.PathLike[str], *, force: bool = False) -> None:
        """Write the model to ``path``; one that exists is overwritten only with ``force``."""
        if Path(path).exists() and not force:
            raise UsageError(f"{os.fspath(path)}: exists; force=True overwrites it")
        write_archive(path, self._archive)
        self.path = Path(path)


def _check_length(length: int | None) -> None:
    if length is not None and (type(length) is not int or not 0 <= length <= sys.maxsize):
        raise UsageError(f"length {length!r}: expected a whole number of 0 or more (-n/--length)")
