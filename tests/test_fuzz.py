"""The inputs of the fuzzing, spoilt here at random and for a moment."""

import json
import random

import pytest
from model_files import seeds
from mutations import READERS, STATE, Reader, joined, parts_of, plainly, spoilt

from chargen.errors import ModelFileError, RunError

NUM_INPUTS = 250


@pytest.fixture
def path(tmp_path):
    return tmp_path / "input"


@pytest.fixture(scope="module")
def inputs():
    return seeds()


@pytest.mark.parametrize("name", READERS)
def test_what_is_spoilt_is_read_or_refused(name, inputs, path):
    any_bytes = plainly(random.Random(1))
    num_read = 0
    for seed in range(NUM_INPUTS):
        data = inputs[name][seed % len(inputs[name])]
        for _ in range(seed % 3 + 1):
            data = spoilt(data, name, 1 << 16, seed, any_bytes)
        num_read += READERS[name].examine(data, path)
    assert 5 < num_read < NUM_INPUTS - 50


@pytest.mark.parametrize("name", READERS)
def test_what_is_not_spoilt_is_read(name, inputs, path):
    for data in inputs[name]:
        parts = parts_of(data, 1 + len(READERS[name].names))
        assert joined(parts) == data
        assert READERS[name].examine(data, path)


@pytest.mark.parametrize("name", ("archive", "state"))
def test_checksums_are_mended(name, inputs, path):
    """Other weights, which nothing but the checksums could tell."""
    *others, tensors = parts_of(inputs[name][0], 1 + len(READERS[name].names))
    changed = bytearray(tensors)
    if name == "state":
        changed[0] ^= 1
    else:
        changed[json.loads(others[1])["chargen"]["tensors"]["embedding"]["offset"]] ^= 1
    assert READERS[name].examine(joined([*others, bytes(changed)]), path)


@pytest.mark.parametrize("data", (b"", b"\0" * 9, b"\xff" * 100), ids=len)
@pytest.mark.parametrize("name", READERS)
def test_an_input_may_be_anything(name, data, path):
    assert not READERS[name].examine(data, path)
    assert isinstance(spoilt(data, name, 1 << 16, 1, plainly(random.Random(1))), bytes)


@pytest.mark.parametrize(
    "error",
    (
        ModelFileError("two\nlines"),
        ModelFileError("\x1b[2J"),
        ModelFileError("a" * 1000),
        RunError("another status"),
        ValueError("no error of ours"),
    ),
    ids=str,
)
def test_a_refusal_that_is_none_is_found(error, inputs, path):
    def read(_):
        raise error

    expected = ValueError if type(error) is ValueError else AssertionError
    with pytest.raises(expected):
        Reader(STATE, read).examine(inputs["state"][0], path)


def test_time_is_found(inputs, path, monkeypatch):
    monkeypatch.setattr("mutations.MOST_SECONDS", 0)
    with pytest.raises(AssertionError, match=" s"):
        READERS["state"].examine(inputs["state"][0], path)
