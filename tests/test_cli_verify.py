"""``info --verify``: all that a model file holds, and the state beside it."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
from model_files import METADATA, WEIGHTS, good_archive, kind_of, packed, with_json
from refusals import line_of
from test_walls import HEAVY, loaded_by_command

from chargen.archive import read_archive, write_archive
from chargen.errors import ModelFileError
from chargen.model import Model, load

MODEL_STATUS = 4


def verified(run, path) -> tuple[str, dict]:
    """The last two rows of the table, and the entry in the JSON."""
    shown, told = run("info", "--verify", "-m", path), run("info", "--verify", "--json", "-m", path)
    assert (shown.status, told.status, shown.stderr, told.stderr) == (0, 0, "", "")
    plain = run("info", "-m", path)
    assert shown.text.startswith(plain.text) and "verified" not in plain.text
    return shown.text.removeprefix(plain.text), json.loads(told.stdout)["verified"]


def refused(run, path) -> str:
    """The one line on stderr; reading alone must find nothing."""
    assert run("info", "-m", path).status == 0
    ended = run("info", "--verify", "-m", path)
    assert (ended.status, ended.stdout) == (MODEL_STATUS, b"")
    (line,) = ended.lines
    return line


@pytest.mark.parametrize("name", ("sequence", "windowed", "byte", "lines"))
def test_a_model_and_its_state(name, run, request):
    path = request.getfixturevalue(f"{name}_model")
    rows, told = verified(run, path)
    steps = load(path).history[-1]["step"]
    assert "HDF5 structure against the index" in rows and "HDF5" in " ".join(told["checked"])
    assert rows.endswith(f"resume state  verified too, at step {steps} of {steps}\n")
    assert told["resume_state"] == {"step": steps, "steps": steps}


def test_a_model_alone(run, sequence_model, tmp_path):
    (tmp_path / "copy.keras").write_bytes(sequence_model.read_bytes())
    rows, told = verified(run, tmp_path / "copy.keras")
    assert rows.endswith("resume state  none beside it\n")
    assert told["resume_state"] is None


def test_no_tensorflow_is_loaded(sequence_model, tmp_path):
    loaded = loaded_by_command("info", "--verify", "-m", sequence_model, folder=tmp_path)
    assert not loaded & HEAVY


@pytest.mark.parametrize("bad", (b"no state\n", b"", None))
def test_a_bad_state(bad, run, sequence_model, tmp_path):
    model, state = tmp_path / "copy.keras", tmp_path / "copy.keras.resume"
    model.write_bytes(sequence_model.read_bytes())
    if bad is None:
        state.mkdir()
    else:
        state.write_bytes(bad)
    assert str(state) in refused(run, model)


def test_the_state_of_another_run(run, sequence_model, tmp_path):
    model, state = tmp_path / "copy.keras", tmp_path / "copy.keras.resume"
    model.write_bytes(sequence_model.read_bytes())
    state.write_bytes(packed(kind_of("state").members.items()))
    assert f"{state}: the state of another run than that of {model}" in refused(run, model)


def test_an_index_that_swaps_two_tensors_of_one_shape(run, tmp_path):
    def swap(metadata):
        tensors = metadata["chargen"]["tensors"]
        one, other = tensors["recurrent_2/kernel"], tensors["recurrent_2/recurrent_kernel"]
        one["offset"], other["offset"] = other["offset"], one["offset"]

    path = tmp_path / "model.keras"
    path.write_bytes(with_json(good_archive().members, METADATA, swap))
    assert "its index has tensor recurrent_2/kernel at byte" in refused(run, path)


@pytest.mark.parametrize("place", (0, 24, 64, 96, 150))
def test_a_structure_that_is_spoilt(place, run, tmp_path):
    """The checksum is right, and every weight lies where it was: Keras alone would stumble."""
    members = good_archive().members
    weights = bytearray(members[WEIGHTS])
    weights[place] ^= 0x40

    def mend(metadata):
        metadata["chargen"]["weights_sha256"] = hashlib.sha256(weights).hexdigest()

    path = tmp_path / "model.keras"
    path.write_bytes(with_json({**members, WEIGHTS: bytes(weights)}, METADATA, mend))
    assert "its weights are not HDF5 as Keras writes it" in refused(run, path)


def test_a_model_that_cannot_be_read(run, tmp_path):
    (tmp_path / "model.keras").write_bytes(b"")
    ended = run("info", "--verify", "-m", "model.keras")
    assert (ended.status, ended.stdout, len(ended.lines)) == (MODEL_STATUS, b"", 1)


def test_logits_that_are_not_finite(tmp_path):
    path = tmp_path / "model.keras"
    write_archive(path, good_archive())
    archive = read_archive(path)
    model = Model(archive, path)
    model.verify()
    bias = np.full_like(archive.tensors["head/bias"], np.inf)
    spoilt = Model(replace(archive, tensors={**archive.tensors, "head/bias": bias}), path)
    with pytest.raises(ModelFileError) as caught:
        spoilt.verify()
    assert "logits that are not finite" in line_of(caught, MODEL_STATUS)
