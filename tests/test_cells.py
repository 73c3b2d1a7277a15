"""The NumPy cells against finite differences, against Keras, and against themselves."""

import os
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
import pytest

from chargen.cells import (
    STATE_ARRAYS,
    Array,
    Cell,
    CellWeights,
    State,
    backward,
    forward,
    sigmoid,
    zero_state,
)
from chargen.config import GATES

CELLS: tuple[Cell, ...] = get_args(Cell)
SEEDS = range(4)

every_cell = pytest.mark.parametrize("cell", CELLS)
every_seed = pytest.mark.parametrize("seed", SEEDS)


class Problem(NamedTuple):
    """A random layer, something to read, and a loss.

    The loss is sum(outputs * output_gradient) + sum(final state * final_state_gradient), so the
    two factors are its gradients with respect to the outputs and the final state.
    """

    cell: Cell
    weights: CellWeights
    inputs: Array  # (T, B, E)
    state: State  # each (B, H)
    output_gradient: Array  # (T, B, H)
    final_state_gradient: State  # each (B, H)

    def loss(self) -> float:
        outputs, final_state, _ = forward(self.cell, self.weights, self.inputs, self.state)
        return inner(outputs, self.output_gradient) + sum(
            inner(s, g) for s, g in zip(final_state, self.final_state_gradient, strict=True)
        )

    def arguments(self) -> dict[str, Array]:
        """Every array the loss depends on and a gradient exists for, by name."""
        return named_arrays(self.inputs, self.weights, self.state)

    def gradients(self) -> dict[str, Array]:
        """The gradients by backward, under the same names as the arguments."""
        _, _, cache = forward(self.cell, self.weights, self.inputs, self.state)
        input_gradient, weight_gradients, state_gradient, _ = backward(
            self.cell, self.weights, cache, self.output_gradient, self.final_state_gradient
        )
        return named_arrays(input_gradient, weight_gradients, state_gradient)

    def halves(self, at: int) -> tuple["Problem", "Problem"]:
        """The steps before `at`, without a loss on their final state, and the steps from `at`
        on, starting from the state the first half ends in."""
        first = self._replace(
            inputs=self.inputs[:at],
            output_gradient=self.output_gradient[:at],
            final_state_gradient=tuple(np.zeros_like(g) for g in self.final_state_gradient),
        )
        _, state, _ = forward(first.cell, first.weights, first.inputs, first.state)
        second = self._replace(
            inputs=self.inputs[at:], output_gradient=self.output_gradient[at:], state=state
        )
        return first, second


def named_arrays(inputs: Array, weights: CellWeights, state: State) -> dict[str, Array]:
    return {
        "inputs": inputs,
        "kernel": weights.kernel,
        "recurrent_kernel": weights.recurrent_kernel,
        "bias": weights.bias,
        **{f"state[{k}]": array for k, array in enumerate(state)},
    }


def inner(a: Array, b: Array) -> float:
    assert a.shape == b.shape
    return float(np.sum(a * b))


def random_problem(
    cell: Cell, seed: int, dtype: npt.DTypeLike = np.float64, steps: int | None = None
) -> Problem:
    """Every array random and non-zero; sizes from 1 up, unless the number of steps is given."""
    rng = np.random.default_rng([seed, CELLS.index(cell)])
    t, b, e, h = (int(size) for size in rng.integers(1, 5, size=4))
    t = t if steps is None else steps

    def normal(*shape: int) -> Array:
        return rng.normal(size=shape).astype(dtype)

    columns = GATES[cell] * h
    weights = CellWeights(
        kernel=normal(e, columns),
        recurrent_kernel=normal(h, columns),
        bias=normal(2, columns) if cell == "gru" else normal(columns),
    )
    return Problem(
        cell,
        weights,
        inputs=normal(t, b, e),
        state=tuple(normal(b, h) for _ in range(STATE_ARRAYS[cell])),
        output_gradient=normal(t, b, h),
        final_state_gradient=tuple(normal(b, h) for _ in range(STATE_ARRAYS[cell])),
    )


def finite_differences(loss: Callable[[], float], array: Array, step: float = 1e-5) -> Array:
    """Central differences of the loss, changing one entry of the array in place at a time."""
    gradient = np.empty_like(array)
    for index in np.ndindex(array.shape):
        value = array[index]
        array[index] = value + step
        above = loss()
        array[index] = value - step
        below = loss()
        array[index] = value
        gradient[index] = (above - below) / (2 * step)
    return gradient


def assert_close(actual: Array, expected: Array, relative: float) -> None:
    """The largest error is small beside the largest expected entry, which is not zero."""
    assert actual.shape == expected.shape
    scale = np.abs(expected).max()
    assert scale > 0
    assert np.abs(actual - expected).max() < relative * scale


@every_cell
@every_seed
def test_gradients_are_those_of_finite_differences(cell: Cell, seed: int) -> None:
    problem = random_problem(cell, seed)
    gradients = problem.gradients()
    for name, array in problem.arguments().items():
        assert_close(gradients[name], finite_differences(problem.loss, array), relative=1e-6)


@every_cell
@every_seed
def test_hidden_gradients_are_total_gradients(cell: Cell, seed: int) -> None:
    """h(t) acts through the output at t and as the state that enters step t+1; finite differences
    change it in both places."""
    problem = random_problem(cell, seed, steps=4)
    outputs, _, cache = forward(cell, problem.weights, problem.inputs, problem.state)
    *_, hidden_gradients = backward(
        cell, problem.weights, cache, problem.output_gradient, problem.final_state_gradient
    )
    assert hidden_gradients.shape == outputs.shape

    for t in range(3):
        _, later = problem.halves(t + 1)
        hidden = later.state[0]

        def loss(t: int = t, later: Problem = later, hidden: Array = hidden) -> float:
            return inner(hidden, problem.output_gradient[t]) + later.loss()

        assert_close(hidden_gradients[t], finite_differences(loss, hidden), relative=1e-6)

    at_the_end = problem.output_gradient[3] + problem.final_state_gradient[0]
    np.testing.assert_array_equal(hidden_gradients[3], at_the_end)


@every_cell
@every_seed
@pytest.mark.parametrize("at", [1, 3, 5])
def test_two_halves_with_carried_state_are_one_run(cell: Cell, seed: int, at: int) -> None:
    problem = random_problem(cell, seed, steps=6)
    outputs, final_state, cache = forward(cell, problem.weights, problem.inputs, problem.state)
    first, second = problem.halves(at)
    first_outputs, _, first_cache = forward(cell, first.weights, first.inputs, first.state)
    second_outputs, second_final, second_cache = forward(
        cell, second.weights, second.inputs, second.state
    )
    assert_close(np.concatenate([first_outputs, second_outputs]), outputs, relative=1e-12)
    for half, whole in zip(second_final, final_state, strict=True):
        assert_close(half, whole, relative=1e-12)

    # Backward, the gradient of the carried state takes the same way in the other direction.
    whole = backward(
        cell, problem.weights, cache, problem.output_gradient, problem.final_state_gradient
    )
    later = backward(
        cell, second.weights, second_cache, second.output_gradient, second.final_state_gradient
    )
    earlier = backward(cell, first.weights, first_cache, first.output_gradient, later[2])
    assert_close(np.concatenate([earlier[0], later[0]]), whole[0], relative=1e-12)
    for name in ("kernel", "recurrent_kernel", "bias"):
        summed = getattr(earlier[1], name) + getattr(later[1], name)
        assert_close(summed, getattr(whole[1], name), relative=1e-12)
    for half, entire in zip(earlier[2], whole[2], strict=True):
        assert_close(half, entire, relative=1e-12)
    assert_close(np.concatenate([earlier[3], later[3]]), whole[3], relative=1e-12)


@every_cell
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_results_keep_the_dtype(cell: Cell, dtype: npt.DTypeLike) -> None:
    problem = random_problem(cell, seed=0, dtype=dtype)
    outputs, final_state, cache = forward(cell, problem.weights, problem.inputs, problem.state)
    *_, hidden_gradients = backward(
        cell, problem.weights, cache, problem.output_gradient, problem.final_state_gradient
    )
    results = [outputs, *final_state, hidden_gradients, *problem.gradients().values()]
    assert {result.dtype for result in results} == {np.dtype(dtype)}


@every_cell
def test_arguments_and_cache_stay_as_they_are(cell: Cell) -> None:
    """Backward gives the same twice, even if the outputs were written into in between."""
    problem = random_problem(cell, seed=0, steps=3)
    given = [*problem.arguments().values(), problem.output_gradient, *problem.final_state_gradient]
    before = [array.copy() for array in given]
    outputs, final_state, cache = forward(cell, problem.weights, problem.inputs, problem.state)
    gradients = (problem.output_gradient, problem.final_state_gradient)
    once = named_arrays(*backward(cell, problem.weights, cache, *gradients)[:3])
    for array in (outputs, *final_state):
        array.fill(np.nan)
    twice = named_arrays(*backward(cell, problem.weights, cache, *gradients)[:3])
    for name, gradient in once.items():
        np.testing.assert_array_equal(twice[name], gradient)
    for array, copy in zip(given, before, strict=True):
        np.testing.assert_array_equal(array, copy)


@every_cell
def test_zero_state(cell: Cell) -> None:
    state = zero_state(cell, batch_size=2, units=3, dtype=np.float64)
    assert len(state) == STATE_ARRAYS[cell]
    for array in state:
        np.testing.assert_array_equal(array, np.zeros((2, 3)), strict=True)


def test_sigmoid_is_the_logistic_function_and_cannot_overflow() -> None:
    x = np.linspace(-20, 20, 81)
    np.testing.assert_allclose(sigmoid(x), 1 / (1 + np.exp(-x)), rtol=0, atol=1e-15)
    with np.errstate(all="raise"):
        far = sigmoid(np.array([-1e30, 1e30], np.float32))
    np.testing.assert_array_equal(far, np.array([0, 1], np.float32), strict=True)


class KerasRun(NamedTuple):
    """What Keras and TensorFlow make of a problem, time-major."""

    outputs: Array  # (T, B, H)
    final_state: State  # each (B, H)
    gradients: dict[str, Array]


@pytest.fixture(scope="module")
def tensorflow() -> ModuleType:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    return pytest.importorskip("tensorflow")


@pytest.fixture(scope="module")
def keras(tensorflow: ModuleType) -> ModuleType:
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    keras = pytest.importorskip("keras")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("the gradients of Keras are taken with TensorFlow")
    return keras


def run_keras(tf: ModuleType, keras: ModuleType, problem: Problem) -> KerasRun:
    """The same layer as a stock Keras layer, with gradients by TensorFlow's tape."""
    layer_classes: dict[Cell, Any] = {
        "rnn": keras.layers.SimpleRNN,
        "lstm": keras.layers.LSTM,
        "gru": keras.layers.GRU,
    }
    units = problem.output_gradient.shape[-1]
    layer = layer_classes[problem.cell](units, return_sequences=True, return_state=True)
    batch_major = problem.inputs.swapaxes(0, 1)  # (B, T, E)
    layer.build(batch_major.shape)
    weights = problem.weights
    layer.set_weights([weights.kernel, weights.recurrent_kernel, weights.bias])

    inputs = tf.Variable(batch_major)
    state = [tf.Variable(array) for array in problem.state]
    with tf.GradientTape() as tape:
        outputs, *final_state = layer(inputs, initial_state=state)
        loss = tf.reduce_sum(outputs * problem.output_gradient.swapaxes(0, 1))
        for array, gradient in zip(final_state, problem.final_state_gradient, strict=True):
            loss += tf.reduce_sum(array * gradient)
    variables = [inputs, *(weight.value for weight in layer.trainable_weights), *state]
    input_gradient, *others = (g.numpy() for g in tape.gradient(loss, variables))
    return KerasRun(
        outputs.numpy().swapaxes(0, 1),
        tuple(array.numpy() for array in final_state),
        named_arrays(input_gradient.swapaxes(0, 1), CellWeights(*others[:3]), tuple(others[3:])),
    )


@every_cell
@every_seed
def test_values_and_gradients_are_those_of_keras(
    tensorflow: ModuleType, keras: ModuleType, cell: Cell, seed: int
) -> None:
    problem = random_problem(cell, seed, np.float32)
    expected = run_keras(tensorflow, keras, problem)

    outputs, final_state, _ = forward(cell, problem.weights, problem.inputs, problem.state)
    np.testing.assert_allclose(outputs, expected.outputs, rtol=0, atol=1e-5)
    for ours, theirs in zip(final_state, expected.final_state, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)

    gradients = problem.gradients()
    for name, gradient in expected.gradients.items():
        assert_close(gradients[name], gradient, relative=1e-5)
