"""The resume state: everything that a run needs to go on, in one file beside its model.

``NAME.keras.resume`` is a zip file of two stored members: ``state.json``, with the configs, the
vocabulary, how the corpus was read and its hash, and where the run stands; and ``state.bin``, the
tensors one behind the other: weights, the best weights, the optimiser's, the carried states, the
random state and the sums of the loss. It is written by the same atomic writer as the model and read
under the same limits. This room knows nothing of Keras.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from chargen.archive import vocabulary_from
from chargen.config import ModelConfig, TrainingConfig
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
from chargen.records import check_origin
from chargen.training.run import Run, Snapshot
from chargen.vocabulary import Vocabulary

__all__ = ["Checkpoint", "largest_tensors", "read_checkpoint", "state_path", "write_checkpoint"]

FORMAT = 1

_STATE, _TENSORS = "state.json", "state.bin"
_OTHER_TENSORS = 1 << 16  # bytes of what is neither weights nor carried states, at most
_LONGEST_OPTION = 1 << 12
_OTHER_NAMES = re.compile(r"now/(?:loss|optimizer|dropout)/[a-z0-9_]{1,40}")


@dataclass(frozen=True)
class Checkpoint:
    """A run that can go on.

    ``asked`` are the options that were given when it began, ``origin`` how its corpus was read;
    ``variables`` are all that a step changes, and the best weights are in ``run``.
    """

    model: ModelConfig
    training: TrainingConfig
    vocabulary: Vocabulary
    asked: dict[str, Any]
    origin: dict[str, Any]
    run: Run
    variables: Snapshot


def state_path(output: str | os.PathLike[str]) -> Path:
    """Where the state of the run that writes ``output`` stands."""
    return Path(f"{os.fspath(output)}.resume")


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write ``checkpoint`` whole or not at all. Raises ``RunError`` where that fails."""
    tensors = {f"now/{name}": array for name, array in checkpoint.variables.items()}
    tensors |= {f"best/{name}": array for name, array in (checkpoint.run.best or {}).items()}
    index, parts, offset = {}, [], 0
    for name, array in tensors.items():
        index[name] = TensorEntry(offset, array.shape, str(array.dtype)).to_dict()
        parts.append(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes())
        offset += len(parts[-1])
    data = b"".join(parts)
    state = {
        "format": FORMAT,
        "model": checkpoint.model.to_dict(),
        "training": checkpoint.training.to_dict(),
        "vocabulary": checkpoint.vocabulary.to_dict(),
        "asked": checkpoint.asked,
        "origin": checkpoint.origin,
        "run": checkpoint.run.to_dict(),
        "tensors": index,
        "tensors_sha256": hashlib.sha256(data).hexdigest(),
    }
    write_atomically(path, packed({_STATE: json.dumps(state).encode(), _TENSORS: data}))


def read_checkpoint(path: Path) -> Checkpoint:
    """The state in the file at ``path``, every part of it checked.

    Raises ``ModelFileError`` in one line for a file that is damaged, foreign or of a format from
    the future; ``RunError`` where it cannot be read; ``FileNotFoundError`` where there is none.
    """
    name, anew = os.fspath(path), "start the run anew: --force without --resume"
    try:
        with opened(name, (_STATE, _TENSORS)) as file:
            state = json_object(file.read(_STATE, LARGEST_JSON), _STATE)
            checkpoint = _without_tensors(state)
            index = _checked_index(typed(state, "tensors", dict), checkpoint)
            data = file.read(_TENSORS, largest_tensors(checkpoint.model, checkpoint.training))
        if hashlib.sha256(data).hexdigest() != state.get("tensors_sha256"):
            raise Damaged("its tensors do not match their checksum")
        return _with_tensors(checkpoint, tensors_in(data, index))
    except FileNotFoundError:
        raise
    except IsADirectoryError:
        raise ModelFileError(f"{name}: a folder, not a resume state; {anew}") from None
    except OSError as error:
        raise RunError(f"{name}: cannot be read: {error.strerror or error}") from error
    except Damaged as error:
        raise ModelFileError(f"{name}: a damaged resume state: {error}; {anew}") from None
    except Foreign as error:
        raise ModelFileError(f"{name}: no resume state of chargen: {error}; {anew}") from None
    except ModelFileError as error:
        raise ModelFileError(f"{name}: {error}, or {anew}") from None


def _without_tensors(state: Mapping[str, Any]) -> Checkpoint:
    check_format(state, FORMAT, "resume state")
    origin = typed(state, "origin", dict)
    try:
        model = ModelConfig.from_dict(typed(state, "model", dict))
        training = TrainingConfig.from_dict(typed(state, "training", dict))
        vocabulary = vocabulary_from(typed(state, "vocabulary", dict))
        check_origin(origin)
    except ChargenError as error:
        raise Damaged(str(error)) from None
    if len(vocabulary) != model.vocabulary_size:
        raise Damaged("its vocabulary is not that of its model")
    if vocabulary.kind != origin["tokens"]:
        raise Damaged(f"a vocabulary of {vocabulary.kind}s, trained on {origin['tokens']}s")
    asked, run = typed(state, "asked", dict), Run.from_dict(typed(state, "run", dict))
    known = {field.name for kind in (ModelConfig, TrainingConfig) for field in fields(kind)}
    if not set(asked) <= known | set(origin) or any(
        isinstance(value, list | dict) or len(str(value)) > _LONGEST_OPTION
        for value in asked.values()
    ):
        raise Damaged("its options are none that a run is asked for")
    return Checkpoint(model, training, vocabulary, asked, origin, run, {})


def _checked_index(index: dict[str, Any], checkpoint: Checkpoint) -> dict[str, Any]:
    """``index``, which must have the weights and the carried states of the run's own architecture
    and no tensor of an unknown kind; what the optimiser needs is known where it is made."""
    model, training = checkpoint.model, checkpoint.training
    needed = {f"now/{name}": list(shape) for name, shape in model.tensor_shapes.items()}
    if any(name.startswith("best/") for name in index):
        needed |= {f"best/{name}": list(shape) for name, shape in model.tensor_shapes.items()}
    for layer, array in product(range(model.num_layers), range(2 if model.cell == "lstm" else 1)):
        name = f"now/state/state_{layer + 1}_{array + 1}"
        needed[name] = [training.batch_size, model.units]
    for name, shape in needed.items():
        entry = index.get(name)
        if not isinstance(entry, dict) or entry.get("dtype") != "float32":
            raise Damaged(f"its list of tensors has no {name} of float32")
        if entry.get("shape") != shape:
            raise Damaged(f"its tensor {name} has another shape than its architecture")
    if not all(_OTHER_NAMES.fullmatch(name) for name in set(index) - set(needed)):
        raise Damaged("it holds a tensor of no known kind")
    return index


def largest_tensors(model: ModelConfig, training: TrainingConfig) -> int:
    """The most bytes that a state's tensors may have: weights, the best ones, and two moments of
    each; two carried arrays a layer."""
    carried = 2 * model.num_layers * training.batch_size * model.units
    return 4 * (4 * model.num_parameters + carried) + _OTHER_TENSORS


def _with_tensors(checkpoint: Checkpoint, tensors: Snapshot) -> Checkpoint:
    for name, array in tensors.items():
        kind, _, rest = name.partition("/")
        if kind == "now":
            checkpoint.variables[rest] = array
        else:
            checkpoint.run.best = {**(checkpoint.run.best or {}), rest: array}
    return checkpoint
