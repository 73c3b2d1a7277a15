"""A good model file, ways to spoil it, and what is asked of the refusal."""

import io
import json
import time
import warnings
import zipfile
from functools import cache

import pytest
from networks import random_tensors, small_config, stock_network
from refusals import line_of

from chargen.archive import Archive, read_archive
from chargen.config import TrainingConfig
from chargen.errors import ModelFileError
from chargen.vocabulary import Vocabulary

METADATA, CONFIG, WEIGHTS = NAMES = "metadata.json", "config.json", "model.weights.h5"
MISSING = object()

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
HISTORY = [{"step": 3, "loss": 1.5, "learning_rate": 0.01, "bits_per_char": 2.0}]


@cache
def good_archive() -> Archive:
    """A GRU of two layers on eleven characters, as Keras gave it away."""
    config = small_config("gru", 2, dropout=0.5)
    network = stock_network(config, random_tensors(config))
    from chargen.training.export import export

    vocabulary = Vocabulary.from_text("abcdefghijk")
    return export(network, config, vocabulary, RECORD, HISTORY)


def refusal(path) -> str:
    """What is said of the file at ``path``, after its name, once it is refused as it should be."""
    began = time.perf_counter()
    with pytest.raises(ModelFileError) as caught:
        read_archive(path)
    assert time.perf_counter() - began < 1
    message = line_of(caught, 4)
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


def packed(members) -> bytes:
    """A zip file of members (name, data), all stored."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a name that stands twice
        for name, data in members:
            file.writestr(zipfile.ZipInfo(name), data)
    return buffer.getvalue()


def with_json(archive, member, change) -> bytes:
    """The file with one JSON member parsed, changed in place and written again."""
    value = json.loads(archive.members[member])
    change(value)
    return packed({**archive.members, member: json.dumps(value)}.items())


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
