"""Model files whose JSON lies: each refused cleanly, in one line and at once."""

import json
import math
import re
from itertools import pairwise

import pytest
from model_files import (
    CONFIG,
    METADATA,
    MISSING,
    RECORD,
    good_archive,
    packed,
    put,
    refusal,
    with_json,
)

from chargen.archive import read_archive
from chargen.config import ModelConfig


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.keras"


def said_of(path, member, change) -> str:
    path.write_bytes(with_json(good_archive().members, member, change))
    return refusal(path)


FIGURES = {
    "bits_per_char": 2.0,
    "nats_per_char": 1.4,
    "perplexity": 4.0,
    "accuracy": 0.25,
    "characters": 4,
    "skipped": 0,
}


def ours(*keys_and_value):
    return put("chargen", *keys_and_value)


def test_a_file_packed_again_unchanged_is_still_a_model(path):
    for member in (METADATA, CONFIG):
        path.write_bytes(with_json(good_archive().members, member, lambda _: None))
        assert read_archive(path).tensors.keys() == good_archive().tensors.keys()


def test_a_format_of_the_future(path):
    message = said_of(path, METADATA, ours("format", 2))
    assert "a model of format 2; this chargen reads 1: upgrade chargen" in message


@pytest.mark.parametrize("value", ("1", 0, -1, 1.5, None, [], [1], {}, MISSING))
def test_no_known_format(value, path):
    said_of(path, METADATA, ours("format", value))


@pytest.mark.parametrize("value", ([], "chargen", 1, True))
def test_an_entry_of_ours_that_is_no_object(value, path):
    assert "'chargen' entry" in said_of(path, METADATA, put("chargen", value))


@pytest.mark.parametrize("value", (None, MISSING))
def test_no_entry_of_ours(value, path):
    assert "Keras has saved again" in said_of(path, METADATA, put("chargen", value))


@pytest.mark.parametrize("value", (MISSING, None, 1, "text", True))
@pytest.mark.parametrize("key", ("vocabulary", "model", "training", "history", "tensors"))
def test_an_entry_missing_or_of_another_kind(key, value, path):
    assert f"its entry '{key}' is missing or of the wrong kind" in said_of(
        path, METADATA, ours(key, value)
    )


@pytest.mark.parametrize("value", (MISSING, None, 0, "", "0" * 64, ["0"]))
def test_a_checksum_that_is_none(value, path):
    assert "checksum" in said_of(path, METADATA, ours("weights_sha256", value))


@pytest.mark.parametrize("value", ([1], [[]], [{}, None]))
def test_a_history_of_something_else(value, path):
    assert "history" in said_of(path, METADATA, ours("history", value))


VOCABULARIES = {
    "a repeat": [*"aacdefghijk"],
    "unsorted": [*"bacdefghijk"],
    "a lone surrogate": [*"abcdefghij", "\ud800"],
    "several characters in one": ["ab", *"bcdefghijk"],
    "an empty one": ["", *"bcdefghijk"],
    "numbers": list(range(11)),
    "a null": [None, *"bcdefghijk"],
    "lists": [["a"], *"bcdefghijk"],
    "too few": [*"abcdefghij"],
    "too many": [*"abcdefghijkl"],
    "none": [],
    "a text": "abcdefghijk",
    "an object": dict.fromkeys("abcdefghijk", 1),
    "missing": MISSING,
}


@pytest.mark.parametrize("name", VOCABULARIES)
def test_a_bad_list_of_characters(name, path):
    said_of(path, METADATA, ours("vocabulary", "characters", VOCABULARIES[name]))


@pytest.mark.parametrize("value", ("byte", "word", "", None, 1, ["char"], MISSING))
def test_a_bad_kind_of_vocabulary(value, path):
    said_of(path, METADATA, ours("vocabulary", "kind", value))


def test_bytes_for_a_model_of_eleven_characters(path):
    assert "256" in said_of(path, METADATA, ours("vocabulary", {"kind": "byte"}))


@pytest.mark.parametrize(
    ("key", "value"),
    (
        ("cell", "lstm"),
        ("cell", "transformer"),
        ("cell", ["gru"]),
        ("cell", MISSING),
        ("units", 8),
        ("units", 0),
        ("units", -7),
        ("units", 7.0),
        ("units", True),
        ("units", "7"),
        ("units", 10**30),
        ("num_layers", 1),
        ("num_layers", 3),
        ("num_layers", 10**9),
        ("embedding_dim", 6),
        ("vocabulary_size", 10),
        ("vocabulary_size", 12),
        ("dropout", float("nan")),
        ("dropout", 1.0),
        ("dropout", None),
        ("surprise", 1),
        ("a line\nand another", 1),
    ),
)
def test_a_bad_model_config(key, value, path):
    assert "damaged" in said_of(path, METADATA, ours("model", key, value))


@pytest.mark.parametrize(
    "training",
    (
        {"objective": "last", "sequence_length": None},
        {"objective": "last", "sequence_length": "ten"},
        {"objective": "last", "sequence_length": 0},
        {"objective": "last", "sequence_length": -5},
        {"objective": []},
        {"corpus": "some.txt"},
        {"corpus": [1]},
        {"held_out": {}},
        {"characters": "100"},
        {"lines": 1},
        {"val_fraction": "0.1"},
        {"val_fraction": 1.0},
        {"val_fraction": -1e-9},
        {"tokens": "byte"},
        {"tokens": "word"},
        {"corpus_sha256": ""},
        {"corpus_sha256": "A" * 64},
        {"corpus_sha256": "0" * 64 + "\n"},
        {"characters": -1},
        {"characters": 10**400},
        {"best_step": -1},
        {"best_step": 1.0},
        {"held_out": {**FIGURES, "more": 1}},
        {"held_out": {**FIGURES, "characters": 0.5}},
        {"held_out": {**FIGURES, "characters": -1}},
        {"held_out": {**FIGURES, "skipped": -1}},
        {"held_out": {**FIGURES, "bits_per_char": "2"}},
        {"held_out": {**FIGURES, "perplexity": float("inf")}},
        {"surprise": 1},
        {"\ud800": 1},
    ),
    ids=str,
)
def test_a_training_record_of_wrong_values(training, path):
    assert "damaged" in said_of(path, METADATA, ours("training", {**RECORD, **training}))


def test_a_good_figure(path):
    path.write_bytes(
        with_json(good_archive().members, METADATA, ours("training", "held_out", FIGURES))
    )
    assert read_archive(path).training["held_out"] == FIGURES


@pytest.mark.parametrize("name", RECORD)
def test_a_training_record_that_lacks(name, path):
    rest = {key: value for key, value in RECORD.items() if key != name}
    assert "damaged" in said_of(path, METADATA, ours("training", rest))


POINT = {"step": 1, "loss": 1.0, "learning_rate": 0.1}
HISTORIES = (
    *([], [1], [{}], [[]], [None], [{"step": 1}], [{**POINT, "loss": "low"}], [{**POINT, "a": 1}]),
    *([{**POINT, "step": -1}], [{**POINT, "step": 1.0}], [{**POINT, "step": True}]),
    *([{**POINT, "loss": 1e41}], [{**POINT, "bits_per_char": -1e308}]),
    *([{**POINT, "loss": None}], [POINT, {**POINT, "bits_per_char": []}]),
)


@pytest.mark.parametrize("history", HISTORIES, ids=str)
def test_a_history_that_is_none(history, path):
    assert "damaged" in said_of(path, METADATA, ours("history", history))


OFFSETS = (-1, -4, 10**6, 2**63 - 1, True, 1.0, "0", None, [0], MISSING)


@pytest.mark.parametrize("value", OFFSETS)
@pytest.mark.parametrize("tensor", ("embedding", "head/bias"))
def test_a_tensor_outside_the_file(tensor, value, path):
    message = said_of(path, METADATA, ours("tensors", tensor, "offset", value))
    assert f"tensor {tensor} lies outside the file" in message


def test_a_tensor_that_ends_one_byte_past_the_end(path):
    size = len(good_archive().members["model.weights.h5"])
    last = size - 4 * 11  # where the bias of the head could just lie
    message = said_of(path, METADATA, ours("tensors", "head/bias", "offset", last + 1))
    assert "outside" in message


@pytest.mark.parametrize("shift", (0, 4, -4, 1, 200))
def test_tensors_that_overlap(shift, path):
    tensors = json.loads(good_archive().members[METADATA])["chargen"]["tensors"]
    offset = tensors["recurrent_1/kernel"]["offset"] + shift
    message = said_of(path, METADATA, ours("tensors", "recurrent_2/kernel", "offset", offset))
    assert "overlap" in message


def test_tensors_that_overlap_by_one_byte(path):
    tensors = json.loads(good_archive().members[METADATA])["chargen"]["tensors"]
    spans = sorted(
        (entry["offset"], entry["offset"] + 4 * math.prod(entry["shape"]))
        for name, entry in tensors.items()
        if name != "head/bias"
    )
    room = 4 * 11  # of the head's bias
    end = next(end for (_, end), (start, _) in pairwise(spans) if start - end >= room)
    assert "overlap" in said_of(path, METADATA, ours("tensors", "head/bias", "offset", end - 1))
    side_by_side = ours("tensors", "head/bias", "offset", end)
    path.write_bytes(with_json(good_archive().members, METADATA, side_by_side))
    assert read_archive(path).tensors["head/bias"].shape == (11,)


@pytest.mark.parametrize(
    "value",
    ([5, 11], [55], [11, 5, 1], [11], [], [11, -5], [10**9, 10**9], 55, "11", None, MISSING),
)
def test_another_shape(value, path):
    message = said_of(path, METADATA, ours("tensors", "embedding", "shape", value))
    assert "tensor embedding has another shape" in message


@pytest.mark.parametrize("value", ("float64", "float16", "<f4", "object", "", None, 4, MISSING))
def test_another_dtype(value, path):
    message = said_of(path, METADATA, ours("tensors", "embedding", "dtype", value))
    assert "tensor embedding is not of a known dtype" in message


@pytest.mark.parametrize("value", (None, [], 9160, "embedding"))
def test_a_tensor_that_is_no_object(value, path):
    said_of(path, METADATA, ours("tensors", "embedding", value))


@pytest.mark.parametrize(("name", "value"), (("head/bias", MISSING), ("recurrent_3/bias", {})))
def test_a_tensor_too_few_or_too_many(name, value, path):
    assert "its list of tensors" in said_of(path, METADATA, ours("tensors", name, value))


def layers(*keys_and_value):
    return put("config", "layers", *keys_and_value)


def nested(class_name, module="keras.layers"):
    return {"module": module, "class_name": class_name, "config": {}, "registered_name": None}


# Layers of the good file: tokens, embedding, GRU, dropout, GRU, dropout, head.
CONFIGS = {
    "a Functional model": put("class_name", "Functional"),
    "a model of another module": put("module", "keras.src.models"),
    "no class": put("class_name", MISSING),
    "no config": put("config", MISSING),
    "a config that is a list": put("config", []),
    "no layers": put("config", "layers", MISSING),
    "an empty list of layers": put("config", "layers", []),
    "layers that are null": put("config", "layers", None),
    "layers that are an object": put("config", "layers", {"0": {}}),
    "layers that are numbers": put("config", "layers", [1, 2]),
    "a Lambda": layers(3, nested("Lambda")),
    "a Lambda at the end": lambda c: c["config"]["layers"].append(nested("Lambda")),
    "a TFSMLayer": layers(3, nested("TFSMLayer")),
    "another model inside": layers(3, nested("Sequential", "keras")),
    "a class of another package": layers(3, nested("Dense", "os")),
    "a custom class": layers(3, nested("Dense", "chargen.training.network")),
    "a class that is a list": layers(6, "class_name", ["Dense"]),
    "a class that is null": layers(6, "class_name", None),
    "a module that is a list": layers(6, "module", ["keras.layers"]),
    "a module that is null": layers(6, "module", None),
    "a layer without a config": layers(2, "config", MISSING),
    "a layer whose config is a list": layers(2, "config", []),
    "another cell": layers(2, "class_name", "LSTM"),
    "another number of units": layers(2, "config", "units", 8),
    "a layer less": lambda c: c["config"]["layers"].pop(4),
    "a layer more": lambda c: c["config"]["layers"].insert(4, c["config"]["layers"][4]),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_keras_config_of_another_network(name, path):
    assert "Keras config" in said_of(path, CONFIG, CONFIGS[name])


# Layers of known classes that make another function of the same weights, or name other code.
FINER_POINTS = {
    "a Lambda as activation": layers(6, "config", "activation", nested("__lambda__", "builtins")),
    "another function as activation": layers(6, "config", "activation", nested("system", "os")),
    "another class as initializer": layers(
        1, "config", "embeddings_initializer", nested("Popen", "subprocess")
    ),
    "no embedding": lambda c: c["config"]["layers"].pop(1),
    "no head": lambda c: c["config"]["layers"].pop(),
    "layers in another order": lambda c: c["config"]["layers"].reverse(),
    "another embedding": layers(1, "config", "output_dim", 6),
    "another vocabulary": layers(6, "config", "units", 12),
    "another activation": layers(2, "config", "activation", "relu"),
    "a head with an activation": layers(6, "config", "activation", "softmax"),
    "a GRU of the other kind": layers(2, "config", "reset_after", False),
    "a layer that reads backwards": layers(2, "config", "go_backwards", True),
    "only the last output": layers(4, "config", "return_sequences", False),
    "a head without bias": layers(6, "config", "use_bias", False),
    "a float16 layer": layers(6, "config", "dtype", "float16"),
    "true for a number": layers(6, "config", "use_bias", 1),
    "a number of another kind": layers(2, "config", "units", 7.0),
    "zero for false": layers(1, "config", "mask_zero", 0),
    "a kernel of a stranger's": layers(6, "config", "kernel_regularizer", nested("L2", "evil")),
    "a list of a stranger's": layers(6, "config", "quantization_config", [[nested("Popen")]]),
    "a class beside the layers": put("compile_config", nested("Adam", "keras.optimizers")),
}


@pytest.mark.parametrize("name", FINER_POINTS)
def test_a_keras_config_of_known_layers_that_is_not_ours(name, path):
    assert "Keras config" in said_of(path, CONFIG, FINER_POINTS[name])


def test_weights_that_are_gigantic_by_every_config(path):
    """2.3 billion parameters, in a file of a few kilobytes whose JSON agrees with itself."""
    model = ModelConfig(11, "gru", 16384, 2, 16384, 0.5)
    members = {**good_archive().members}
    metadata, config = json.loads(members[METADATA]), json.loads(members[CONFIG])
    ours, facts = metadata["chargen"], config["config"]["layers"]
    ours["model"] = model.to_dict()
    for name, shape in model.tensor_shapes.items():
        ours["tensors"][name]["shape"] = list(shape)
    facts[1]["config"]["output_dim"] = 16384
    for layer in (2, 4):
        facts[layer]["config"]["units"] = 16384
    members |= {METADATA: json.dumps(metadata).encode(), CONFIG: json.dumps(config).encode()}
    path.write_bytes(packed(members.items()))
    assert "lies outside the file" in refusal(path)


@pytest.mark.parametrize("number", ("1e999", "-1e999", "NaN", "Infinity", "1e400", "9" * 400))
@pytest.mark.parametrize("key", ("learning_rate", "loss", "dropout"))
def test_a_number_that_is_none(key, number, path):
    members = good_archive().members
    text = re.sub(rf'"{key}": [0-9.e-]+'.encode(), f'"{key}": {number}'.encode(), members[METADATA])
    assert text != members[METADATA]
    path.write_bytes(packed({**members, METADATA: text}.items()))
    assert "damaged model file: metadata.json: " in refusal(path)
