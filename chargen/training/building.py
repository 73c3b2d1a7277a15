"""A network that is ready to train: fresh, or with the weights of a model to start from."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from chargen.archive import Archive
from chargen.config import ModelConfig, TrainingConfig
from chargen.corpus import Corpus
from chargen.training.backend import has_gpu
from chargen.training.network import (
    TrainingNetwork,
    assign_tensors,
    build_network,
    expect_frequencies,
    tensors_of,
)
from chargen.training.schedule import WarmupCosine
from chargen.vocabulary import Vocabulary

__all__ = ["compiled", "initial_network"]

_ADAM_BETA_2 = 0.99
_CLIP_NORM = 1.0


def initial_network(
    corpus: Corpus, model: ModelConfig, random_seed: int, start: Archive | None
) -> keras.Sequential:
    """The stock network before its first step."""
    network = build_network(model, random_seed)
    if start is None:
        expect_frequencies(network, corpus.token_counts())
    else:
        assign_tensors(network, _grown(start, corpus.vocabulary, network))
    return network


def compiled(
    network: keras.Sequential, model_config: ModelConfig, config: TrainingConfig
) -> tuple[TrainingNetwork, WarmupCosine]:
    """The face that trains ``network``, and its learning rate, whose total is still to be set."""
    on_gpu = has_gpu()
    trainee = TrainingNetwork(
        network,
        model_config,
        config.batch_size,
        config.objective,
        "stock" if on_gpu else "kernels",
        config.precision,
    )
    schedule = WarmupCosine(config.learning_rate, total=1)
    trainee.compile(
        optimizer=keras.optimizers.Adam(schedule, beta_2=_ADAM_BETA_2, global_clipnorm=_CLIP_NORM),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,  # a sharded step compiles its parts; cuDNN's kernels cannot be
    )
    return trainee, schedule


def _grown(start: Archive, vocabulary: Vocabulary, network: keras.Sequential) -> dict[str, Any]:
    """Weights of a known model for a vocabulary that holds its own: what it knows is kept.

    A new character has fresh weights and the bias of the rarest known one.
    """
    tensors = start.tensors
    rows = np.searchsorted(vocabulary.characters, start.vocabulary.characters)
    grown: dict[str, Any] = {**tensors}
    fresh = tensors_of(network)
    for name in ("embedding", "head/kernel", "head/bias"):
        grown[name] = fresh[name]
    grown["embedding"][rows] = tensors["embedding"]
    grown["head/kernel"][:, rows] = tensors["head/kernel"]
    grown["head/bias"][:] = tensors["head/bias"].min()
    grown["head/bias"][rows] = tensors["head/bias"]
    return grown
