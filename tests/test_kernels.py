"""The training kernels against ``chargen.cells``, and the training face against stock Keras."""

import numpy as np
import pytest
from networks import (
    every_cell,
    every_depth,
    random_tensors,
    random_tokens,
    small_config,
    stock_logits,
    stock_network,
)

from chargen import cells
from chargen.config import GATES

CLOSE = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture(scope="module")
def tf():
    from chargen.training.backend import ensure_backend

    ensure_backend()
    import tensorflow

    return tensorflow


def kernel_of(cell):
    from chargen.training import kernels

    return {"rnn": kernels.simple_rnn, "lstm": kernels.lstm, "gru": kernels.gru}[cell]


def random_layer(cell, steps, batch, units):
    """Arguments of a kernel, then the gradients of its outputs and of its last states."""
    rng = np.random.default_rng([steps, batch, units])

    def normal(*shape):
        return rng.normal(0, 0.8, shape).astype(np.float32)

    columns, arrays = GATES[cell] * units, cells.STATE_ARRAYS[cell]
    arguments = [normal(steps, batch, columns)]
    arguments += [normal(batch, units) for _ in range(arrays)]
    arguments += [normal(units, columns)]
    arguments += [normal(columns)] if cell == "gru" else []
    return arguments, [normal(steps, batch, units), *(normal(batch, units) for _ in range(arrays))]


def by_cells(cell, arguments, upstream):
    """Results and gradients of ``chargen.cells``: its kernel is one, so its input is projected."""
    arrays = cells.STATE_ARRAYS[cell]
    projected, states, recurrent_kernel = arguments[0], arguments[1 : 1 + arrays], arguments[-1]
    columns = projected.shape[-1]
    bias = np.zeros(columns, np.float32)
    if cell == "gru":
        recurrent_kernel, bias = arguments[-2], np.stack([bias, arguments[-1]])
    weights = cells.CellWeights(np.eye(columns, dtype=np.float32), recurrent_kernel, bias)
    outputs, last, cache = cells.forward(cell, weights, projected, tuple(states))
    d_projected, d_weights, d_states, _ = cells.backward(
        cell, weights, cache, upstream[0], tuple(upstream[1:])
    )
    gradients = [d_projected, *d_states, d_weights.recurrent_kernel]
    gradients += [d_weights.bias[1]] if cell == "gru" else []
    return [outputs, *last], gradients


@pytest.mark.parametrize("shape", ((7, 3, 4), (1, 4, 3), (9, 1, 1)), ids=str)
@pytest.mark.parametrize("jit_compile", (True, False))
@every_cell
def test_values_states_and_gradients_are_those_of_the_reference(tf, cell, jit_compile, shape):
    arguments, upstream = random_layer(cell, *shape)

    def run(*arguments):
        with tf.GradientTape() as tape:
            tape.watch(arguments)
            results = kernel_of(cell)(*arguments)
        return results, tape.gradient(results, arguments, output_gradients=upstream)

    run = tf.function(run, jit_compile=jit_compile)
    results, gradients = run(*map(tf.constant, arguments))
    expected_results, expected_gradients = by_cells(cell, arguments, upstream)
    for found, expected in zip(results, expected_results, strict=True):
        np.testing.assert_allclose(found, expected, **CLOSE)
    for found, expected in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(found, expected, **CLOSE)


class Face:
    """A training network; its kernels are called as a graph, stock layers as they are."""

    def __init__(self, network, config, batch_size, jit_compile=False, **options):
        import tensorflow as tf

        from chargen.training.network import TrainingNetwork

        self.model = TrainingNetwork(network, config, batch_size, **options)
        is_stock = options.get("recurrence") == "stock"
        self.call = self.model if is_stock else tf.function(self.model, jit_compile=jit_compile)

    def __call__(self, tokens, carry=None, training=False):
        carry = ones(tokens.shape[1]) if carry is None else carry
        return self.call((tokens, carry), training=training).numpy()

    def learned(self, tokens, upstream):
        """Logits, the gradient of each weight by its name, and the states left behind."""
        import tensorflow as tf

        from chargen.training.network import named_variables

        variables = named_variables(self.model.network)
        with tf.GradientTape() as tape:
            logits = self.call((tokens, ones(tokens.shape[1])), training=True)
            loss = tf.reduce_sum(logits * upstream)
        gradients = tape.gradient(loss, variables)
        return {
            "logits": logits.numpy(),
            **{name: tf.convert_to_tensor(value).numpy() for name, value in gradients.items()},
            **{v.name: v.numpy().copy() for states in self.model.states for v in states},
        }


def ones(batch_size):
    return np.ones(batch_size, np.float32)


# Batches of fewer characters than the vocabulary, and of more.
@pytest.mark.parametrize(("num_layers", "steps"), ((1, 2), (1, 6), (2, 6), (3, 6)))
@every_cell
def test_kernels_learn_what_stock_layers_learn(tf, cell, num_layers, steps):
    config = small_config(cell, num_layers)
    network = stock_network(config, random_tensors(config))
    faces = [Face(network, config, 3, recurrence=recurrence) for recurrence in ("kernels", "stock")]
    text = random_tokens(config, 2, steps, 3)
    upstream = np.random.default_rng(2).normal(size=(2, steps, 3, 11)).astype(np.float32)
    for batch in range(2):
        found, expected = (face.learned(text[batch], upstream[batch]) for face in faces)
        assert set(found) >= {"logits", "state_1_1", *config.tensor_shapes}
        assert all(np.abs(values).max() > 0 for values in expected.values())
        for name, values in expected.items():
            np.testing.assert_allclose(found[name], values, **CLOSE, err_msg=name)


@every_cell
def test_xla_gives_the_same_logits_and_states(tf, cell):
    config = small_config(cell, 2)
    network = stock_network(config, random_tensors(config))
    faces = [Face(network, config, 3, jit_compile=jit_compile) for jit_compile in (True, False)]
    for batch in random_tokens(config, 2, 5, 3):
        np.testing.assert_allclose(*(face(batch) for face in faces), **CLOSE)
    for found, expected in zip(*(face.model.states for face in faces), strict=True):
        np.testing.assert_allclose(found, expected, **CLOSE)


@every_depth
@every_cell
def test_the_saved_face_and_the_training_face_are_one_function(tf, cell, num_layers):
    config = small_config(cell, num_layers, dropout=0.4)
    network = stock_network(config, random_tensors(config))
    tokens = random_tokens(config, 8, 3)
    face = Face(network, config, 3)
    np.testing.assert_allclose(face(tokens), stock_logits(network, tokens), **CLOSE)


def test_the_two_faces_share_their_weights(tf):
    config = small_config("lstm", 2)
    network = stock_network(config)
    face = Face(network, config, 3)
    assert {id(v) for v in face.model.trainable_variables} == {
        id(v) for v in network.trainable_variables
    }


@pytest.mark.parametrize("recurrence", ("kernels", "stock"))
@every_cell
def test_state_is_carried_from_batch_to_batch(tf, cell, recurrence):
    config = small_config(cell, 2)
    network = stock_network(config, random_tensors(config))
    text = random_tokens(config, 12, 3)
    face = Face(network, config, 3, recurrence=recurrence)
    found = [face(part) for part in np.split(text, 3)]
    np.testing.assert_allclose(np.concatenate(found), stock_logits(network, text), **CLOSE)


@pytest.mark.parametrize("recurrence", ("kernels", "stock"))
@every_cell
def test_carry_0_resets_that_stream_alone(tf, cell, recurrence):
    config = small_config(cell, 2)
    network = stock_network(config, random_tensors(config))
    text = random_tokens(config, 10, 3)
    face = Face(network, config, 3, recurrence=recurrence)
    face(text[:5])
    found = face(text[5:], np.array([1, 0, 1], np.float32))
    expected = stock_logits(network, text)[5:]
    np.testing.assert_allclose(found[:, [0, 2]], expected[:, [0, 2]], **CLOSE)
    np.testing.assert_allclose(found[:, 1], stock_logits(network, text[5:])[:, 1], **CLOSE)
    assert np.abs(found[0, 1] - expected[0, 1]).max() > 1e-3


@every_cell
def test_no_gradient_flows_into_the_batch_before(tf, cell):
    """The second batch learns from the state it is given as from one out of nowhere."""
    config = small_config(cell)
    network = stock_network(config, random_tensors(config))
    first, second = random_tokens(config, 2, 5, 3)
    upstream = np.random.default_rng(2).normal(size=(5, 3, 11)).astype(np.float32)
    face, other = (Face(network, config, 3) for _ in range(2))
    kernel = network.get_layer("recurrent_1").cell.recurrent_kernel
    with tf.GradientTape() as tape:
        face.call((first, ones(3)))
        for mine, theirs in zip(other.model.states[0], face.model.states[0], strict=True):
            mine.assign(theirs)
        loss = tf.reduce_sum(face.call((second, ones(3))) * upstream)
    expected = other.learned(second, upstream)["recurrent_1/recurrent_kernel"]
    np.testing.assert_allclose(tape.gradient(loss, kernel), expected, **CLOSE)


@pytest.mark.parametrize("recurrence", ("kernels", "stock"))
@every_cell
def test_objective_last_gives_the_logits_after_the_last_token(tf, cell, recurrence):
    config = small_config(cell, 2)
    network = stock_network(config, random_tensors(config))
    tokens = random_tokens(config, 6, 4)
    face = Face(network, config, 4, objective="last", recurrence=recurrence)
    found = face(tokens, 0 * ones(4))
    assert found.shape == (4, config.vocabulary_size)
    np.testing.assert_allclose(found, stock_logits(network, tokens)[-1], **CLOSE)


def transparent_network(cell, dropout):
    """A network whose logits are the outputs of its only recurrent layer."""
    config = small_config(cell, vocabulary_size=40, units=40, dropout=dropout)
    head = {"head/kernel": np.eye(40, dtype=np.float32), "head/bias": np.zeros(40, np.float32)}
    return config, stock_network(config, {**random_tensors(config), **head})


def mask_of(dropped, kept):
    """The mask (B, H), once it is sure that all steps of (T, B, H) have the same one."""
    dropped, kept = np.asarray(dropped), np.asarray(kept)
    assert np.abs(kept).min() > 0
    masks = dropped / kept
    np.testing.assert_allclose(masks, np.broadcast_to(masks[0], masks.shape), rtol=1e-4)
    return masks[0]


@pytest.mark.parametrize("recurrence", ("kernels", "stock"))
@every_cell
def test_dropout_has_one_mask_a_window_and_a_new_one_for_the_next(tf, cell, recurrence):
    config, network = transparent_network(cell, 0.75)
    dropping, keeping = (Face(network, config, 6, recurrence=recurrence) for _ in range(2))
    masks = []
    for tokens in random_tokens(config, 2, 5, 6):
        masks.append(mask_of(dropping(tokens, training=True), keeping(tokens)))
    for mask in masks:
        np.testing.assert_allclose(np.unique(np.round(mask, 3)), [0, 4])
        assert 0.15 < (mask > 0).mean() < 0.35  # of 240: five standard deviations are 0.14
        assert len(np.unique(mask > 0, axis=0)) == 6  # each stream has its own
    assert (masks[0] != masks[1]).any()


@pytest.mark.parametrize("recurrence", ("kernels", "stock"))
@every_cell
def test_carried_state_is_not_dropped(tf, cell, recurrence):
    config, network = transparent_network(cell, 0.75)
    dropping, keeping = (Face(network, config, 6, recurrence=recurrence) for _ in range(2))
    tokens = random_tokens(config, 5, 6)
    dropping(tokens, training=True), keeping(tokens, training=False)
    for found, expected in zip(dropping.model.states[0], keeping.model.states[0], strict=True):
        np.testing.assert_allclose(found, expected, **CLOSE)
        assert np.abs(found).min() > 0


def test_the_saved_face_drops_by_window_too(tf):
    config, network = transparent_network("gru", 0.75)
    tokens = random_tokens(config, 5, 6).T
    mask = mask_of(
        np.swapaxes(network(tokens, training=True), 0, 1), np.swapaxes(network(tokens), 0, 1)
    )
    np.testing.assert_allclose(np.unique(np.round(mask, 3)), [0, 4])
