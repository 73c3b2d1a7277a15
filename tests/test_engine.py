"""The NumPy engine against stock Keras, against ``chargen.cells``, and against itself."""

from itertools import pairwise

import numpy as np
import pytest
from networks import (
    every_cell,
    every_depth,
    random_engine,
    random_tensors,
    random_tokens,
    small_config,
    stock_logits,
    stock_network,
    tensors_of,
)

from chargen import blas, cells
from chargen import engine as engine_module
from chargen.engine import Engine

TOLERANCE = {"rtol": 0, "atol": 1e-5}  # other orders of the same sums, which a SimpleRNN lets grow


@every_depth
@every_cell
def test_carried_state_gives_the_logits_of_stock_keras(cell, num_layers):
    config = small_config(cell, num_layers)
    network = stock_network(config, random_tensors(config))
    engine = Engine(config, tensors_of(network))
    tokens = random_tokens(config, 16, 3)
    state = engine.zero_state(3)
    found = [engine.prefill(state, tokens[:6]), *(engine.step(state, row) for row in tokens[6:])]
    np.testing.assert_allclose(found, stock_logits(network, tokens)[5:], **TOLERANCE)


@every_depth
@every_cell
def test_rolling_window_gives_the_logits_of_stock_keras(cell, num_layers):
    config = small_config(cell, num_layers)
    network = stock_network(config, random_tensors(config))
    engine = Engine(config, tensors_of(network))
    text, window = random_tokens(config, 12), 5
    windows = np.stack([text[end - window : end] for end in range(window, text.size + 1)])
    expected = stock_logits(network, windows.T)[-1]
    state = engine.zero_state()
    found = []
    for tokens in windows:
        state.reset()
        found.append(engine.prefill(state, tokens))
    np.testing.assert_allclose(found, expected, **TOLERANCE)
    together = engine.prefill(engine.zero_state(len(windows)), windows.T)
    np.testing.assert_allclose(together, expected, **TOLERANCE)


@every_cell
def test_a_network_as_it_is_born_gives_the_logits_of_stock_keras(cell):
    network = stock_network(config := small_config(cell, 2, units=32, dropout=0.3))
    engine = Engine(config, tensors_of(network))
    tokens = random_tokens(config, 20, 2)
    outputs = engine.body.run(engine.zero_state(2), tokens)
    np.testing.assert_allclose(engine.head(outputs), stock_logits(network, tokens), **TOLERANCE)


@every_depth
@every_cell
def test_outputs_and_states_are_those_of_the_reference_cells(cell, num_layers):
    config = small_config(cell, num_layers)
    tensors = random_tensors(config)
    tokens = random_tokens(config, 9, 4)
    outputs, states = tensors["embedding"][tokens], []
    for layer in range(1, num_layers + 1):
        weights = cells.CellWeights(
            *(tensors[f"recurrent_{layer}/{n}"] for n in ("kernel", "recurrent_kernel", "bias"))
        )
        zero = cells.zero_state(cell, 4, config.units)
        outputs, state, _ = cells.forward(cell, weights, outputs, zero)
        states.extend(state)
    engine = Engine(config, tensors)
    state = engine.zero_state(4)
    np.testing.assert_allclose(engine.body.run(state, tokens), outputs, **TOLERANCE)
    assert len(state.arrays) == len(states)
    for found, expected in zip(state.arrays, states, strict=True):
        np.testing.assert_allclose(found, expected, **TOLERANCE)
    assert np.shares_memory(state.output, state.arrays[-cells.STATE_ARRAYS[cell]])


@every_depth
@every_cell
def test_without_the_folded_table_logits_are_the_same(cell, num_layers, monkeypatch):
    config = small_config(cell, num_layers)
    tokens = random_tokens(config, 10, 3)
    found = []
    for limit in (engine_module._LARGEST_TABLE_BYTES, 0):
        monkeypatch.setattr(engine_module, "_LARGEST_TABLE_BYTES", limit)
        engine = random_engine(config)
        assert (engine.body._table is None) == (limit == 0)
        state, single = engine.zero_state(3), engine.zero_state()
        found.append(
            np.concatenate(
                [
                    engine.head(engine.body.run(state, tokens[:8])).ravel(),
                    engine.step(state, tokens[8]).ravel(),
                    engine.prefill(single, tokens[:8, 0]),
                    engine.step(single, int(tokens[8, 0])),
                ]
            )
        )
    np.testing.assert_allclose(*found, **TOLERANCE)


def test_only_a_large_vocabulary_goes_without_the_folded_table():
    columns = 4 * 16
    border = engine_module._LARGEST_TABLE_BYTES // (4 * columns)
    for vocabulary_size, has_table in ((border, True), (border + 1, False)):
        config = small_config("lstm", vocabulary_size=vocabulary_size, units=16, embedding_dim=1)
        tensors = {n: np.zeros(shape, np.float32) for n, shape in config.tensor_shapes.items()}
        assert (Engine(config, tensors).body._table is not None) == has_table


@every_depth
@every_cell
def test_a_single_stream_equals_its_place_in_a_batch(cell, num_layers):
    engine = random_engine(config := small_config(cell, num_layers))
    tokens = random_tokens(config, 12, 3)
    batch = engine.zero_state(3)
    expected = np.stack(
        [engine.prefill(batch, tokens[:7]), *(engine.step(batch, row) for row in tokens[7:])]
    )
    for stream in range(3):
        state = engine.zero_state()
        found = [engine.prefill(state, tokens[:7, stream])]
        found += [engine.step(state, int(token)) for token in tokens[7:, stream]]
        np.testing.assert_allclose(found, expected[:, stream], **TOLERANCE)
        for single, all_streams in zip(state.arrays, batch.arrays, strict=True):
            np.testing.assert_allclose(single, all_streams[stream], **TOLERANCE)


@every_depth
@every_cell
def test_two_halves_equal_the_whole(cell, num_layers):
    engine = random_engine(config := small_config(cell, num_layers))
    tokens = random_tokens(config, 13, 2)
    once, twice = engine.zero_state(2), engine.zero_state(2)
    whole = engine.body.run(once, tokens)
    for first, last in pairwise((0, 1, 6, 13)):
        part = engine.body.run(twice, tokens[first:last])
        np.testing.assert_allclose(part, whole[first:last], **TOLERANCE)
    for a, b in zip(once.arrays, twice.arrays, strict=True):
        np.testing.assert_allclose(a, b, **TOLERANCE)


@every_cell
def test_prefill_equals_steps(cell):
    engine = random_engine(config := small_config(cell, 2))
    tokens = random_tokens(config, 9)
    stepped = engine.zero_state()
    logits = [engine.step(stepped, int(token)) for token in tokens]
    read = engine.zero_state()
    np.testing.assert_allclose(engine.prefill(read, tokens), logits[-1], **TOLERANCE)
    np.testing.assert_allclose(engine.logits(read), logits[-1], **TOLERANCE)


@pytest.mark.parametrize("batch_size", (1, 4, 6, 29))
@every_cell
def test_a_batch_multiplied_in_tiles_is_the_same(cell, batch_size, monkeypatch):
    """Tiles of columns too, of which `blas` makes none in networks as small as these."""
    monkeypatch.setattr(blas, "num_threads", lambda: 1)
    monkeypatch.setattr(blas, "_BLOCK_COLUMNS", 4)
    monkeypatch.setattr(blas, "_ENOUGH_ROWS", 10**6)
    config = small_config(cell, 2, units=12)
    tokens = random_tokens(config, 9, batch_size)
    outputs = []
    for is_fast in (False, True):
        monkeypatch.setattr(blas, "_small_products", lambda is_fast=is_fast: is_fast)
        engine = random_engine(config)
        outputs.append(engine.body.run(engine.zero_state(batch_size), tokens))
    np.testing.assert_allclose(*outputs, **TOLERANCE)


@every_cell
def test_zero_state_knows_only_the_bias_of_the_head(cell):
    config = small_config(cell, 2)
    tensors = random_tensors(config)
    engine = Engine(config, tensors)
    np.testing.assert_array_equal(engine.logits(engine.zero_state()), tensors["head/bias"])
    expected = np.tile(tensors["head/bias"], (4, 1))
    np.testing.assert_array_equal(engine.logits(engine.zero_state(4)), expected)


@every_cell
def test_a_reset_state_is_a_fresh_one(cell):
    engine = random_engine(config := small_config(cell, 2))
    tokens = random_tokens(config, 8)
    fresh, used = engine.zero_state(), engine.zero_state()
    before = engine.prefill(used, tokens[::-1])
    used.reset()
    assert not any(array.any() for array in used.arrays)
    after = engine.prefill(used, tokens)
    np.testing.assert_array_equal(after, engine.prefill(fresh, tokens))
    assert np.abs(after - before).max() > 1e-3


@every_cell
def test_states_of_one_engine_do_not_disturb_each_other(cell):
    engine = random_engine(config := small_config(cell, 2))
    texts = random_tokens(config, 2, 10)
    alone = []
    for text in texts:
        state = engine.zero_state()
        alone.append([engine.step(state, int(token)) for token in text])
    states = [engine.zero_state(), engine.zero_state()]
    mixed = [
        [engine.step(state, int(token)) for state, token in zip(states, pair, strict=True)]
        for pair in texts.T
    ]
    np.testing.assert_array_equal(np.swapaxes(mixed, 0, 1), alone)


@every_cell
def test_the_weights_handed_in_stay_as_they_are(cell):
    config = small_config(cell, 2)
    tensors = random_tensors(config)
    before = {name: tensor.copy() for name, tensor in tensors.items()}
    for tensor in tensors.values():
        tensor.flags.writeable = False  # as they come from a file
    engine = Engine(config, tensors)
    engine.prefill(engine.zero_state(), random_tokens(config, 20))
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(tensor, before[name])


@pytest.mark.parametrize("dtype", (np.uint8, np.uint16, np.int64))
def test_any_integer_type_makes_a_token(dtype):
    engine = random_engine(config := small_config("lstm"))
    tokens = random_tokens(config, 10)
    expected = engine.prefill(engine.zero_state(), tokens)
    found = engine.prefill(engine.zero_state(), tokens.astype(dtype))
    np.testing.assert_array_equal(found, expected)
