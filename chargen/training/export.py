"""From a Keras network to the members of the model file.

Keras serialises to a path of its own; what it wrote is read back, and what differs from run to
run (object ids, times) is left out, so that the same run makes the same bytes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import h5py
import keras

from chargen.archive import Archive, TensorEntry, build_archive, read_keras_members
from chargen.config import ModelConfig
from chargen.training.network import named_variables
from chargen.vocabulary import Vocabulary

__all__ = ["export"]


def export(
    network: keras.Sequential,
    config: ModelConfig,
    vocabulary: Vocabulary,
    training: Mapping[str, Any],
    history: list[dict[str, float]],
) -> Archive:
    """The archive of a built, uncompiled stock ``network``."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.keras"
        network.save(path)
        keras_config, weights = read_keras_members(path)
    return build_archive(
        model=config,
        vocabulary=vocabulary,
        training=training,
        history=history,
        keras_version=keras.__version__,
        keras_config=_without_object_ids(keras_config),
        weights=weights,
        entries=_entries(network, weights),
    )


def _without_object_ids(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: _without_object_ids(item)
            for key, item in value.items()
            if key not in ("shared_object_id", "compile_config")
        }
    if isinstance(value, list):
        return [_without_object_ids(item) for item in value]
    return value


def _entries(network: keras.Sequential, weights: bytes) -> dict[str, TensorEntry]:
    """Where each weight lies: Keras names a layer's group after its class and counts them."""
    found = {}
    with h5py.File(BytesIO(weights), "r") as file:
        groups = {
            group["vars"].attrs["name"]: group["cell/vars"] if "cell" in group else group["vars"]
            for group in file["layers"].values()
        }
        for name in named_variables(network):
            layer, _, part = name.partition("/")
            number = {"recurrent_kernel": 1, "bias": 2 if layer != "head" else 1}.get(part, 0)
            dataset = groups[layer][str(number)]
            found[name] = TensorEntry(dataset.id.get_offset(), tuple(dataset.shape))
    return found
