"""What the JSON parts of a model file must say before anything believes them.

The Keras config must describe the very network of our `ModelConfig`, in stock layers and nothing
else, so that Keras and the NumPy engine compute the same function and no class of a stranger is
ever named; the training record must have the entries that other rooms read. This room knows
nothing of files.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

from chargen.config import ModelConfig, TrainingConfig
from chargen.errors import ModelFileError

__all__ = ["check_keras_config", "check_training_record"]

_RECURRENT = {"rnn": "SimpleRNN", "lstm": "LSTM", "gru": "GRU"}
_STOCK_CLASSES = {
    *("Sequential", "InputLayer", "Embedding", "SimpleRNN", "LSTM", "GRU", "Dropout", "Dense"),
    *("DTypePolicy", "RandomNormal", "GlorotUniform", "Orthogonal", "Zeros"),
}
_NUMBER = (int, float)
_RECORD = {
    "corpus": (list, type(None)),
    "tokens": (str,),
    "encoding": (str,),
    "lines": (bool,),
    "val_fraction": (*_NUMBER, type(None)),
    "init": (str, type(None)),
    "characters": (int,),
    "best_step": (int,),
    "completed": (bool,),
    "held_out": (dict, type(None)),
}
_FIGURES = ("bits_per_char", "nats_per_char", "perplexity", "accuracy", "characters", "skipped")


def check_keras_config(config: Mapping[str, Any], model: ModelConfig) -> None:
    """Raise ``ModelFileError`` unless ``config`` is the stock network of ``model``."""
    try:
        layers = [(layer["class_name"], layer["config"]) for layer in config["config"]["layers"]]
        named = list(_named_classes(config))
        facts = [
            (name, {key: values[key] for key in fact})
            for (name, values), (_, fact) in zip(layers, _expected_layers(model), strict=True)
        ]
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ModelFileError("its Keras config is not that of its architecture") from None
    if any(
        not isinstance(name, str)
        or name not in _STOCK_CLASSES
        or module not in ("keras", "keras.layers", "keras.initializers")
        for name, module in named
    ):
        raise ModelFileError("its Keras config names something else than stock layers")
    if config.get("class_name") != "Sequential" or facts != _expected_layers(model):
        raise ModelFileError("its Keras config and its chargen config are of different models")


def _named_classes(value: Any) -> Iterator[tuple[Any, Any]]:
    """Each class that a config names, with its module."""
    if isinstance(value, dict):
        if "class_name" in value:
            yield value["class_name"], value.get("module")
        for item in value.values():
            yield from _named_classes(item)
    elif isinstance(value, list):
        for item in value:
            yield from _named_classes(item)


def _expected_layers(model: ModelConfig) -> list[tuple[str, dict[str, Any]]]:
    """Class and, of its config, what decides what the layer computes."""
    layers: list[tuple[str, dict[str, Any]]] = [
        ("InputLayer", {"batch_shape": [None, None], "dtype": "int32"}),
        (
            "Embedding",
            {
                "input_dim": model.vocabulary_size,
                "output_dim": model.embedding_dim,
                "mask_zero": False,
                "dtype": _FLOAT32,
            },
        ),
    ]
    recurrent = {
        "units": model.units,
        "activation": "tanh",
        "use_bias": True,
        "return_sequences": True,
        "return_state": False,
        "go_backwards": False,
        "stateful": False,
        "dropout": 0.0,
        "recurrent_dropout": 0.0,
        "dtype": _FLOAT32,
    }
    if model.cell != "rnn":
        recurrent["recurrent_activation"] = "sigmoid"
    if model.cell == "gru":
        recurrent["reset_after"] = True
    for _ in range(model.num_layers):
        layers.append((_RECURRENT[model.cell], recurrent))
        if model.dropout:
            layers.append(("Dropout", {"rate": model.dropout, "dtype": _FLOAT32}))
    dense = {
        "units": model.vocabulary_size,
        "activation": "linear",
        "use_bias": True,
        "dtype": _FLOAT32,
    }
    return [*layers, ("Dense", dense)]


_FLOAT32 = {
    "module": "keras",
    "class_name": "DTypePolicy",
    "config": {"name": "float32"},
    "registered_name": None,
}


def check_training_record(training: Mapping[str, Any], history: Sequence[Any]) -> None:
    """Raise ``ModelFileError`` or ``UsageError`` unless both hold what a run records."""
    names = {field.name for field in fields(TrainingConfig)}
    TrainingConfig.from_dict({name: value for name, value in training.items() if name in names})
    for name, kinds in _RECORD.items():
        if type(training.get(name, ...)) not in kinds:
            raise ModelFileError(f"its training entry {name!r} is missing or of the wrong kind")
    if not all(isinstance(name, str) for name in training["corpus"] or ()):
        raise ModelFileError("its training entry 'corpus' is no list of names")
    held_out = training["held_out"]
    if held_out is not None and not all(_is_finite(held_out.get(name)) for name in _FIGURES):
        raise ModelFileError("its held-out figures are not numbers")
    if not history or not all(
        isinstance(point, dict)
        and {"step", "loss"} <= set(point) <= {"step", "loss", "bits_per_char"}
        and all(map(_is_finite, point.values()))
        for point in history
    ):
        raise ModelFileError("its history is no list of points of numbers")


def _is_finite(value: Any) -> bool:
    return type(value) in _NUMBER and abs(value) < 1e300 and math.isfinite(value)
