"""The model file: a stock ``.keras`` archive that is read back with ``zipfile`` and NumPy alone.

Three members, all stored: ``metadata.json``, ``config.json``, ``model.weights.h5``. What is ours
stands in the metadata under ``"chargen"``: the vocabulary, the configs, the history and, for each
tensor, its offset, shape and dtype in the weights member, with that member's sha256. Keras writes
datasets contiguous and uncompressed, so no HDF5 library is needed to read them; the rules are those
of safetensors: known dtype, in bounds, no overlap, size = product of shape × item size. Limits
are checked before anything is allocated, and nothing is executed. This room knows nothing of
training.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.config import ModelConfig
from chargen.errors import ChargenError, ModelFileError, RunError
from chargen.files import write_atomically
from chargen.records import check_keras_config, check_training_record
from chargen.vocabulary import Vocabulary

__all__ = [
    "Archive",
    "TensorEntry",
    "build_archive",
    "read_archive",
    "read_keras_members",
    "write_archive",
]

FORMAT = 1

_METADATA, _CONFIG, _WEIGHTS = "metadata.json", "config.json", "model.weights.h5"
_LARGEST_FILE = 1 << 34
_LARGEST_JSON = 1 << 22
_LARGEST_DIRECTORY = 1 << 12
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # fixed, so that the same run makes the same bytes
_LONGEST_REASON = 300


@dataclass(frozen=True)
class TensorEntry:
    """Where a little-endian float32 tensor lies in the weights member."""

    offset: int
    shape: tuple[int, ...]


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


def read_archive(path: str | os.PathLike[str]) -> Archive:
    """The model at ``path``, every part of it checked.

    Raises ``ModelFileError`` in one line for a file that is missing, damaged, foreign, or of a
    format from the future; ``RunError`` where it cannot be read.
    """
    name = os.fspath(path)
    try:
        with open(name, "rb") as file:
            if os.fstat(file.fileno()).st_size > _LARGEST_FILE:
                raise _foreign(f"it is larger than {_LARGEST_FILE:,} bytes")
            return _parse(_members(file.read(_LARGEST_FILE)))
    except FileNotFoundError:
        raise ModelFileError(
            f"{name}: no model here; train one with: chargen train CORPUS -o {name}"
            " (or name another with -m/--model)"
        ) from None
    except IsADirectoryError:
        raise ModelFileError(f"{name}: a folder, not a model file (-m/--model)") from None
    except OSError as error:
        raise RunError(f"{name}: cannot be read: {error.strerror or error}") from error
    except _Refusal as refusal:
        raise ModelFileError(f"{name}: {refusal}") from None


class _Refusal(Exception):
    """Why a file is no usable model, without its name."""


def _damaged(what: str) -> _Refusal:
    return _Refusal(f"a damaged model file: {what[:_LONGEST_REASON]}; train or copy it again")


def _foreign(what: str) -> _Refusal:
    return _Refusal(
        f"not a chargen model: {what[:_LONGEST_REASON]}; expected a file written by chargen train"
    )


def _members(data: bytes) -> dict[str, bytes]:
    """The three members of a zip archive, read only after their sizes and kinds were checked."""
    # The end record first: zipfile would parse a directory of any length.
    signature, count, directory_size = struct.unpack("<4s6xHI6x", data[-22:].rjust(22))
    if signature != b"PK\5\6" or count > 8 or directory_size > _LARGEST_DIRECTORY:
        raise _foreign("it is no zip archive of three members, or cut short")
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        infos = archive.infolist()
    except Exception:  # zipfile raises many kinds on hostile input
        raise _foreign("it is no zip archive, or cut short") from None
    names = [info.filename for info in infos]
    if sorted(names) != sorted((_METADATA, _CONFIG, _WEIGHTS)):
        raise _foreign(f"its members are {', '.join(map(repr, names)) or 'none'}")
    for info in infos:
        limit = len(data) if info.filename == _WEIGHTS else _LARGEST_JSON
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
            raise _foreign(f"{info.filename} is compressed or encrypted, which chargen never does")
        if info.file_size != info.compress_size or info.file_size > limit:
            raise _damaged(f"{info.filename} claims {info.file_size} bytes")
    try:
        return {name: archive.read(name) for name in names}
    except Exception as error:
        raise _damaged(f"a member cannot be read ({type(error).__name__})") from None


def _parse(members: dict[str, bytes]) -> Archive:
    metadata = _json_object(members[_METADATA], _METADATA)
    ours = metadata.get("chargen")
    if ours is None:
        raise _foreign("Keras wrote it, and its metadata holds no 'chargen' entry")
    if not isinstance(ours, dict):
        raise _damaged("its 'chargen' entry is no object")
    found = ours.get("format")
    if type(found) is int and found > FORMAT:
        raise _Refusal(f"a model of format {found}; this chargen reads {FORMAT}: upgrade chargen")
    if type(found) is not int or found != FORMAT:
        raise _damaged(f"its format is {found!r}, expected {FORMAT}")
    training, history = _typed(ours, "training", dict), _typed(ours, "history", list)
    try:
        model = ModelConfig.from_dict(_typed(ours, "model", dict))
        vocabulary = _vocabulary(_typed(ours, "vocabulary", dict))
        check_training_record(training, history)
        check_keras_config(_json_object(members[_CONFIG], _CONFIG), model)
    except ChargenError as error:
        raise _damaged(str(error)) from None
    if len(vocabulary) != model.vocabulary_size:
        raise _damaged(
            f"a vocabulary of {len(vocabulary)}, a model for {model.vocabulary_size} characters"
        )
    weights = members[_WEIGHTS]
    if hashlib.sha256(weights).hexdigest() != ours.get("weights_sha256"):
        raise _damaged("the weights do not match their checksum")
    tensors = _tensors(weights, _typed(ours, "tensors", dict), model)
    return Archive(members, model, vocabulary, training, history, tensors)


def _json_object(data: bytes, member: str) -> dict[str, Any]:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            raise ValueError("a key stands twice")
        return result

    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise _damaged(f"{member}: {error}") from None
    if not isinstance(value, dict):
        raise _damaged(f"{member} holds no JSON object")
    return value


def _typed(ours: Mapping[str, Any], key: str, kind: type) -> Any:
    value = ours.get(key)
    if not isinstance(value, kind):
        raise _damaged(f"its entry {key!r} is missing or of the wrong kind")
    return value


def _vocabulary(values: Mapping[str, Any]) -> Vocabulary:
    if values == {"kind": "byte"}:
        return Vocabulary.of_bytes()
    characters = values.get("characters")
    if set(values) != {"kind", "characters"} or values["kind"] != "char":
        raise _damaged("its vocabulary is of no known kind")
    if not isinstance(characters, list) or not all(
        isinstance(character, str) and len(character) == 1 for character in characters
    ):
        raise _damaged("its vocabulary is no list of single characters")
    return Vocabulary("char", tuple(map(ord, characters)))


def _tensors(
    weights: bytes, index: Mapping[str, Any], model: ModelConfig
) -> dict[str, NDArray[np.float32]]:
    shapes = model.tensor_shapes
    if set(index) != set(shapes):
        raise _damaged("its list of tensors is not that of its architecture")
    tensors, spans = {}, []
    for name, shape in shapes.items():
        entry = index[name]
        if not isinstance(entry, dict) or entry.get("dtype") != "float32":
            raise _damaged(f"tensor {name} is not of a known dtype")
        if entry.get("shape") != list(shape):
            raise _damaged(f"tensor {name} has another shape than its architecture")
        offset, count = entry.get("offset"), int(np.prod(shape, dtype=object))
        if type(offset) is not int or not 0 <= offset <= len(weights) - 4 * count:
            raise _damaged(f"tensor {name} lies outside the file")
        spans.append((offset, offset + 4 * count))
        tensors[name] = np.frombuffer(weights, "<f4", count, offset).reshape(shape)
        if not np.isfinite(tensors[name]).all():
            raise _damaged(f"tensor {name} holds a number that is not finite")
    spans.sort()
    if any(end > start for (_, end), (start, _) in pairwise(spans)):
        raise _damaged("two tensors overlap")
    return tensors


def read_keras_members(path: str | os.PathLike[str]) -> tuple[dict[str, Any], bytes]:
    """The config and the weights of a ``.keras`` file that Keras has just written."""
    with zipfile.ZipFile(path) as saved:
        return json.loads(saved.read(_CONFIG)), saved.read(_WEIGHTS)


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
    that nothing is ever written which could not be read back.
    """
    metadata = {
        "keras_version": keras_version,
        "chargen": {
            "format": FORMAT,
            "vocabulary": vocabulary.to_dict(),
            "model": model.to_dict(),
            "training": dict(training),
            "history": history,
            "weights_sha256": hashlib.sha256(weights).hexdigest(),
            "tensors": {
                name: {"offset": entry.offset, "shape": list(entry.shape), "dtype": "float32"}
                for name, entry in entries.items()
            },
        },
    }
    members = {
        _METADATA: json.dumps(metadata).encode(),
        _CONFIG: json.dumps(keras_config).encode(),
        _WEIGHTS: weights,
    }
    try:
        return _parse(members)
    except _Refusal as refusal:
        raise RunError(f"the trained model cannot be kept: {refusal}") from None


def write_archive(path: str | os.PathLike[str], archive: Archive) -> None:
    """Write a model file whole or not at all: the file at ``path`` is the old or the new one.

    Raises ``RunError`` where the write fails.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as packed:
        for name, data in archive.members.items():
            packed.writestr(zipfile.ZipInfo(name, _ZIP_TIME), data)
    write_atomically(path, buffer.getvalue())
