"""Whatever a model or a run may be is written and read back the same; whatever else is refused."""

import io
import json
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model_files import (
    KINDS,
    METADATA,
    ORIGIN,
    STATE,
    checkpoint_of,
    kind_of,
    packed,
    put,
    small_kind_of,
    with_json,
)
from networks import random_tensors

from chargen.archive import (
    Archive,
    build_archive,
    read_archive,
    revised_archive,
    verify_archive,
    write_archive,
)
from chargen.config import CELLS, ModelConfig, TrainingConfig
from chargen.container import Damaged, TensorEntry, json_object
from chargen.evaluation import Evaluation
from chargen.records import _expected_layers, weight_index, weight_paths
from chargen.training.budget import Plan
from chargen.training.checkpoint import read_checkpoint, write_checkpoint
from chargen.training.run import Run
from chargen.vocabulary import Vocabulary

few = settings(deadline=None, max_examples=25)
many = settings(deadline=None, max_examples=100)

texts = st.text(max_size=20)
paths = st.text(st.characters() | st.sampled_from(["\udc80", "\udcff", "\n", "\x1b"]), max_size=9)
counts = st.integers(0, 10**12)
fractions = st.floats(0, 1, exclude_max=True)
numbers = st.floats(allow_nan=False, allow_infinity=False)
sha256s = st.text("0123456789abcdef", min_size=64, max_size=64)
characters = st.characters(exclude_categories=["Cs"]) | st.sampled_from(
    "\0\n\x7f\u2028😀\U0010ffff"
)
vocabularies = st.sets(characters, min_size=1, max_size=40).map(
    lambda found: Vocabulary.from_code_points(map(ord, found))
) | st.just(Vocabulary.of_bytes())


@st.composite
def models(draw, vocabulary=vocabularies):
    vocabulary = draw(vocabulary)
    config = ModelConfig(
        len(vocabulary),
        draw(st.sampled_from(CELLS)),
        units=draw(st.integers(1, 5)),
        num_layers=draw(st.integers(1, 3)),
        embedding_dim=draw(st.integers(1, 4)),
        dropout=draw(st.sampled_from([0.0, 0.5]) | st.floats(0, 0.95)),
    )
    return config, vocabulary


losses = st.floats(-1e40, 1e40)
histories = st.lists(
    st.fixed_dictionaries(
        {"step": counts, "loss": losses, "learning_rate": losses},
        optional={"bits_per_char": losses},
    ),
    min_size=1,
    max_size=5,
)
lengths = st.sampled_from(("epochs", "steps")).flatmap(
    lambda name: st.integers(1, 10**9).map(lambda value: {name: value})
) | st.floats(1, 366 * 86400).map(lambda value: {"budget": value})
maybe_counts = st.none() | st.integers(1, 10**6)


@st.composite
def trainings(draw):
    return TrainingConfig(
        objective=draw(st.sampled_from(("sequence", "last"))),
        batch_size=draw(st.integers(1, 5)),
        sequence_length=draw(st.integers(1, 65536)),
        stride=draw(st.integers(1, 65536)),
        learning_rate=draw(st.floats(1e-8, 10)),
        patience=draw(maybe_counts),
        validate_every=draw(maybe_counts),
        precision=draw(st.sampled_from(("float32", "bfloat16"))),
        deterministic=draw(st.booleans()),
        random_seed=draw(st.integers(0, 2**63 - 1)),
        **draw(lengths),
    )


@st.composite
def origins(draw, vocabulary):
    values = (
        draw(st.none() | st.lists(paths, max_size=3)),
        draw(sha256s),
        vocabulary.kind,
        draw(texts),
        draw(st.booleans()),
        draw(st.none() | fractions),
        draw(st.none() | paths),
    )
    return dict(zip(ORIGIN, values, strict=True))


figures = st.builds(
    lambda nats, hits, misses, skipped: Evaluation(nats, hits, 1 + hits + misses, skipped),
    st.floats(0, 1e12),
    *[st.integers(0, 10**9)] * 3,
)


def weights_of(config: ModelConfig, tensors) -> bytes:
    """An HDF5 file with the groups of Keras'."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for name, path in weight_paths(config).items():
            file[path] = tensors[name]
    return buffer.getvalue()


def keras_config_of(config: ModelConfig):
    layers = [
        {"module": "keras.layers", "class_name": name, "config": facts}
        for name, facts in _expected_layers(config)
    ]
    return {"module": "keras", "class_name": "Sequential", "config": {"layers": layers}}


@st.composite
def archives(draw) -> Archive:
    config, vocabulary = draw(models())
    tensors = random_tensors(config, draw(st.integers(0, 99)))
    weights = weights_of(config, tensors)
    index = weight_index(weights, config)
    held_out = draw(st.none() | figures.map(Evaluation.to_dict))
    return build_archive(
        model=config,
        vocabulary=vocabulary,
        training={
            **draw(trainings()).to_dict(),
            **draw(origins(vocabulary)),
            "characters": draw(counts),
            "best_step": draw(counts),
            "completed": draw(st.booleans()),
            "as_planned": draw(st.booleans()),
            "held_out": held_out,
        },
        history=draw(histories),
        keras_version=draw(texts),
        keras_config=keras_config_of(config),
        weights=weights,
        entries={name: TensorEntry(offset, shape) for name, (offset, shape) in index.items()},
    )


@few
@given(archives())
def test_any_model_comes_back_and_is_written_as_the_same_bytes(archive):
    facts = kind_of("model").facts
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        write_archive(path, archive)
        written = path.read_bytes()
        read = read_archive(path)
        assert facts(read) == facts(archive)
        verify_archive(read, path)
        write_archive(path, read)
        assert path.read_bytes() == written


@few
@given(archives(), archives(), st.integers(0, 99))
def test_revised_is_built_anew(archive, other, seed):
    tensors = random_tensors(archive.model, seed)
    training = {**other.training, "tokens": archive.vocabulary.kind}
    revised = revised_archive(archive, tensors, training, other.history)
    assert (revised.training, revised.history) == (training, other.history)
    for name, value in tensors.items():
        np.testing.assert_array_equal(revised.tensors[name], value)
    verify_archive(revised, None)
    back = revised_archive(revised, archive.tensors, archive.training, archive.history)
    assert kind_of("model").facts(back) == kind_of("model").facts(archive)


@st.composite
def checkpoints(draw):
    config, vocabulary = draw(models())
    made = checkpoint_of(config)
    training = draw(trainings())
    steps = draw(counts)
    step = draw(st.integers(0, steps))
    states = {
        name: np.zeros((training.batch_size, config.units), np.float32)
        for name in made.variables
        if name.startswith("state/")
    }
    best = draw(st.none() | st.just(random_tensors(config, seed=5)))
    run = Run(
        Plan(steps, draw(st.integers(1, 10**9))),
        step=step,
        best_step=draw(st.integers(0, step)),
        history=draw(st.just([]) | histories),
        best=best,
        best_figure=draw(st.none() | figures),
        without_gain=draw(counts),
        halvings=draw(st.integers(0, 9)),
        threads=draw(st.integers(0, 99)),
        is_over=draw(st.booleans()),
        as_planned=draw(st.booleans()),
        seconds=draw(st.floats(0, 1e12)),
        step_seconds=draw(st.floats(0, 1e3)),
        validation_seconds=draw(st.floats(0, 1e3)),
    )
    asked = draw(
        st.dictionaries(
            st.sampled_from(sorted({*config.to_dict(), *training.to_dict(), *ORIGIN})),
            st.none() | st.booleans() | counts | numbers | paths,
        )
    )
    return replace(
        made,
        training=training,
        vocabulary=vocabulary,
        asked=asked,
        origin=draw(origins(vocabulary)),
        run=run,
        variables={**made.variables, **states},
    )


@few
@given(checkpoints())
def test_any_state_comes_back_and_is_written_as_the_same_bytes(checkpoint):
    facts = kind_of("state").facts
    with TemporaryDirectory() as folder:
        path = Path(folder) / "state"
        write_checkpoint(path, checkpoint)
        written = path.read_bytes()
        read = read_checkpoint(path)
        assert facts(read) == facts(checkpoint)
        write_checkpoint(path, read)
        assert path.read_bytes() == written


odd_texts = st.text(st.characters() | st.sampled_from(["\ud800", "\udfff"]), max_size=4)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | odd_texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(odd_texts, inner, max_size=4),
    max_leaves=12,
)
KEYS = ("format", "vocabulary", "model", "training", "history", "weights_sha256", "tensors")
STATE_KEYS = ("format", "model", "training", "vocabulary", "asked", "origin", "run", "tensors")


def refused(name: str, file: bytes) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(file)
        kind_of(name).refusal(path)


@many
@given(st.sampled_from(KEYS), anything)
def test_anything_in_the_place_of_an_entry_of_a_model_is_refused(key, value):
    members = small_kind_of("model").members
    if json.loads(members[METADATA])["chargen"][key] != value or type(value) is bool:
        refused("model", with_json(members, METADATA, put("chargen", key, value)))


@many
@given(st.sampled_from(STATE_KEYS), anything)
def test_anything_in_the_place_of_an_entry_of_a_state_is_refused(key, value):
    members = small_kind_of("state").members
    found = json.loads(members[STATE])[key]
    if (found != value or type(value) is bool) and (key, value) != ("asked", {}):
        refused("state", with_json(members, STATE, put(key, value)))


@many
@given(st.sampled_from([("model", 0), ("model", 1), ("state", 0)]), anything)
def test_anything_in_the_place_of_all_json_is_refused(place, value):
    name, number = place
    members = small_kind_of(name).members
    text = json.dumps(value).encode()
    refused(name, packed({**members, small_kind_of(name).json_names[number]: text}.items()))


@many
@given(st.dictionaries(odd_texts, anything), st.booleans())
def test_the_reader_of_json_agrees_with_pythons(value, ensure_ascii):
    """But for what it refuses: numbers that are not finite or have more than 64 bits."""
    try:
        text = json.dumps(value, ensure_ascii=ensure_ascii).encode()
    except UnicodeEncodeError:
        text = json.dumps(value).encode()
    try:
        found = json_object(text, "it")
    except Damaged as error:
        assert "is no number" in str(error) or "64 bits" in str(error)
        with_numbers = json.dumps(_numbers_in(value))
        assert "NaN" in with_numbers or "Infinity" in with_numbers or _is_large(value)
    else:
        assert json.dumps(found) == json.dumps(value)


def _numbers_in(value):
    if isinstance(value, dict):
        value = list(value.values())
    return [_numbers_in(item) for item in value] if isinstance(value, list) else value


def _is_large(value) -> bool:
    numbers = _numbers_in(value)
    if isinstance(numbers, list):
        return any(map(_is_large, numbers))
    return isinstance(numbers, int) and abs(numbers) >= 2**63


@pytest.mark.parametrize("name", KINDS)
def test_a_good_file_is_not_refused(name):
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        refused(name, packed(small_kind_of(name).members.items()))
