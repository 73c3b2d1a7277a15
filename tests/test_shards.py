"""A step cut into shards against the whole one, against Keras' own step, and in bfloat16."""

import numpy as np
import pytest
from networks import every_cell, random_tensors, random_tokens, small_config, stock_network

from chargen.config import ModelConfig, TrainingConfig
from chargen.training import precision


@pytest.fixture(scope="module", autouse=True)
def keras():
    from chargen.training.backend import ensure_backend

    ensure_backend()
    import keras

    return keras


def trained(config, monkeypatch, *, shards=1, recurrence="kernels", steps=3, **options):
    """Losses, weights and states after some steps on batches of four rows.

    Of gradient descent: Adam makes as much of a gradient of 1e-9 as of one of 1. Without clipping:
    Keras takes the norm of a stock embedding's gradient before rows of one token are summed.
    """
    from chargen.training import network as room

    monkeypatch.setattr(room, "num_shards", lambda batch_size: shards)
    import keras

    network = stock_network(config, random_tensors(config))
    face = room.TrainingNetwork(network, config, 4, recurrence=recurrence, **options)
    face.compile(
        optimizer=keras.optimizers.SGD(0.1),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    text = random_tokens(config, steps, 7, 4)
    carry = np.array([1, 1, 0, 1], np.float32)
    losses = [
        face.train_on_batch((window[:-1], carry), window[1:], return_dict=True)["loss"]
        for window in text
    ]
    states = [np.asarray(state) for layer in face.states for state in layer]
    return losses, room.tensors_of(network), states


def assert_same(found, expected, **tolerance):
    losses, weights, states = found
    np.testing.assert_allclose(losses, expected[0], **tolerance)
    for name, value in expected[1].items():
        np.testing.assert_allclose(weights[name], value, err_msg=name, **tolerance)
    for state, value in zip(states, expected[2], strict=True):
        np.testing.assert_allclose(state, value, **tolerance)


@pytest.mark.parametrize(
    ("cell", "shards", "dropout"),
    [("rnn", 2, 0.5), ("lstm", 2, 0.5), ("gru", 2, 0.5), ("lstm", 4, 0.0)],
)
def test_shards_learn_what_the_whole_batch_learns(cell, shards, dropout, monkeypatch):
    config = small_config(cell, 2, dropout=dropout)
    whole = trained(config, monkeypatch)
    assert_same(trained(config, monkeypatch, shards=shards), whole, rtol=1e-4, atol=1e-5)


@every_cell
def test_a_step_is_the_step_of_keras_on_stock_layers(cell, monkeypatch):
    config = small_config(cell, 2)
    stock = trained(config, monkeypatch, recurrence="stock")
    assert_same(trained(config, monkeypatch, shards=2), stock, rtol=1e-4, atol=1e-5)


@every_cell
def test_bfloat16_products_learn_nearly_the_same(cell, monkeypatch):
    config = small_config(cell, 2)
    exact = trained(config, monkeypatch, recurrence="stock")
    rounded = trained(config, monkeypatch, shards=2, precision="bfloat16")
    np.testing.assert_allclose(rounded[0], exact[0], rtol=0.01)
    for state, value in zip(rounded[2], exact[2], strict=True):
        np.testing.assert_allclose(state, value, atol=0.05)
    assert rounded[0] != exact[0], "the products were made in float32"


def test_the_loss_is_that_before_the_step(monkeypatch):
    config = small_config("lstm")
    from chargen.cells import CellWeights, forward

    tensors = random_tensors(config)
    window = random_tokens(config, 1, 7, 4)[0]
    weights = CellWeights(
        *(tensors[f"recurrent_1/{name}"] for name in ("kernel", "recurrent_kernel", "bias"))
    )
    zero = np.zeros((4, config.units), np.float32)
    outputs, *_ = forward("lstm", weights, tensors["embedding"][window[:-1]], (zero, zero))
    logits = outputs @ tensors["head/kernel"] + tensors["head/bias"]
    logs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    expected = -np.take_along_axis(logs, window[1:, :, np.newaxis], axis=-1).mean()
    losses, *_ = trained(config, monkeypatch, shards=2, steps=1)
    assert losses == [pytest.approx(expected, abs=1e-5)]


@pytest.mark.parametrize(
    ("processors", "batch_size", "expected"),
    [
        (1, 64, 1),
        (2, 64, 2),
        (2, 31, 1),
        (2, 16, 1),
        (4, 48, 3),
        (16, 64, 4),
        (3, 64, 2),
        (8, 1, 1),
    ],
)
def test_a_shard_has_an_equal_and_a_good_number_of_rows(
    processors, batch_size, expected, monkeypatch
):
    from chargen.training import shards

    monkeypatch.setattr(shards.os, "sched_getaffinity", lambda pid: set(range(processors)))
    assert shards.num_shards(batch_size) == expected


def test_the_head_expects_the_frequencies_of_the_corpus():
    from chargen.training.network import expect_frequencies

    network = stock_network(small_config("lstm", vocabulary_size=3))
    expect_frequencies(network, np.array([6, 0, 1]))
    bias = np.asarray(network.get_layer("head").bias)
    np.testing.assert_allclose(np.exp(bias), [0.7, 0.1, 0.2], rtol=1e-6)


@pytest.mark.parametrize(
    ("cell", "units", "batch_size", "processor", "expected"),
    [
        ("lstm", 512, 64, "fpu avx512_bf16 sse", "bfloat16"),
        ("lstm", 1024, 64, "amx_bf16", "bfloat16"),
        ("lstm", 512, 64, "fpu avx512f sse", "float32"),
        ("lstm", 256, 64, "avx512_bf16", "float32"),
        ("lstm", 512, 32, "avx512_bf16", "float32"),
        ("gru", 512, 64, "avx512_bf16", "bfloat16"),
        ("rnn", 512, 64, "avx512_bf16", "float32"),
    ],
)
def test_the_precision_follows_processor_and_shape(
    cell, units, batch_size, processor, expected, monkeypatch
):
    precision.has_bfloat16_products.cache_clear()
    monkeypatch.setattr(precision.Path, "read_text", lambda path: f"x : y\nflags : {processor}\n")
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    model = ModelConfig(65, cell, units)
    assert precision.automatic_precision(model, batch_size) == expected
    precision.has_bfloat16_products.cache_clear()
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    assert precision.automatic_precision(model, batch_size) == "float32"
    precision.has_bfloat16_products.cache_clear()


def test_the_precision_is_one_of_two():
    with pytest.raises(Exception, match=r"^--precision 'int8': expected one of float32, bfloat16"):
        TrainingConfig(steps=1, precision="int8")
