"""The three configs: every range on both sides, the dict round trip, sizes counted by hand."""

import json
import math
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chargen.config import CELLS, ModelConfig, SamplingConfig, TrainingConfig
from chargen.errors import UsageError

Config = ModelConfig | TrainingConfig | SamplingConfig

YEAR = 366 * 86400

# config, field, lowest, highest, the option that the error names
WHOLE_NUMBERS = [
    (ModelConfig, "vocabulary_size", 1, 0x110000, "vocabulary_size"),
    (ModelConfig, "units", 1, 16384, "--units"),
    (ModelConfig, "num_layers", 1, 16, "--layers"),
    (ModelConfig, "embedding_dim", 1, 16384, "--embedding-dim"),
    (TrainingConfig, "batch_size", 1, 65536, "--batch-size"),
    (TrainingConfig, "sequence_length", 1, 65536, "--sequence-length"),
    (TrainingConfig, "stride", 1, 65536, "--stride"),
    (TrainingConfig, "epochs", 1, 10**9, "--epochs"),
    (TrainingConfig, "steps", 1, 10**12, "--steps"),
    (TrainingConfig, "patience", 1, 10**6, "--patience"),
    (TrainingConfig, "validate_every", 1, 10**12, "--validate-every"),
    (TrainingConfig, "random_seed", 0, 2**63 - 1, "--random-seed"),
    (SamplingConfig, "top_k", 0, 0x110000, "--top-k"),
    (SamplingConfig, "repetition_window", 1, 10**6, "--repetition-window"),
]
NUMBERS = [
    (ModelConfig, "dropout", 0.0, 0.95, "--dropout"),
    (TrainingConfig, "learning_rate", 1e-8, 10.0, "--learning-rate"),
    (TrainingConfig, "budget", 1.0, float(YEAR), "--budget"),
    (SamplingConfig, "temperature", 0.0, 100.0, "--temperature"),
    (SamplingConfig, "top_p", 0.0, 1.0, "--top-p"),
    (SamplingConfig, "min_p", 0.0, 1.0, "--min-p"),
    (SamplingConfig, "repetition_penalty", 0.01, 100.0, "--repetition-penalty"),
]
CHOICES = [(ModelConfig, "cell", "--cell"), (TrainingConfig, "objective", "--objective")]
LENGTHS = ("budget", "epochs", "steps")

every_whole_number = pytest.mark.parametrize(
    ("kind", "name", "low", "high", "option"), WHOLE_NUMBERS
)
every_number = pytest.mark.parametrize(("kind", "name", "low", "high", "option"), NUMBERS)


def names_of(ranges: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return [(kind, name, option) for kind, name, _, _, option in ranges]


def made(kind: type[Config], **fields: Any) -> Any:
    """A config of ``kind`` that is valid where ``fields`` are."""
    needed: dict[str, Any] = {}
    if kind is ModelConfig:
        needed = {"vocabulary_size": 65}
    if kind is TrainingConfig and not any(name in fields for name in LENGTHS):
        needed = {"steps": 10}
    return kind(**(needed | fields))


def refusal(kind: type[Config], **fields: Any) -> str:
    """The one line with which ``fields`` are refused."""
    with pytest.raises(UsageError) as caught:
        made(kind, **fields)
    assert caught.value.status == 2
    message = str(caught.value)
    assert message
    assert "\n" not in message
    return message


@every_whole_number
def test_a_whole_number_reaches_from_its_lowest_to_its_highest(kind, name, low, high, option):
    for value in (low, high):
        assert getattr(made(kind, **{name: value}), name) == value
    for value in (low - 1, high + 1, -high, 10**30):
        message = refusal(kind, **{name: value})
        assert message.startswith(f"{option} {value}: ")
        assert f"from {low:,} to {high:,}" in message


@pytest.mark.parametrize(("kind", "name", "option"), names_of(WHOLE_NUMBERS))
@pytest.mark.parametrize("value", [True, False, 1.0, "1", [1], math.nan])
def test_nothing_but_an_int_is_a_whole_number(kind, name, option, value):
    assert option in refusal(kind, **{name: value})


@every_number
def test_a_number_reaches_from_its_lowest_to_its_highest(kind, name, low, high, option):
    for value in (low, high, (low + high) / 2):
        assert getattr(made(kind, **{name: value}), name) == value
    below, above = math.nextafter(low, -math.inf), math.nextafter(high, math.inf)
    for value in (below, above, -math.inf, math.inf, math.nan, -1):
        message = refusal(kind, **{name: value})
        assert message.startswith(f"{option} {value!r}: ")


@pytest.mark.parametrize(("kind", "name", "option"), names_of(NUMBERS))
@pytest.mark.parametrize("value", [True, False, "0.5", [0.5], 1j])
def test_a_number_is_an_int_or_a_float(kind, name, option, value):
    assert option in refusal(kind, **{name: value})


@pytest.mark.parametrize(
    ("kind", "name"), [(k, n) for k, n, low, high, _ in NUMBERS if low <= 1 <= high]
)
def test_an_int_serves_as_a_number(kind, name):
    assert getattr(made(kind, **{name: 1}), name) == 1


@pytest.mark.parametrize(("kind", "name", "option"), names_of(NUMBERS))
def test_an_int_too_large_for_a_float_is_refused_like_any_other(kind, name, option):
    assert option in refusal(kind, **{name: 10**400})


@pytest.mark.parametrize(("kind", "name", "option"), CHOICES)
@pytest.mark.parametrize("value", ["", "LSTM", "Sequence", "transformer", None, 1, ["lstm"]])
def test_a_choice_is_one_of_its_words(kind, name, option, value):
    message = refusal(kind, **{name: value})
    assert repr(value) in message
    assert option in message


def test_every_word_of_a_choice_is_taken():
    assert CELLS == ("rnn", "lstm", "gru")
    assert [made(ModelConfig, cell=cell).cell for cell in CELLS] == list(CELLS)
    for objective in ("sequence", "last"):
        assert made(TrainingConfig, objective=objective).objective == objective


@pytest.mark.parametrize("name", ["vocabulary_size", "units", "cell", "dropout"])
def test_none_is_no_value_of_a_required_field(name):
    assert name in refusal(ModelConfig, **{name: None})


@pytest.mark.parametrize("name", ["patience", "validate_every"])
def test_none_leaves_an_optional_count_out(name):
    assert getattr(made(TrainingConfig, **{name: None}), name) is None


@pytest.mark.parametrize(
    "chosen", [(), *((a, b) for a in LENGTHS for b in LENGTHS if a < b), LENGTHS]
)
def test_exactly_one_length_is_set(chosen):
    with pytest.raises(UsageError, match="how long to train") as caught:
        TrainingConfig(**dict.fromkeys(chosen, 5))
    for name in chosen[:2] or LENGTHS:
        assert f"--{name}" in str(caught.value)


@pytest.mark.parametrize("name", LENGTHS)
def test_each_length_alone_is_enough(name):
    config = TrainingConfig(**{name: 5})
    assert [other for other in LENGTHS if getattr(config, other) is not None] == [name]


def test_a_length_of_zero_is_out_of_range_and_not_left_out():
    for name in LENGTHS:
        assert f"--{name}" in refusal(TrainingConfig, **{name: 0})


def test_a_config_is_frozen_and_checked_again_when_replaced():
    config = ModelConfig(65)
    with pytest.raises(FrozenInstanceError):
        config.units = 3
    with pytest.raises(UsageError, match="units 0"):
        replace(config, units=0)


model_configs = st.builds(
    ModelConfig,
    vocabulary_size=st.integers(1, 0x110000),
    cell=st.sampled_from(CELLS),
    units=st.integers(1, 16384),
    num_layers=st.integers(1, 16),
    embedding_dim=st.integers(1, 16384),
    dropout=st.floats(0, 0.95),
)
training_configs = st.builds(
    lambda length, **fields: TrainingConfig(**fields, **dict([length])),
    length=st.one_of(
        st.tuples(st.just("budget"), st.floats(1, YEAR)),
        st.tuples(st.sampled_from(["epochs", "steps"]), st.integers(1, 10**9)),
    ),
    objective=st.sampled_from(["sequence", "last"]),
    batch_size=st.integers(1, 65536),
    learning_rate=st.floats(1e-8, 10),
    patience=st.none() | st.integers(1, 10**6),
    random_seed=st.integers(0, 2**63 - 1),
)
sampling_configs = st.builds(
    SamplingConfig,
    temperature=st.floats(0, 100),
    top_k=st.integers(0, 0x110000),
    top_p=st.floats(0, 1),
    min_p=st.floats(0, 1),
    repetition_penalty=st.floats(0.01, 100),
    repetition_window=st.integers(1, 10**6),
)


@settings(deadline=None, max_examples=60)
@given(st.one_of(model_configs, training_configs, sampling_configs))
def test_a_config_survives_a_dict_and_json(config):
    values = config.to_dict()
    assert type(config).from_dict(values) == config
    assert type(config).from_dict(json.loads(json.dumps(values))) == config


@pytest.mark.parametrize("kind", [ModelConfig, TrainingConfig, SamplingConfig])
def test_a_missing_or_unknown_entry_is_named(kind):
    values = made(kind).to_dict()
    for name in values:
        with pytest.raises(UsageError, match=rf"^missing or unknown.*\b{name}\b"):
            kind.from_dict({key: value for key, value in values.items() if key != name})
    with pytest.raises(UsageError, match=r"^missing or unknown.*: 'hidden_units'$"):
        kind.from_dict(values | {"hidden_units": 3})


def test_a_bad_entry_of_a_dict_is_refused():
    with pytest.raises(UsageError, match=r"^--units '256': "):
        ModelConfig.from_dict(ModelConfig(65).to_dict() | {"units": "256"})


# Of 10 characters in 4 dimensions: embedding 40, head 3·10 + 10 = 40. A layer of 3 units on n
# inputs has g·3·(n + 3) weights and g·3 biases for g gates; the GRU has its biases twice.
@pytest.mark.parametrize(
    ("cell", "totals"),
    [("rnn", (104, 125, 146)), ("lstm", (176, 260, 344)), ("gru", (161, 233, 305))],
)
def test_parameters_are_counted_as_by_hand(cell, totals):
    for num_layers, total in enumerate(totals, start=1):
        config = ModelConfig(10, cell=cell, units=3, num_layers=num_layers, embedding_dim=4)
        assert config.num_parameters == total


@pytest.mark.parametrize(
    ("cell", "columns", "bias"), [("rnn", 3, (3,)), ("lstm", 12, (12,)), ("gru", 9, (2, 9))]
)
def test_tensor_shapes_are_those_of_keras_in_order(cell, columns, bias):
    config = ModelConfig(10, cell=cell, units=3, num_layers=2, embedding_dim=4)
    assert list(config.tensor_shapes.items()) == [
        ("embedding", (10, 4)),
        ("recurrent_1/kernel", (4, columns)),
        ("recurrent_1/recurrent_kernel", (3, columns)),
        ("recurrent_1/bias", bias),
        ("recurrent_2/kernel", (3, columns)),
        ("recurrent_2/recurrent_kernel", (3, columns)),
        ("recurrent_2/bias", bias),
        ("head/kernel", (3, 10)),
        ("head/bias", (10,)),
    ]


@pytest.mark.parametrize("num_layers", [1, 3, 16])
def test_each_layer_has_three_tensors(num_layers):
    shapes = ModelConfig(7, num_layers=num_layers).tensor_shapes
    assert len(shapes) == 3 + 3 * num_layers
    assert f"recurrent_{num_layers}/bias" in shapes
