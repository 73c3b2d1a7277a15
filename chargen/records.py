"""What the parts of a model file must say before anything believes them.

The Keras config must describe the very network of our `ModelConfig`, in stock layers and nothing
else, so that Keras and the NumPy engine compute the same function and no class of a stranger is
ever named; the training record must have the entries that other rooms read; the HDF5 structure
must give each weight the place where our index has it. This room knows nothing of files.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

from chargen.config import ModelConfig, TrainingConfig
from chargen.errors import ModelFileError
from chargen.hdf5 import read_datasets

__all__ = [
    "check_history",
    "check_keras_config",
    "check_origin",
    "check_training_record",
    "check_weight_index",
    "weight_index",
    "weight_paths",
]

_RECURRENT = {"rnn": "SimpleRNN", "lstm": "LSTM", "gru": "GRU"}
_GROUPS = {"rnn": "simple_rnn", "lstm": "lstm", "gru": "gru"}
_STOCK_CLASSES = {
    *("Sequential", "InputLayer", "Embedding", "SimpleRNN", "LSTM", "GRU", "Dropout", "Dense"),
    *("DTypePolicy", "RandomNormal", "GlorotUniform", "Orthogonal", "Zeros"),
}
_NUMBER = (int, float)
_ORIGIN = {
    "corpus": (list, type(None)),
    "corpus_sha256": (str,),
    "tokens": (str,),
    "encoding": (str,),
    "lines": (bool,),
    "val_fraction": (*_NUMBER, type(None)),
    "init": (str, type(None)),
}
_RECORD = {
    "characters": (int,),
    "best_step": (int,),
    "completed": (bool,),
    "as_planned": (bool,),
    "held_out": (dict, type(None)),
}
_POINT = {"step", "loss", "learning_rate", "bits_per_char"}
_FIGURES = {"bits_per_char", "nats_per_char", "perplexity", "accuracy", "characters", "skipped"}
_LARGEST_LOSS = 1e40  # of float32 numbers: sums and differences of many stay finite
_SHA256 = re.compile("[0-9a-f]{64}")


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
    if config.get("class_name") != "Sequential" or _text(facts) != _text(_expected_layers(model)):
        raise ModelFileError("its Keras config and its chargen config are of different models")


def _text(facts: Any) -> str:
    """``facts`` as JSON: unlike for ``==``, 1, 1.0 and true are not the same there."""
    return json.dumps(facts, sort_keys=True)


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


def weight_paths(model: ModelConfig) -> dict[str, str]:
    """The HDF5 path of each tensor of ``model.tensor_shapes`` in the file that Keras writes.

    Keras names the group of a layer after its class, in snake case, and numbers those that repeat;
    the weights of a layer are numbered in the order in which it makes them.
    """
    paths = {"embedding": "layers/embedding/vars/0"}
    for layer in range(model.num_layers):
        cell = f"layers/{_GROUPS[model.cell]}{f'_{layer}' if layer else ''}/cell"
        for number, part in enumerate(("kernel", "recurrent_kernel", "bias")):
            paths[f"recurrent_{layer + 1}/{part}"] = f"{cell}/vars/{number}"
    return {**paths, "head/kernel": "layers/dense/vars/0", "head/bias": "layers/dense/vars/1"}


def weight_index(weights: bytes, model: ModelConfig) -> dict[str, tuple[int, tuple[int, ...]]]:
    """Offset and shape of each tensor of ``model``, as the HDF5 structure of ``weights`` has them.

    Raises ``ModelFileError`` where the structure cannot be read, a tensor is missing or of another
    shape or dtype, or where there are more floats than those of the model.
    """
    try:
        datasets = read_datasets(weights)
    except ValueError as error:
        raise ModelFileError(f"its weights are not HDF5 as Keras writes it: {error}") from None
    index = {}
    for name, path in weight_paths(model).items():
        dataset, shape = datasets.pop(path, None), model.tensor_shapes[name]
        if dataset is None:
            raise ModelFileError(f"its weights have no dataset {path} for tensor {name}")
        if (dataset.shape, dataset.dtype) != (shape, "float32"):
            raise ModelFileError(
                f"its dataset {path} is {dataset.dtype} of shape {dataset.shape}, where tensor"
                f" {name} is float32 of shape {shape}"
            )
        index[name] = (dataset.offset, shape)
    for path, dataset in datasets.items():
        if dataset.dtype.startswith("float"):
            raise ModelFileError(f"its weights have a dataset {path!r} that is not of its model")
    return index


def check_weight_index(
    weights: bytes, model: ModelConfig, offsets: Mapping[str, tuple[int, tuple[int, ...]]]
) -> None:
    """Raise ``ModelFileError`` unless Keras finds the weights where ``offsets`` has them.

    ``offsets`` is our own index: offset in ``weights`` and shape of each tensor, all float32. Keras
    reads by the HDF5 structure and the engine by the index, so they must be of one mind.
    """
    index = weight_index(weights, model)
    if set(offsets) != set(index):
        raise ModelFileError("its list of tensors is not that of its architecture")
    for name, place in index.items():
        if offsets[name] != place:
            raise ModelFileError(
                f"its index has tensor {name} at byte {offsets[name][0]} of shape"
                f" {offsets[name][1]}, its HDF5 structure at byte {place[0]} of shape {place[1]}"
            )


def check_origin(origin: Mapping[str, Any]) -> None:
    """Raise ``ModelFileError`` unless ``origin`` says how a corpus was read."""
    _check_kinds(origin, _ORIGIN)
    if set(origin) != set(_ORIGIN):
        raise ModelFileError("its training record has an unknown entry")
    if not all(isinstance(name, str) for name in origin["corpus"] or ()):
        raise ModelFileError("its training entry 'corpus' is no list of names")
    if not _SHA256.fullmatch(origin["corpus_sha256"]) or origin["tokens"] not in ("char", "byte"):
        raise ModelFileError("its training entries 'corpus_sha256' and 'tokens' say nothing known")
    if not 0 <= (origin["val_fraction"] or 0) < 1:
        raise ModelFileError("its training entry 'val_fraction' is no part of a text")


def check_history(history: Sequence[Any]) -> None:
    """Raise ``ModelFileError`` unless ``history`` is a list of points of numbers."""
    if not all(
        isinstance(point, dict)
        and {"step", "loss", "learning_rate"} <= set(point) <= _POINT
        and _is_count(point["step"])
        and all(_is_finite(value, _LARGEST_LOSS) for value in point.values())
        for point in history
    ):
        raise ModelFileError("its history is no list of points of numbers")


def check_training_record(training: Mapping[str, Any], history: Sequence[Any]) -> None:
    """Raise ``ModelFileError`` or ``UsageError`` unless both hold what a run records, and no
    more."""
    names = {field.name for field in fields(TrainingConfig)}
    if not set(training) <= names | set(_ORIGIN) | set(_RECORD):
        raise ModelFileError("its training record has an unknown entry")
    TrainingConfig.from_dict({name: value for name, value in training.items() if name in names})
    check_origin({name: value for name, value in training.items() if name in _ORIGIN})
    _check_kinds(training, _RECORD)
    if not _is_count(training["characters"]) or not _is_count(training["best_step"]):
        raise ModelFileError("its training record counts less than nothing")
    if training["held_out"] is not None:
        _check_figures(training["held_out"])
    if not history:
        raise ModelFileError("its history is empty")
    check_history(history)


def _check_figures(figures: Mapping[str, Any]) -> None:
    if set(figures) != _FIGURES or not all(map(_is_finite, figures.values())):
        raise ModelFileError("its held-out figures are not numbers")
    if not _is_count(figures["characters"]) or not _is_count(figures["skipped"]):
        raise ModelFileError("its held-out figures count less than nothing")


def _check_kinds(values: Mapping[str, Any], expected: Mapping[str, tuple[type, ...]]) -> None:
    for name, kinds in expected.items():
        if type(values.get(name, ...)) not in kinds:
            raise ModelFileError(f"its training entry {name!r} is missing or of the wrong kind")


def _is_finite(value: Any, most: float = sys.float_info.max) -> bool:
    return type(value) in _NUMBER and abs(value) <= most


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0
