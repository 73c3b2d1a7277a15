"""Good files of both kinds that chargen reads, ways to spoil them, and what is asked of a refusal:
the model file and the resume state beside it."""

import io
import json
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mutations import joined
from networks import random_tensors, small_config, stock_network
from refusals import line_of

from chargen.archive import Archive, read_archive
from chargen.config import ModelConfig, TrainingConfig
from chargen.errors import ModelFileError
from chargen.evaluation import Evaluation
from chargen.training.budget import Plan
from chargen.training.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from chargen.training.run import Run
from chargen.vocabulary import Vocabulary

METADATA, CONFIG, WEIGHTS = NAMES = "metadata.json", "config.json", "model.weights.h5"
STATE, TENSORS = "state.json", "state.bin"
MISSING = type("Missing", (), {"__repr__": lambda _: "missing"})()

RECORD = {
    **TrainingConfig(steps=3).to_dict(),
    "corpus": ["some.txt"],
    "corpus_sha256": "0" * 64,
    "tokens": "char",
    "encoding": "utf-8",
    "lines": False,
    "val_fraction": None,
    "init": None,
    "characters": 100,
    "best_step": 3,
    "completed": True,
    "as_planned": True,
    "held_out": None,
}
ORIGIN = ("corpus", "corpus_sha256", "tokens", "encoding", "lines", "val_fraction", "init")
HISTORY = [{"step": 3, "loss": 1.5, "learning_rate": 0.01, "bits_per_char": 2.0}]


def archive_of(config: ModelConfig) -> Archive:
    """A model of the first letters, as Keras gave it away."""
    network = stock_network(config, random_tensors(config))
    from chargen.training.export import export

    vocabulary = Vocabulary.from_code_points(range(97, 97 + config.vocabulary_size))
    return export(network, config, vocabulary, RECORD, HISTORY)


def checkpoint_of(config: ModelConfig) -> Checkpoint:
    """A run of a model of the first letters, with the variables that a run of ours has."""
    training = TrainingConfig(steps=9, batch_size=2)
    arrays = 2 if config.cell == "lstm" else 1
    weights = random_tensors(config)
    states = {
        f"state/state_{layer + 1}_{array + 1}": np.ones((2, config.units), np.float32)
        for layer in range(config.num_layers)
        for array in range(arrays)
    }
    moments = [value for tensor in weights.values() for value in (tensor / 9, tensor**2 / 9)]
    others = {
        "loss/total": np.float32(4.5),
        "loss/count": np.float32(3),
        "optimizer/0": np.int64(3),
        **{f"optimizer/{number + 1}": moment for number, moment in enumerate(moments)},
        "dropout/seed": np.array([2**32 - 1, 3], np.uint32),
    }
    return Checkpoint(
        config,
        training,
        Vocabulary.from_code_points(range(97, 97 + config.vocabulary_size)),
        asked={"steps": 9, "cell": config.cell, "dropout": None, "init": None},
        origin={name: RECORD[name] for name in ORIGIN},
        run=Run(
            Plan(9, 3),
            step=3,
            history=HISTORY,
            best=random_tensors(config, seed=1),
            best_figure=Evaluation(20.5, 3, 10),
            best_step=3,
            seconds=1.5,
        ),
        variables={
            name: np.asarray(value) for name, value in {**weights, **states, **others}.items()
        },
    )


@cache
def good_archive() -> Archive:
    """A GRU of two layers on eleven characters."""
    return archive_of(small_config("gru", 2, dropout=0.5))


def members_of(file: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(file)) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def state_of(config: ModelConfig) -> dict[str, bytes]:
    """The members of a resume state."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state"
        write_checkpoint(path, checkpoint_of(config))
        return members_of(path.read_bytes())


@dataclass(frozen=True)
class Kind:
    """A kind of file that chargen reads: a good one's members, its reader, what was read as plain
    values to compare, and what is said of a stranger's file."""

    members: dict[str, bytes]
    read: Callable[[Any], Any]
    facts: Callable[[Any], Any]
    stranger: str

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.members)

    @property
    def json_names(self) -> tuple[str, ...]:
        return tuple(name for name in self.members if name.endswith(".json"))

    def refusal(self, path: Path) -> str:
        """What is said of the file at ``path``, after its name, once it is refused."""
        return refusal(path, self.read)


KINDS = ("model", "state")


@cache
def kind_of(name: str) -> Kind:
    if name == "model":
        return _model_kind(good_archive().members)
    return _state_kind(state_of(small_config("lstm", 2, dropout=0.5)))


@cache
def small_kind_of(name: str) -> Kind:
    """A kind with as small a file as can be."""
    config = small_config("rnn", vocabulary_size=2, units=1, embedding_dim=1)
    return (
        _model_kind(archive_of(config).members)
        if name == "model"
        else _state_kind(state_of(config))
    )


def _model_kind(members: dict[str, bytes]) -> Kind:
    def facts(read: Archive) -> Any:
        plain = read.members, read.model, read.vocabulary, read.training, read.history
        return *plain, _plain(read.tensors)

    return Kind(members, read_archive, facts, "not a chargen model: ")


def _state_kind(members: dict[str, bytes]) -> Kind:
    def facts(read: Checkpoint) -> Any:
        plain = read.model, read.training, read.vocabulary, read.asked, read.origin
        return *plain, read.run.to_dict(), _plain(read.variables), _plain(read.run.best or {})

    return Kind(members, read_checkpoint, facts, "no resume state of chargen: ")


def _plain(tensors: dict[str, Any]) -> Any:
    return {
        name: (array.shape, str(array.dtype), array.tobytes()) for name, array in tensors.items()
    }


def refusal(path: Path, read: Callable[[Any], Any] = read_archive) -> str:
    """What is said of the file at ``path``, after its name, once it is refused as it should be."""
    began = time.process_time()
    with pytest.raises(ModelFileError) as caught:
        read(path)
    assert time.process_time() - began < 1
    message = line_of(caught, 4)
    assert message.isprintable() and len(message) < 1000
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


def seeds() -> dict[str, list[bytes]]:
    """Small inputs of ``mutations``, by the name of their reader."""
    configs = [
        small_config("gru", 1, vocabulary_size=2, units=1, embedding_dim=1, dropout=0.5),
        small_config("rnn", 2, vocabulary_size=3, units=1, embedding_dim=2),
    ]
    archives = [archive_of(config).members for config in configs]
    states = [state_of(config) for config in [*configs, small_config("lstm", units=1)]]
    return {
        "archive": [joined([b"", *members.values()]) for members in archives],
        "state": [joined([b"", *members.values()]) for members in states],
        "hdf5": [joined([b"", members[WEIGHTS]]) for members in archives],
    }


def packed(members) -> bytes:
    """A zip file of members (name, data), all stored."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a name that stands twice
        for name, data in members:
            file.writestr(zipfile.ZipInfo(name), data)
    return buffer.getvalue()


def with_json(members, member, change) -> bytes:
    """The file with one JSON member parsed, changed in place and written again."""
    value = json.loads(members[member])
    change(value)
    return packed({**members, member: json.dumps(value)}.items())


def put(*keys_and_value):
    """A change: the value at a path of keys; MISSING takes the last key away."""
    *keys, last, value = keys_and_value

    def change(place):
        for key in keys:
            place = place[key]
        if value is MISSING:
            del place[last]
        else:
            place[last] = value

    return change
