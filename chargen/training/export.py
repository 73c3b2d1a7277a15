"""From a Keras network to the members of the model file.

Keras serialises weights to a path of its own; what it wrote is read back, and what differs from
run to run (object ids) is left out, so that the same run makes the same bytes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import keras

from chargen.archive import Archive, build_archive, largest_weights
from chargen.config import ModelConfig
from chargen.container import TensorEntry
from chargen.errors import ModelFileError, RunError
from chargen.files import scratch_folder
from chargen.records import weight_index
from chargen.vocabulary import Vocabulary

__all__ = ["export"]


def export(
    network: keras.Sequential,
    config: ModelConfig,
    vocabulary: Vocabulary,
    training: Mapping[str, Any],
    history: list[dict[str, float]],
    output: str | os.PathLike[str] | None = None,
) -> Archive:
    """The archive of a built, uncompiled stock ``network``.

    Keras writes beside ``output``, or in the system's temporary folder, and nothing of it stays.
    Raises ``RunError`` where it cannot, or where what it wrote could not be read back.
    """
    try:
        with scratch_folder(output, largest_weights(config)) as folder:
            path = folder / "network.weights.h5"  # as Keras puts it into a ``.keras`` file
            network.save_weights(path)
            weights = path.read_bytes()
        index = weight_index(weights, config)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        where = "the temporary folder" if output is None else os.fspath(output)
        raise RunError(
            f"{where}: cannot be written: {reason}; name another place with -o/--output"
        ) from error
    except ModelFileError as error:
        raise RunError(f"the trained model cannot be kept: {error}") from None
    return build_archive(
        model=config,
        vocabulary=vocabulary,
        training=training,
        history=history,
        keras_version=keras.__version__,
        keras_config=_without_object_ids(keras.saving.serialize_keras_object(network)),
        weights=weights,
        entries={name: TensorEntry(offset, shape) for name, (offset, shape) in index.items()},
    )


def _without_object_ids(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: _without_object_ids(item)
            for key, item in value.items()
            if key not in ("shared_object_id", "compile_config")
        }
    if isinstance(value, list | tuple):
        return [_without_object_ids(item) for item in value]
    return value
