"""The defaults: what the user left open, chosen from the size of the corpus.

Knows nothing of Keras; every choice is arithmetic that can be read here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from chargen.config import ModelConfig, TrainingConfig
from chargen.training.precision import automatic_precision
from chargen.windows import fitted_shape

__all__ = ["DEFAULT_BUDGET", "MOST_EPOCHS", "model_config", "training_config"]

DEFAULT_BUDGET = 180.0

# After so many a time budget ends early: more would be learned by heart. The best weights came
# after 9 epochs of 10 kB (of 12), 8 of 68 kB (of 11), 10 of 205 kB of names (of 13).
MOST_EPOCHS = 11

_SEQUENCE_LENGTH = 32
_MOST_STREAMS = 64
_LARGE = 1 << 18  # characters
_WIDE_SECONDS = 150.0  # from this budget on a large text is worth twice the units
_LARGEST_LOGITS = 1 << 26  # numbers in a batch


def model_config(
    options: Mapping[str, Any], size: int, vocabulary_size: int, budget: float | None = None
) -> ModelConfig:
    """``options`` that are not None, and defaults for ``size`` training characters and
    ``budget`` seconds (None: the run is measured in steps)."""
    given = {name: value for name, value in options.items() if value is not None}
    wide = size >= _LARGE and budget is not None and budget >= _WIDE_SECONDS
    defaults = {
        "units": 512 if wide else 256 if size >= 1 << 15 else 128,
        "dropout": _dropout(size, budget),
    }
    return ModelConfig(vocabulary_size=vocabulary_size, **{**defaults, **given})


def _dropout(size: int, budget: float | None) -> float:
    """More where the text is read more often; on tiny Shakespeare (1 MB) 0.1 was best of 0.1 to
    0.3 for 100 s of 256 units, 0.4 good for 300 s of 512 units."""
    if size < 1 << 12:
        return 0.0
    if size < _LARGE:
        return 0.5
    seconds_per_million = (DEFAULT_BUDGET if budget is None else budget) / (size / 1e6)
    steps = ((50, 0.0), (150, 0.1), (240, 0.3), (500, 0.4))
    return next((share for below, share in steps if seconds_per_million < below), 0.5)


def training_config(
    options: Mapping[str, Any], model: ModelConfig, size: int, *, fine_tuning: bool = False
) -> tuple[TrainingConfig, list[str]]:
    """``options`` that are not None, defaults for ``size`` training characters, and a note for
    each given value that a small corpus shrank."""
    given = {name: value for name, value in options.items() if value is not None}
    sliding = given.get("objective") == "last"
    streams = given.get("batch_size", _streams_for(size, model.vocabulary_size))
    peak = 2e-3 if model.cell == "rnn" else 1e-2
    if not sliding:
        peak = round(peak * min(1.0, max(1, streams) / _MOST_STREAMS) ** (1 / 3), 4)
    defaults = {
        "batch_size": 128 if sliding else streams,
        "sequence_length": 40 if sliding else _SEQUENCE_LENGTH,
        "learning_rate": peak / 4 if fine_tuning else peak,
        "precision": automatic_precision(model, streams),
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
