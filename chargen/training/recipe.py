"""The defaults: what the user left open, chosen from the size of the corpus.

Knows nothing of Keras; every choice is arithmetic that can be read here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from chargen.config import ModelConfig, TrainingConfig
from chargen.windows import fitted_shape

__all__ = ["DEFAULT_BUDGET", "model_config", "most_epochs", "training_config"]

DEFAULT_BUDGET = 180.0

_SEQUENCE_LENGTH = 32
_MOST_STREAMS = 64
_LARGEST_LOGITS = 1 << 26  # numbers in a batch


def model_config(options: Mapping[str, Any], size: int, vocabulary_size: int) -> ModelConfig:
    """``options`` that are not None, and defaults for ``size`` training characters."""
    given = {name: value for name, value in options.items() if value is not None}
    defaults = {
        "units": 256 if size >= 1 << 15 else 128,
        "dropout": 0.0 if size < 1 << 12 else 0.5 if size < 1 << 18 else 0.1,
    }
    return ModelConfig(vocabulary_size=vocabulary_size, **{**defaults, **given})


def training_config(
    options: Mapping[str, Any], model: ModelConfig, size: int, *, fine_tuning: bool = False
) -> tuple[TrainingConfig, list[str]]:
    """``options`` that are not None, defaults for ``size`` training characters, and a note for
    each given value that a small corpus shrank."""
    given = {name: value for name, value in options.items() if value is not None}
    if not {"budget", "epochs", "steps"} & set(given):
        given["budget"] = DEFAULT_BUDGET
    sliding = given.get("objective") == "last"
    streams = given.get("batch_size", _streams_for(size, model.vocabulary_size))
    peak = 2e-3 if model.cell == "rnn" else 8e-3
    if not sliding:
        peak = round(peak * min(1.0, max(1, streams) / _MOST_STREAMS) ** (1 / 3), 4)
    defaults = {
        "batch_size": 128 if sliding else streams,
        "sequence_length": 40 if sliding else _SEQUENCE_LENGTH,
        "learning_rate": peak / 4 if fine_tuning else peak,
    }
    wanted = TrainingConfig(**{**defaults, **given})
    batch_size, sequence_length = fitted_shape(
        size, wanted.batch_size, wanted.sequence_length, sliding=sliding
    )
    notes = [
        f"{option} {given[name]} is more than this corpus fills: {fitted} is used"
        for name, option, fitted in (
            ("batch_size", "--batch-size", batch_size),
            ("sequence_length", "--sequence-length", sequence_length),
        )
        if name in given and fitted < given[name]
    ]
    fitted_config = dataclasses.replace(
        wanted, batch_size=batch_size, sequence_length=sequence_length
    )
    return fitted_config, notes


def most_epochs(size: int) -> float:
    """After so many epochs a time budget ends early: more would be learned by heart.

    A line through two corpora: of 40 epochs of 10 kB the 24th was best, and of about 19 epochs of
    68 kB one of the last. Larger corpora were not measured.
    """
    return 28 * (10_000 / size) ** 0.2


def _streams_for(size: int, vocabulary_size: int) -> int:
    """So many streams that an epoch of a small corpus still is a good number of steps, and that
    the logits of a very large vocabulary do not fill the memory."""
    streams = 4
    while (
        streams < _MOST_STREAMS
        and size >= 2 * streams * 2048
        and vocabulary_size <= _LARGEST_LOGITS // (2 * streams * _SEQUENCE_LENGTH)
    ):
        streams *= 2
    return streams
