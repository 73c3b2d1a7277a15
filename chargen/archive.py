"""The model file: a stock ``.keras`` archive, read back without TensorFlow or an HDF5 library.

Three members, all stored: ``metadata.json``, ``config.json``, ``model.weights.h5``. What is ours
stands in the metadata under ``"chargen"``: the vocabulary, the configs, the history and, for each
tensor, its offset, shape and dtype in the weights member, with that member's sha256. Keras writes
datasets contiguous and uncompressed, so they are read in place. The JSON is read and checked first,
and the weights may then be no larger than it says; nothing is executed. ``container`` holds the
rules of the zip file and of tensors, ``records`` those of the JSON. This room knows nothing of
training.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.config import ModelConfig
from chargen.container import (
    LARGEST_JSON,
    Damaged,
    Foreign,
    TensorEntry,
    check_format,
    json_object,
    opened,
    packed,
    tensors_in,
    typed,
)
from chargen.errors import ChargenError, ModelFileError, RunError
from chargen.files import write_atomically
from chargen.records import check_keras_config, check_training_record, check_weight_index
from chargen.vocabulary import Vocabulary

__all__ = [
    "Archive",
    "build_archive",
    "largest_weights",
    "read_archive",
    "revised_archive",
    "verify_archive",
    "vocabulary_from",
    "write_archive",
]

FORMAT = 1

_METADATA, _CONFIG, _WEIGHTS = "metadata.json", "config.json", "model.weights.h5"
_HDF5_STRUCTURE = 1 << 17  # bytes of the weights member that are no numbers, at most
_LARGEST_CONFIG = 1 << 18  # bytes: sixteen layers take 30,000


@dataclass(frozen=True)
class Archive:
    """What a model file holds: its ``members`` as they are, and what they say.

    ``training`` and ``history`` are plain JSON values; the tensors are views into the weights.
    """

    members: dict[str, bytes]
    model: ModelConfig
    vocabulary: Vocabulary
    training: dict[str, Any]
    history: list[dict[str, float]]
    tensors: dict[str, NDArray[np.float32]]


def largest_weights(model: ModelConfig) -> int:
    """The most bytes that the weights member of ``model`` may have."""
    return 4 * model.num_parameters + _HDF5_STRUCTURE


def read_archive(path: str | os.PathLike[str], *, option: str = "-m/--model") -> Archive:
    """The model at ``path``, which ``option`` names, every part of it checked.

    Raises ``ModelFileError`` in one line for a file that is missing, damaged, foreign, or of a
    format from the future; ``RunError`` where it cannot be read.
    """
    name = os.fspath(path)
    try:
        with opened(name, (_METADATA, _CONFIG, _WEIGHTS)) as file:
            return _parse(file.read)
    except (FileNotFoundError, NotADirectoryError):
        raise ModelFileError(
            f"{name}: no model here; train one with: chargen train CORPUS -o {shlex.quote(name)}"
            f" (or name another with {option})"
        ) from None
    except IsADirectoryError:
        raise ModelFileError(
            f"{name}: a folder, not a model file; name another with {option}"
        ) from None
    except OSError as error:
        raise RunError(f"{name}: cannot be read: {error.strerror or error}") from error
    except Damaged as error:
        raise ModelFileError(
            f"{name}: a damaged model file: {error}; train or copy it again"
        ) from None
    except Foreign as error:
        raise ModelFileError(
            f"{name}: not a chargen model: {error}; expected a file written by chargen train"
        ) from None
    except ModelFileError as error:
        raise ModelFileError(f"{name}: {error}") from None


def verify_archive(archive: Archive, path: str | os.PathLike[str] | None) -> None:
    """Hold what Keras would read of ``archive``, which was read from ``path``, against our index.

    Raises ``ModelFileError`` where the HDF5 structure of the weights cannot be read or disagrees.
    """
    index = json.loads(archive.members[_METADATA])["chargen"]["tensors"]
    offsets = {name: (entry["offset"], tuple(entry["shape"])) for name, entry in index.items()}
    try:
        check_weight_index(archive.members[_WEIGHTS], archive.model, offsets)
    except ModelFileError as error:
        raise ModelFileError(
            f"{path}: a damaged model file: {error}; train or copy it again"
        ) from None


def _parse(read: Callable[[str, int], bytes]) -> Archive:
    """The model of the members that ``read(name, limit)`` gives."""
    members = {_METADATA: read(_METADATA, LARGEST_JSON)}
    ours = json_object(members[_METADATA], _METADATA).get("chargen")
    if ours is None:
        raise _without_our_entry(read)
    members[_CONFIG] = read(_CONFIG, _LARGEST_CONFIG)
    keras_config = json_object(members[_CONFIG], _CONFIG)
    if not isinstance(ours, dict):
        raise Damaged("its 'chargen' entry is no object")
    check_format(ours, FORMAT, "model")
    training, history = typed(ours, "training", dict), typed(ours, "history", list)
    index = typed(ours, "tensors", dict)
    try:
        model = ModelConfig.from_dict(typed(ours, "model", dict))
        vocabulary = vocabulary_from(typed(ours, "vocabulary", dict))
        check_training_record(training, history)
        check_keras_config(keras_config, model)
    except ChargenError as error:
        raise Damaged(str(error)) from None
    if len(vocabulary) != model.vocabulary_size:
        raise Damaged(
            f"a vocabulary of {len(vocabulary)}, a model for {model.vocabulary_size} characters"
        )
    if vocabulary.kind != training["tokens"]:
        raise Damaged(f"a vocabulary of {vocabulary.kind}s, trained on {training['tokens']}s")
    if set(index) != set(model.tensor_shapes):
        raise Damaged("its list of tensors is not that of its architecture")
    for name, shape in model.tensor_shapes.items():
        if not isinstance(index[name], dict) or index[name].get("dtype") != "float32":
            raise Damaged(f"tensor {name} is not of a known dtype")
        if index[name].get("shape") != list(shape):
            raise Damaged(f"tensor {name} has another shape than its architecture")
    members[_WEIGHTS] = weights = read(_WEIGHTS, largest_weights(model))
    if hashlib.sha256(weights).hexdigest() != ours.get("weights_sha256"):
        raise Damaged("the weights do not match their checksum")
    return Archive(members, model, vocabulary, training, history, tensors_in(weights, index))


def _without_our_entry(read: Callable[[str, int], bytes]) -> ModelFileError:
    try:
        network = json_object(read(_CONFIG, LARGEST_JSON), _CONFIG).get("config")
    except Damaged:  # of a network that is larger than any of ours
        network = None
    if isinstance(network, dict) and network.get("name") == "chargen":
        return ModelFileError(
            "a chargen model that Keras has saved again, which left its vocabulary out; use the"
            " file that chargen wrote, or train again with: chargen train CORPUS"
        )
    return ModelFileError(
        "not a chargen model: Keras wrote it, and its metadata holds no vocabulary of chargen's;"
        " train one with: chargen train CORPUS"
    )


def vocabulary_from(values: Mapping[str, Any]) -> Vocabulary:
    """The vocabulary of ``Vocabulary.to_dict``'s plain values."""
    if values == {"kind": "byte"}:
        return Vocabulary.of_bytes()
    characters = values.get("characters")
    if set(values) != {"kind", "characters"} or values["kind"] != "char":
        raise Damaged("its vocabulary is of no known kind")
    if not isinstance(characters, list) or not all(
        isinstance(character, str) and len(character) == 1 for character in characters
    ):
        raise Damaged("its vocabulary is no list of single characters")
    return Vocabulary("char", tuple(map(ord, characters)))


def build_archive(
    *,
    model: ModelConfig,
    vocabulary: Vocabulary,
    training: Mapping[str, Any],
    history: list[dict[str, float]],
    keras_version: str,
    keras_config: Mapping[str, Any],
    weights: bytes,
    entries: Mapping[str, TensorEntry],
) -> Archive:
    """An archive of what Keras made of a network (``keras_config``, ``weights``) and what is ours.

    ``entries`` say where in ``weights`` each tensor lies. It passes every check of the reader, so
    that nothing is ever written which could not be read back; else ``RunError``.
    """
    ours = {
        "format": FORMAT,
        "vocabulary": vocabulary.to_dict(),
        "model": model.to_dict(),
        "training": dict(training),
        "history": history,
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "tensors": {name: entry.to_dict() for name, entry in entries.items()},
    }
    metadata = {"keras_version": keras_version, "chargen": ours}
    return _checked(
        {
            _METADATA: json.dumps(metadata).encode(),
            _CONFIG: json.dumps(keras_config).encode(),
            _WEIGHTS: weights,
        }
    )


def revised_archive(
    archive: Archive,
    tensors: Mapping[str, NDArray[np.float32]],
    training: Mapping[str, Any],
    history: list[dict[str, float]],
) -> Archive:
    """``archive`` with other weights and another record: the same bytes as ``build_archive`` of a
    network with those weights, without Keras. Raises ``RunError`` as it does."""
    metadata = json.loads(archive.members[_METADATA])
    ours = metadata["chargen"]
    weights = bytearray(archive.members[_WEIGHTS])
    for name, entry in ours["tensors"].items():
        data = np.ascontiguousarray(tensors[name], "<f4").tobytes()
        weights[entry["offset"] : entry["offset"] + len(data)] = data
    ours |= {
        "training": dict(training),
        "history": history,
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
    }
    return _checked(
        {**archive.members, _METADATA: json.dumps(metadata).encode(), _WEIGHTS: bytes(weights)}
    )


def _checked(members: Mapping[str, bytes]) -> Archive:
    def read(name: str, limit: int) -> bytes:
        if len(members[name]) > limit:
            raise Damaged(f"{name} is of {len(members[name])} bytes, more than it can have")
        return members[name]

    try:
        return _parse(read)
    except (Damaged, Foreign, ModelFileError) as error:
        raise RunError(f"the trained model cannot be kept: {error}") from None


def write_archive(
    path: str | os.PathLike[str],
    archive: Archive,
    *,
    outdated: str | os.PathLike[str] | None = None,
) -> None:
    """Write a model file whole or not at all: the file at ``path`` is the old or the new one.

    A file ``outdated`` by the new one goes as it comes. Raises ``RunError`` where the write fails.
    """
    write_atomically(path, packed(archive.members), outdated=outdated)
