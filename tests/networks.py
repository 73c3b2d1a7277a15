"""Small networks for the tests: weights from NumPy, and the stock Keras network that holds them."""

from typing import Any

import numpy as np
import pytest

from chargen.config import CELLS, ModelConfig
from chargen.engine import Engine

every_cell = pytest.mark.parametrize("cell", CELLS)
every_depth = pytest.mark.parametrize("num_layers", (1, 2, 3))


def small_config(cell: str, num_layers: int = 1, **changes: Any) -> ModelConfig:
    sizes = {"vocabulary_size": 11, "units": 7, "embedding_dim": 5}
    return ModelConfig(cell=cell, num_layers=num_layers, **{**sizes, **changes})


def random_tensors(config: ModelConfig, seed: int = 0, scale: float = 0.5) -> dict[str, Any]:
    """Normal weights, biases too, none of them zero."""
    rng = np.random.default_rng(seed)
    return {
        name: rng.normal(0, scale, shape).astype(np.float32)
        for name, shape in config.tensor_shapes.items()
    }


def random_engine(config: ModelConfig, seed: int = 0, scale: float = 0.5) -> Engine:
    return Engine(config, random_tensors(config, seed, scale))


def fixed_engine(logits: list[float], cell: str = "rnn") -> Engine:
    """An engine that expects the same of every text: its weights are zero but the head's bias."""
    config = small_config(cell, vocabulary_size=len(logits))
    tensors = {name: np.zeros(shape, np.float32) for name, shape in config.tensor_shapes.items()}
    return Engine(config, {**tensors, "head/bias": np.array(logits, np.float32)})


def random_tokens(config: ModelConfig, *shape: int, seed: int = 1) -> Any:
    return np.random.default_rng(seed).integers(config.vocabulary_size, size=shape, dtype=np.int32)


def stock_network(config: ModelConfig, tensors: dict[str, Any] | None = None) -> Any:
    """The stock Sequential of ``config``, with ``tensors`` or with the weights it is born with."""
    from chargen.training.backend import ensure_backend

    ensure_backend()
    from chargen.training.network import build_network, named_variables

    network = build_network(config)
    for name, value in (tensors or {}).items():
        named_variables(network)[name].assign(value)
    return network


def stock_logits(network: Any, tokens: Any) -> Any:
    """Logits (T, B, V) that stock Keras gives for tokens (T, B), from zero state."""
    return np.asarray(network(np.ascontiguousarray(tokens.T))).transpose(1, 0, 2)


def tensors_of(network: Any) -> dict[str, Any]:
    from chargen.training.network import named_variables

    variables = named_variables(network)
    return {name: np.asarray(variable).copy() for name, variable in variables.items()}


def log_softmax(logits: Any) -> Any:
    """Log-probabilities (..., V) of logits (..., V)."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
