"""The model file: what goes in comes out, and Keras alone reads it."""

import errno
import io
import json
import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from model_files import RECORD
from networks import (
    every_cell,
    random_tensors,
    random_tokens,
    small_config,
    stock_network,
    tensors_of,
)
from refusals import line_of

from chargen.archive import Archive, read_archive, write_archive
from chargen.config import CELLS, ModelConfig
from chargen.engine import Engine
from chargen.errors import RunError
from chargen.vocabulary import Vocabulary

TRAINING = {**RECORD, "random_seed": 7, "corpus": ["é\n.txt"]}
HISTORY = [
    {"step": 10, "loss": 2.5, "learning_rate": 0.01, "bits_per_char": 3.25},
    {"step": 20, "loss": 1.5, "learning_rate": 0.0},
]

MODELS = {
    f"{cell} {num_layers} {dropout}": small_config(cell, num_layers, dropout=dropout)
    for cell in CELLS
    for num_layers in (1, 2, 3)
    for dropout in (0.0, 0.5)
}
MODELS["bytes"] = small_config("lstm", vocabulary_size=256)
MODELS["60,000 characters"] = small_config("gru", vocabulary_size=60_000, units=3, embedding_dim=2)
SMALL = "gru 2 0.5"

every_model = pytest.mark.parametrize("name", MODELS)


def vocabulary_of(name: str) -> Vocabulary:
    if name == "bytes":
        return Vocabulary.of_bytes()
    first = 0x10000 if name == "60,000 characters" else ord("\n")
    return Vocabulary.from_code_points(range(first, first + MODELS[name].vocabulary_size))


def training_of(name: str) -> dict[str, object]:
    return {**TRAINING, "tokens": vocabulary_of(name).kind}


def exported(name: str) -> tuple[Archive, object]:
    network = stock_network(MODELS[name], random_tensors(MODELS[name]))
    from chargen.training.export import export

    return export(network, MODELS[name], vocabulary_of(name), training_of(name), HISTORY), network


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Every model in a file of its own."""
    folder = tmp_path_factory.mktemp("models")
    for name in MODELS:
        write_archive(folder / f"{name}.keras", exported(name)[0])
    return folder


@pytest.fixture
def archive(folder):
    return read_archive(folder / f"{SMALL}.keras")


@every_model
def test_what_is_written_is_what_is_read(name, folder):
    archive, network = exported(name)
    read = read_archive(folder / f"{name}.keras")
    assert read.model == MODELS[name]
    assert read.vocabulary == vocabulary_of(name)
    assert (read.training, read.history) == (training_of(name), HISTORY)
    assert read.members == archive.members
    expected = tensors_of(network)
    assert list(read.tensors) == list(expected) == list(MODELS[name].tensor_shapes)
    for tensor, value in expected.items():
        assert read.tensors[tensor].dtype == np.float32
        np.testing.assert_array_equal(read.tensors[tensor], value)


@every_model
def test_the_file_holds_three_stored_members_of_a_fixed_time(name, folder):
    with zipfile.ZipFile(folder / f"{name}.keras") as packed:
        infos = packed.infolist()
    assert [info.filename for info in infos] == ["metadata.json", "config.json", "model.weights.h5"]
    assert {info.compress_type for info in infos} == {zipfile.ZIP_STORED}
    assert {info.date_time for info in infos} == {(1980, 1, 1, 0, 0, 0)}


@every_model
def test_a_network_built_again_makes_the_same_bytes(name, folder, tmp_path):
    write_archive(tmp_path / "again.keras", exported(name)[0])
    written = (folder / f"{name}.keras").read_bytes()
    assert (tmp_path / "again.keras").read_bytes() == written


def test_what_was_read_is_written_as_the_same_bytes(folder, archive, tmp_path):
    write_archive(tmp_path / "copy.keras", archive)
    assert (tmp_path / "copy.keras").read_bytes() == (folder / f"{SMALL}.keras").read_bytes()


def test_nothing_in_the_file_tells_of_a_run_or_an_optimizer(archive):
    import h5py

    text = json.dumps(json.loads(archive.members["config.json"]))
    assert "shared_object_id" not in text and "compile_config" not in text
    assert "date_saved" not in archive.members["metadata.json"].decode()
    with h5py.File(io.BytesIO(archive.members["model.weights.h5"])) as file:
        assert "optimizer" not in file and list(file["layers"])


# Run by a Python that cannot import chargen; it leaves logits and facts beside the models.
KERAS_ALONE = """
import json, os, sys
from pathlib import Path
sys.modules["chargen"] = None
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import keras, numpy as np
folder, facts, logits = Path(sys.argv[1]), {}, {}
for path in folder.glob("*.keras"):
    model = keras.saving.load_model(path)
    logits[path.stem] = model(np.load(folder / f"{path.stem}.npy"))
    facts[path.stem] = {
        "class": f"{type(model).__module__}.{type(model).__name__}",
        "modules": sorted({type(layer).__module__.split(".")[0] for layer in model.layers}),
        "dtypes": sorted({v.dtype for v in model.trainable_variables}),
        "compute": sorted({layer.compute_dtype for layer in model.layers}),
        "compiled": model.compiled,
        "optimizer": repr(getattr(model, "optimizer", None)),
    }
np.savez(folder / "logits.npz", **logits)
assert not [name for name in sys.modules if name.startswith("chargen.")]
print(json.dumps(facts))
"""


@pytest.fixture(scope="module")
def facts(folder):
    for name, config in MODELS.items():
        np.save(folder / f"{name}.npy", random_tokens(config, 2, 9))
    command = [sys.executable, "-c", KERAS_ALONE, str(folder)]
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)


@every_model
def test_keras_without_chargen_gives_the_logits_of_the_engine(name, folder, facts):
    archive = read_archive(folder / f"{name}.keras")
    engine = Engine(archive.model, archive.tensors)
    tokens = np.load(folder / f"{name}.npy").T
    logits = engine.head(engine.body.run(engine.zero_state(2), tokens))
    expected = np.load(folder / "logits.npz")[name].transpose(1, 0, 2)
    np.testing.assert_allclose(logits, expected, atol=1e-5)


@every_model
def test_keras_finds_a_plain_float32_sequential(name, facts):
    assert facts[name] == {
        "class": "keras.src.models.sequential.Sequential",
        "modules": ["keras"],
        "dtypes": ["float32"],
        "compute": ["float32"],
        "compiled": False,
        "optimizer": "None",
    }


@pytest.mark.parametrize("value", (np.nan, np.inf))
@every_cell
def test_weights_that_are_not_finite_are_not_kept(cell, value):
    config = small_config(cell)
    tensors = random_tensors(config)
    tensors["head/bias"][3] = value
    network = stock_network(config, tensors)
    from chargen.training.export import export

    with pytest.raises(RunError, match="head/bias") as caught:
        export(network, config, vocabulary_of(SMALL), TRAINING, HISTORY)
    line_of(caught, 1)


def test_a_vocabulary_of_another_size_is_not_kept():
    config: ModelConfig = MODELS[SMALL]
    from chargen.training.export import export

    with pytest.raises(RunError, match="vocabulary of 3") as caught:
        export(stock_network(config), config, Vocabulary.from_text("abc"), TRAINING, HISTORY)
    line_of(caught, 1)


@pytest.mark.parametrize("call", ("replace", "fsync"))
def test_a_failed_write_leaves_the_old_model(call, folder, archive, tmp_path, monkeypatch):
    path = tmp_path / "model.keras"
    old = (folder / "bytes.keras").read_bytes()
    path.write_bytes(old)

    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(RunError) as caught:
        write_archive(path, archive)
    assert line_of(caught, 1).startswith(f"{path}: cannot be written: No space left")
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.keras"]
    assert path.read_bytes() == old
    monkeypatch.undo()
    write_archive(path, archive)
    assert read_archive(path).members == archive.members
