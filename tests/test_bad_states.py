"""Resume states whose JSON or tensors lie: each refused cleanly, in one line and at once."""

import hashlib
import json

import numpy as np
import pytest
from conftest import PANGRAMS
from model_files import MISSING, STATE, TENSORS, kind_of, packed, put, with_json

from chargen.training.checkpoint import read_checkpoint


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.keras.resume"


def said_of(path, *keys_and_value) -> str:
    kind = kind_of("state")
    path.write_bytes(with_json(kind.members, STATE, put(*keys_and_value)))
    return kind.refusal(path)


def place_of(name):
    return json.loads(kind_of("state").members[STATE])["tensors"][name]


def with_tensors(change) -> bytes:
    """The file with the bytes of its tensors changed in place, and their checksum right."""
    members = kind_of("state").members
    data = bytearray(members[TENSORS])
    change(data)
    put_sum = put("tensors_sha256", hashlib.sha256(data).hexdigest())
    return with_json({**members, TENSORS: bytes(data)}, STATE, put_sum)


def test_a_file_packed_again_unchanged_is_still_a_state(path):
    members = kind_of("state").members
    path.write_bytes(with_json(members, STATE, lambda _: None))
    again = kind_of("state").facts(read_checkpoint(path))
    path.write_bytes(packed(members.items()))
    assert kind_of("state").facts(read_checkpoint(path)) == again


def test_no_file_is_told_apart(path):
    with pytest.raises(FileNotFoundError):
        read_checkpoint(path)


def test_a_format_of_the_future(path):
    message = said_of(path, "format", 2)
    assert message.startswith("a resume state of format 2; this chargen reads 1: upgrade chargen")


@pytest.mark.parametrize("value", ("1", 0, -1, 1.5, None, [], {}, True, MISSING))
def test_no_known_format(value, path):
    assert "damaged" in said_of(path, "format", value)


ENTRIES = ("model", "training", "vocabulary", "asked", "origin", "run", "tensors")


@pytest.mark.parametrize("value", (MISSING, None, 1, "text", True, [], [{}]))
@pytest.mark.parametrize("key", ENTRIES)
def test_an_entry_missing_or_of_another_kind(key, value, path):
    assert f"its entry '{key}' is missing or of the wrong kind" in said_of(path, key, value)


@pytest.mark.parametrize("value", (MISSING, None, 0, "", "0" * 64, ["0"]))
def test_a_checksum_that_is_none(value, path):
    assert "checksum" in said_of(path, "tensors_sha256", value)


@pytest.mark.parametrize("entry", ("model", "training", "vocabulary", "origin", "run"))
def test_an_empty_entry(entry, path):
    assert "damaged" in said_of(path, entry, {})


@pytest.mark.parametrize(
    ("keys", "value"),
    (
        (("model", "cell"), "gru"),
        (("model", "units"), 8),
        (("model", "units"), 16384),
        (("model", "num_layers"), 1),
        (("model", "num_layers"), 16),
        (("model", "vocabulary_size"), 12),
        (("model", "embedding_dim"), 6),
        (("model", "dropout"), 1.0),
        (("model", "surprise"), 1),
        (("training", "batch_size"), 3),
        (("training", "batch_size"), 65536),
        (("training", "batch_size"), 0),
        (("training", "steps"), None),
        (("training", "epochs"), 1),
        (("training", "objective"), "all"),
        (("training", "random_seed"), -1),
        (("training", "learning_rate"), 1e308),
        (("training", "surprise"), 1),
        (("vocabulary", "kind"), "byte"),
        (("vocabulary",), {"kind": "byte"}),
        (("vocabulary", "characters"), [*"aacdefghijk"]),
        (("vocabulary", "characters"), [*"bacdefghijk"]),
        (("vocabulary", "characters"), [*"abcdefghij", "\ud800"]),
        (("vocabulary", "characters"), ["ab", *"cdefghijkl"]),
        (("vocabulary", "characters"), [*"abcdefghij"]),
        (("vocabulary", "characters"), "abcdefghijk"),
        (("origin", "tokens"), "byte"),
        (("origin", "tokens"), "word"),
        (("origin", "corpus"), "some.txt"),
        (("origin", "corpus"), [1]),
        (("origin", "corpus_sha256"), "0" * 63),
        (("origin", "corpus_sha256"), "\x1b[2J" + "0" * 60),
        (("origin", "val_fraction"), 1),
        (("origin", "val_fraction"), -0.1),
        (("origin", "lines"), 1),
        (("origin", "encoding"), None),
        (("origin", "init"), MISSING),
        (("origin", "surprise"), 1),
        (("asked", "surprise"), 1),
        (("asked", "a line\nand another"), 1),
        (("asked", "cell"), ["lstm"]),
        (("asked", "cell"), "a" * 5000),
        (("asked", "steps"), {"a": {}}),
        (("asked", "\ud800"), 1),
    ),
    ids=str,
)
def test_settings_that_cannot_be(keys, value, path):
    assert "damaged" in said_of(path, *keys, value)


@pytest.mark.parametrize(
    ("key", "value"),
    (
        *(("steps", value) for value in (2, -1, 2.0, True, None, "9", 10**12 + 1, MISSING)),
        *(("step", value) for value in (10, -1, 3.0, MISSING)),
        *(("best_step", value) for value in (4, -1, 10**30)),
        *(("validate_every", value) for value in (0, -3, MISSING)),
        *(("halvings", value) for value in (-1, 2**62, 10**400)),
        *(("threads", value) for value in (-1, 2**63 - 1)),
        *(("seconds", value) for value in (-1, 1e13, float("inf"), float("nan"), "1", None)),
        *(("is_over", value) for value in (0, 1, None, "no")),
        *(("history", value) for value in (None, {}, [1], [{}], [{"step": 1}])),
        ("history", [{"step": 1.5, "loss": 1.0, "learning_rate": 0.1}]),
        ("history", [{"step": -1, "loss": 1.0, "learning_rate": 0.1}]),
        ("history", [{"step": 1, "loss": "low", "learning_rate": 0.1}]),
        ("history", [{"step": 1, "loss": 1.0, "learning_rate": 0.1, "more": 1}]),
    ),
    ids=str,
)
def test_a_run_that_cannot_be(key, value, path):
    assert "damaged" in said_of(path, "run", key, value)


@pytest.mark.parametrize(
    "change",
    (
        {"nats": -1},
        {"nats": float("inf")},
        {"nats": "1"},
        {"nats": 10**400},
        {"hits": 11},
        {"hits": -1},
        {"characters": 0},
        {"characters": 1.5},
        {"skipped": -1},
        {"skipped": None},
    ),
    ids=str,
)
def test_a_figure_that_cannot_be(change, path):
    figure = {"nats": 20.5, "hits": 3, "characters": 10, "skipped": 0}
    assert "damaged" in said_of(path, "run", "best_figure", {**figure, **change})


def test_a_number_too_large_for_a_float(path):
    members = kind_of("state").members
    text = members[STATE].replace(b'"seconds": 1.5', b'"seconds": 1e999')
    assert text != members[STATE]
    path.write_bytes(packed({**members, STATE: text}.items()))
    assert "not finite" in kind_of("state").refusal(path)


EVERY_TENSOR = ("now/embedding", "best/head/bias", "now/state/state_2_1", "now/optimizer/0")


@pytest.mark.parametrize("value", (-1, -4, 10**6, 2**63 - 1, True, 1.0, "0", None, [0], MISSING))
@pytest.mark.parametrize("name", EVERY_TENSOR)
def test_a_tensor_outside_the_file(name, value, path):
    assert f"tensor {name} lies outside" in said_of(path, "tensors", name, "offset", value)


@pytest.mark.parametrize("name", EVERY_TENSOR)
def test_a_tensor_that_ends_one_byte_past_the_end(name, path):
    entry = place_of(name)
    size = np.dtype(entry["dtype"]).itemsize * int(np.prod(entry["shape"]))
    past = len(kind_of("state").members[TENSORS]) - size + 1
    assert "outside" in said_of(path, "tensors", name, "offset", past)


SHAPES = (
    *([], [-1], [0], [0, 10**18], [1] * 9, [10**18] * 8, [2**32, 2**32], [True], [1.0], ["1"]),
    *(1, "1", None, {}, MISSING),
)


@pytest.mark.parametrize("value", SHAPES, ids=str)
@pytest.mark.parametrize("name", ("now/embedding", "best/head/bias", "now/optimizer/1"))
def test_a_shape_that_cannot_be(name, value, path):
    if name == "now/optimizer/1" and value == []:
        value = [10**6]  # a number alone may be
    said_of(path, "tensors", name, "shape", value)


@pytest.mark.parametrize("value", ("float64", "float16", "<f4", "object", "", None, 4, [], MISSING))
@pytest.mark.parametrize("name", EVERY_TENSOR)
def test_a_dtype_that_cannot_be(name, value, path):
    said_of(path, "tensors", name, "dtype", value)


@pytest.mark.parametrize("name", ("now/embedding", "best/head/bias", "now/state/state_2_1"))
def test_whole_numbers_for_weights(name, path):
    assert "float32" in said_of(path, "tensors", name, "dtype", "int32")


@pytest.mark.parametrize("name", ("now/embedding", "best/head/bias", "now/state/state_1_2"))
def test_a_tensor_that_is_missing(name, path):
    assert f"no {name}" in said_of(path, "tensors", name, MISSING)


@pytest.mark.parametrize(
    "name",
    ("later/x", "now/", "best/x", "now/../x", "now/optimizer/\n", "\x1b[2J", "", "now/loss/\ud800"),
)
def test_a_tensor_of_no_known_kind(name, path):
    entry = {"offset": 0, "shape": [], "dtype": "float32"}
    assert "no known kind" in said_of(path, "tensors", name, entry)


@pytest.mark.parametrize("shift", (0, 4, -4, 1))
def test_tensors_that_overlap(shift, path):
    offset = place_of("now/recurrent_1/kernel")["offset"] + shift
    name = "now/recurrent_2/bias"
    assert "overlap" in said_of(path, "tensors", name, "offset", offset)


def test_views_of_everything_are_refused_before_their_numbers_are_looked_at(path):
    """Thousands of them would take thousands of times as long."""
    members = kind_of("state").members
    data = bytes(np.full(len(members[TENSORS]) // 4, np.nan, "<f4"))
    views = {
        f"now/optimizer/x{number}": {"offset": 0, "shape": [len(data) // 4], "dtype": "float32"}
        for number in range(4000)
    }

    def change(state):
        state["tensors"] |= views
        state["tensors_sha256"] = hashlib.sha256(data).hexdigest()

    path.write_bytes(with_json({**members, TENSORS: data}, STATE, change))
    assert "overlap" in kind_of("state").refusal(path)


@pytest.mark.parametrize("value", (np.nan, np.inf, -np.inf, 3e38))
@pytest.mark.parametrize("name", ("now/embedding", "best/head/bias", "now/optimizer/2"))
def test_numbers_that_are_not_finite(name, value, path):
    start = place_of(name)["offset"]

    def change(data):
        data[start : start + 4] = np.float32(value).tobytes()

    path.write_bytes(with_tensors(change))
    assert f"tensor {name} holds a number that is not finite" in kind_of("state").refusal(path)


def test_tensors_of_another_file(path):
    members = kind_of("state").members
    *most, last = members[TENSORS]
    path.write_bytes(packed({**members, TENSORS: bytes([*most, last ^ 1])}.items()))
    assert "checksum" in kind_of("state").refusal(path)


@pytest.mark.parametrize("size", (0, 1, 1 << 20))
def test_tensors_of_another_size(size, path):
    members = {**kind_of("state").members, TENSORS: bytes(size)}
    told = put("tensors_sha256", hashlib.sha256(bytes(size)).hexdigest())
    path.write_bytes(with_json(members, STATE, told))
    assert "damaged" in kind_of("state").refusal(path)


def test_a_run_that_would_go_on_from_it_says_so_and_touches_nothing(run, tmp_path):
    state = tmp_path / "m.keras.resume"
    state.write_bytes(packed(kind_of("state").members.items())[:-1])
    before = state.read_bytes()
    ended = run("train", PANGRAMS, "-o", "m.keras", "--resume")
    (line,) = ended.lines
    assert ended.status == 4
    assert line.startswith("chargen: ") and "m.keras.resume: no resume state" in line
    assert [entry.name for entry in tmp_path.iterdir()] == ["m.keras.resume"]
    assert state.read_bytes() == before


def test_a_model_in_the_place_of_a_state_and_the_other_way_round(path):
    path.write_bytes(packed(kind_of("model").members.items()))
    assert "no resume state of chargen" in kind_of("state").refusal(path)
    path.write_bytes(packed(kind_of("state").members.items()))
    assert "not a chargen model" in kind_of("model").refusal(path)
