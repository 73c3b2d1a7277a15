"""The text that a report is about: one that is given, or the best that a model itself leads to.

That is the part of its corpus that was held out; or the corpus, where none was; or, where that is
not to be had, a text that the model writes. This room measures nothing.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

from chargen.config import SamplingConfig
from chargen.corpus import Corpus, Tokens
from chargen.errors import ChargenError
from chargen.generation import StopRules
from chargen.model import Model
from chargen.reading import STDIN, expand_sources
from chargen.report.page import cut

__all__ = ["Subject", "own_corpus", "own_subject"]

_LARGEST_CORPUS = 100_000_000  # bytes that are read again without being asked for
_LONGEST_NAME = 200  # characters
_WRITTEN = 3000  # tokens
_TEMPERATURE, _RANDOM_SEED = 0.8, 0


@dataclass(frozen=True)
class Subject:
    """``tokens`` (N,) of what is called ``name``, and whatever must be told of where they are
    from; ``skipped`` unknown characters were left out of them."""

    tokens: Tokens
    name: str
    origin: str = ""
    skipped: int = 0


def own_corpus(model: Model) -> Corpus | None:
    """The corpus that a model was trained on, by its record; None where it cannot be read again,
    or differs, or came from a pipe, or is larger than 100 MB."""
    names = model.training["corpus"]
    if names is None or STDIN in names:
        return None
    try:
        files = expand_sources(names)
        if not all(map(os.path.isfile, files)):
            return None  # a pipe or a device would be waited for
        if sum(map(os.path.getsize, files)) > _LARGEST_CORPUS:
            return None
        return model.own_corpus(names)
    except (ChargenError, OSError):
        return None


def own_subject(model: Model, corpus: Corpus | None) -> Subject:
    """The text for a model of which nothing else is given; ``corpus`` is its own, or None."""
    if corpus is None:
        return _written(model)
    names = cut(" ".join(model.training["corpus"]), _LONGEST_NAME)
    if corpus.held_out_size:
        return Subject(
            corpus.held_out_part,
            f"the held-out part of {names}",
            "The model has not learned from it.",
        )
    return Subject(
        corpus.tokens,
        names,
        "The model has learned from it and nothing was held out, so the figures flatter the model.",
    )


def _written(model: Model) -> Subject:
    pieces = model.pieces(
        sampling=SamplingConfig(temperature=_TEMPERATURE),
        rules=StopRules(_WRITTEN),
        random_seed=_RANDOM_SEED,
    )
    return Subject(
        np.array([piece.token for piece in pieces], np.uint32),
        "a text of the model's own",
        f"The model wrote it at temperature {_TEMPERATURE}, because the corpus that it was trained"
        " on was not there any more as it was: the figures tell how sure the model is, not how"
        " good. --text FILE names another text.",
    )
