"""SimpleRNN, LSTM and GRU as NumPy equations, forward and backward.

This module is the readable reference for what the recurrent layers compute, and the oracle of
the tests. It knows one layer at a time, as arrays. It knows nothing of vocabularies, text, files
or Keras; it only shares the layouts of Keras' weights, so that they can be passed in as they are.

Shapes: B sequences in the batch, T time steps, E numbers in each input vector, H units.
Sequences are time-major. Python's index t = 0 ... T-1 is the time of the equations: outputs[t] is
h(t), computed from inputs[t] = x(t) and from the state before it; h(-1) is the initial state.
Vectors are rows, so a layer computes x W + h U + b with kernel W, recurrent kernel U and bias b.

All arrays of one call share one floating dtype, and the results keep it: float64 for finite
differences, float32 otherwise. No function changes its arguments.

The backward functions are backpropagation through time (Werbos 1990, "Backpropagation through
time: what it does and how to do it", Proceedings of the IEEE 78). Where L is the loss, the
gradient of a quantity q is dL/dq and has the shape of q. The total gradient of h(t) has two
parts: what the output at time t contributes directly, and what comes back from later steps.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from chargen.config import Cell

__all__ = [
    "STATE_ARRAYS",
    "Array",
    "CellWeights",
    "State",
    "backward",
    "forward",
    "sigmoid",
    "zero_state",
]

Array = npt.NDArray[np.floating[Any]]
State = tuple[Array, ...]  # (h,) for "rnn" and "gru", (h, c) for "lstm", each (B, H)

STATE_ARRAYS: dict[Cell, int] = {"rnn": 1, "lstm": 2, "gru": 1}


@dataclass(frozen=True)
class CellWeights:
    """The weights of one layer, or their gradients, in Keras' layouts.

    G is config.GATES[cell]. The blocks of H columns are ordered i, f, c, o in the LSTM and z, r, h
    in the GRU. The two rows of the GRU's bias are the input bias and the recurrent bias.
    """

    kernel: Array  # (E, G*H)
    recurrent_kernel: Array  # (H, G*H)
    bias: Array  # (G*H,), in the GRU (2, 3*H)


@dataclass(frozen=True)
class RNNCache:
    """What rnn_backward needs of the forward pass."""

    inputs: Array  # (T, B, E)
    hidden: Array  # (T+1, B, H): h(-1), h(0), ..., h(T-1)


@dataclass(frozen=True)
class LSTMCache:
    """What lstm_backward needs of the forward pass."""

    inputs: Array  # (T, B, E)
    hidden: Array  # (T+1, B, H): h(-1), h(0), ..., h(T-1)
    cell_states: Array  # (T+1, B, H): c(-1), c(0), ..., c(T-1)
    gates: Array  # (T, B, 4*H): i, f, g, o


@dataclass(frozen=True)
class GRUCache:
    """What gru_backward needs of the forward pass."""

    inputs: Array  # (T, B, E)
    hidden: Array  # (T+1, B, H): h(-1), h(0), ..., h(T-1)
    gates: Array  # (T, B, 3*H): z, r, n
    recalled: Array  # (T, B, H): m, the recurrent part of the candidate before its reset


Cache = RNNCache | LSTMCache | GRUCache
ForwardResult = tuple[Array, State, Cache]
BackwardResult = tuple[Array, CellWeights, State, Array]


def zero_state(cell: Cell, batch_size: int, units: int, dtype: npt.DTypeLike = np.float32) -> State:
    """The state of a layer that has read nothing: STATE_ARRAYS[cell] arrays (B, H) of zeros."""
    return tuple(np.zeros((batch_size, units), dtype) for _ in range(STATE_ARRAYS[cell]))


def forward(cell: Cell, weights: CellWeights, inputs: Array, state: State) -> ForwardResult:
    """Run one layer over inputs (T, B, E), starting from a state.

    Returns the outputs (T, B, H), the state after the last step, and the cache for backward.
    """
    run_forward, _ = FORWARD_AND_BACKWARD[cell]
    return run_forward(weights, inputs, state)


def backward(
    cell: Cell,
    weights: CellWeights,
    cache: Cache,
    output_gradient: Array,
    final_state_gradient: State,
) -> BackwardResult:
    """Carry the gradients of the outputs (T, B, H) and of the final state back through one layer.

    Returns the gradients of the inputs (T, B, E), of the weights and of the initial state, and
    hidden_gradients (T, B, H): at index t the total gradient of h(t). In the LSTM that is the
    gradient with c(t) held fixed, since h(t) and c(t) are separate parts of the state.
    """
    _, run_backward = FORWARD_AND_BACKWARD[cell]
    return run_backward(weights, cache, output_gradient, final_state_gradient)


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), written with tanh, which cannot overflow. Its derivative is s (1 - s)."""
    return 0.5 * np.tanh(0.5 * x) + 0.5


def rnn_forward(weights: CellWeights, inputs: Array, state: State) -> ForwardResult:
    """The simple recurrent network (Elman 1990, "Finding structure in time", Cog. Science 14).

    h(t) = tanh(x(t) W + h(t-1) U + b)
    """
    projected = inputs @ weights.kernel + weights.bias  # (T, B, H)
    hidden = _states_over_time(state[0], projected)  # (T+1, B, H)
    for t in range(len(inputs)):
        hidden[t + 1] = np.tanh(projected[t] + hidden[t] @ weights.recurrent_kernel)  # (B, H)
    return hidden[1:].copy(), (hidden[-1].copy(),), RNNCache(inputs, hidden)


def rnn_backward(
    weights: CellWeights, cache: RNNCache, output_gradient: Array, final_state_gradient: State
) -> BackwardResult:
    """Backpropagation through time in the simple recurrent network.

    With a(t) the argument of tanh, and dh(t) the total gradient of h(t):

    dh(t) = output gradient(t) + da(t+1) U^T, at the last step with the final state gradient
            in place of da(t+1) U^T
    da(t) = dh(t) (1 - h(t)^2)

    Then dx(t) = da(t) W^T, dW = sum x(t)^T da(t), dU = sum h(t-1)^T da(t), db = sum da(t).
    """
    hidden_gradients = np.empty_like(output_gradient)  # (T, B, H)
    a_gradients = np.empty_like(output_gradient)  # (T, B, H)
    (from_later,) = final_state_gradient  # (B, H): the part of dh(t) that comes from later steps
    for t in reversed(range(len(output_gradient))):
        dh = output_gradient[t] + from_later  # (B, H)
        da = dh * (1 - cache.hidden[t + 1] ** 2)  # (B, H)
        from_later = da @ weights.recurrent_kernel.T  # (B, H)
        hidden_gradients[t], a_gradients[t] = dh, da

    weight_gradients = CellWeights(
        kernel=_sum_of_outer_products(cache.inputs, a_gradients),  # (E, H)
        recurrent_kernel=_sum_of_outer_products(cache.hidden[:-1], a_gradients),  # (H, H)
        bias=a_gradients.sum(axis=(0, 1)),  # (H,)
    )
    input_gradient = a_gradients @ weights.kernel.T  # (T, B, E)
    return input_gradient, weight_gradients, (from_later,), hidden_gradients


def lstm_forward(weights: CellWeights, inputs: Array, state: State) -> ForwardResult:
    """Long short-term memory (Hochreiter & Schmidhuber 1997, Neural Computation 9), with the
    forget gate of Gers, Schmidhuber & Cummins (2000, Neural Computation 12).

    i(t) = sigmoid(x(t) Wi + h(t-1) Ui + bi)    input gate: how much of the candidate to write
    f(t) = sigmoid(x(t) Wf + h(t-1) Uf + bf)    forget gate: how much of c(t-1) to keep
    g(t) =    tanh(x(t) Wc + h(t-1) Uc + bc)    candidate
    o(t) = sigmoid(x(t) Wo + h(t-1) Uo + bo)    output gate: how much of c(t) to show
    c(t) = f(t) c(t-1) + i(t) g(t)              cell state
    h(t) = o(t) tanh(c(t))
    """
    projected = inputs @ weights.kernel + weights.bias  # (T, B, 4*H)
    gates = np.empty_like(projected)  # (T, B, 4*H)
    hidden = _states_over_time(state[0], projected)  # (T+1, B, H)
    cell_states = _states_over_time(state[1], projected)  # (T+1, B, H)
    for t in range(len(inputs)):
        a = projected[t] + hidden[t] @ weights.recurrent_kernel  # (B, 4*H)
        a_i, a_f, a_g, a_o = np.split(a, 4, axis=-1)  # each (B, H)
        i, f, g, o = sigmoid(a_i), sigmoid(a_f), np.tanh(a_g), sigmoid(a_o)  # each (B, H)
        cell_states[t + 1] = f * cell_states[t] + i * g  # (B, H)
        hidden[t + 1] = o * np.tanh(cell_states[t + 1])  # (B, H)
        gates[t] = np.concatenate([i, f, g, o], axis=-1)  # (B, 4*H)
    final_state = (hidden[-1].copy(), cell_states[-1].copy())  # each (B, H)
    return hidden[1:].copy(), final_state, LSTMCache(inputs, hidden, cell_states, gates)


def lstm_backward(
    weights: CellWeights, cache: LSTMCache, output_gradient: Array, final_state_gradient: State
) -> BackwardResult:
    """Backpropagation through time in the LSTM.

    With a(t) the arguments of the four gates side by side, at the last step with the final
    state gradients in place of the terms from t+1:

    dh(t)   = output gradient(t) + da(t+1) U^T
    dc(t)   = dh(t) o(t) (1 - tanh(c(t))^2) + dc(t+1) f(t+1)
    da_i(t) = dc(t) g(t)       i(t) (1 - i(t))
    da_f(t) = dc(t) c(t-1)     f(t) (1 - f(t))
    da_g(t) = dc(t) i(t)       (1 - g(t)^2)
    da_o(t) = dh(t) tanh(c(t)) o(t) (1 - o(t))

    The gradients of inputs and weights follow from da(t) as in the simple recurrent network.
    """
    hidden_gradients = np.empty_like(output_gradient)  # (T, B, H)
    a_gradients = np.empty_like(cache.gates)  # (T, B, 4*H)
    h_from_later, c_from_later = final_state_gradient  # each (B, H)
    for t in reversed(range(len(output_gradient))):
        i, f, g, o = np.split(cache.gates[t], 4, axis=-1)  # each (B, H)
        tanh_c = np.tanh(cache.cell_states[t + 1])  # (B, H)
        dh = output_gradient[t] + h_from_later  # (B, H)
        dc = dh * o * (1 - tanh_c**2) + c_from_later  # (B, H)
        da_i = dc * g * i * (1 - i)  # (B, H)
        da_f = dc * cache.cell_states[t] * f * (1 - f)  # (B, H)
        da_g = dc * i * (1 - g**2)  # (B, H)
        da_o = dh * tanh_c * o * (1 - o)  # (B, H)
        da = np.concatenate([da_i, da_f, da_g, da_o], axis=-1)  # (B, 4*H)
        h_from_later = da @ weights.recurrent_kernel.T  # (B, H)
        c_from_later = dc * f  # (B, H)
        hidden_gradients[t], a_gradients[t] = dh, da

    weight_gradients = CellWeights(
        kernel=_sum_of_outer_products(cache.inputs, a_gradients),  # (E, 4*H)
        recurrent_kernel=_sum_of_outer_products(cache.hidden[:-1], a_gradients),  # (H, 4*H)
        bias=a_gradients.sum(axis=(0, 1)),  # (4*H,)
    )
    input_gradient = a_gradients @ weights.kernel.T  # (T, B, E)
    return input_gradient, weight_gradients, (h_from_later, c_from_later), hidden_gradients


def gru_forward(weights: CellWeights, inputs: Array, state: State) -> ForwardResult:
    """The gated recurrent unit (Cho et al. 2014, "Learning phrase representations using RNN
    encoder-decoder for statistical machine translation", EMNLP), in the form with the reset gate
    after the product with U, as in cuDNN and in Keras with `reset_after=True`.

    z(t) = sigmoid(x(t) Wz + bz + h(t-1) Uz + b'z)    update gate: how much of h(t-1) to keep
    r(t) = sigmoid(x(t) Wr + br + h(t-1) Ur + b'r)    reset gate
    m(t) =                        h(t-1) Uh + b'h     what the candidate recalls before its reset
    n(t) =    tanh(x(t) Wh + bh + r(t) m(t))          candidate
    h(t) = z(t) h(t-1) + (1 - z(t)) n(t)
    """
    input_bias, recurrent_bias = weights.bias  # each (3*H,)
    projected = inputs @ weights.kernel + input_bias  # (T, B, 3*H)
    gates = np.empty_like(projected)  # (T, B, 3*H)
    hidden = _states_over_time(state[0], projected)  # (T+1, B, H)
    recalled = np.empty_like(hidden[1:])  # (T, B, H)
    for t in range(len(inputs)):
        x_z, x_r, x_n = np.split(projected[t], 3, axis=-1)  # each (B, H)
        recurrent = hidden[t] @ weights.recurrent_kernel + recurrent_bias  # (B, 3*H)
        h_z, h_r, m = np.split(recurrent, 3, axis=-1)  # each (B, H)
        z, r = sigmoid(x_z + h_z), sigmoid(x_r + h_r)  # each (B, H)
        n = np.tanh(x_n + r * m)  # (B, H)
        hidden[t + 1] = z * hidden[t] + (1 - z) * n  # (B, H)
        gates[t] = np.concatenate([z, r, n], axis=-1)  # (B, 3*H)
        recalled[t] = m  # (B, H)
    return hidden[1:].copy(), (hidden[-1].copy(),), GRUCache(inputs, hidden, gates, recalled)


def gru_backward(
    weights: CellWeights, cache: GRUCache, output_gradient: Array, final_state_gradient: State
) -> BackwardResult:
    """Backpropagation through time in the GRU.

    With a(t) the arguments of z, r and n side by side, and with k(t) = h(t-1) U + b' the
    recurrent products, of which the third block, m(t), reaches a_n(t) only through r(t); at the
    last step with the final state gradient in place of the terms from t+1:

    dh(t)   = output gradient(t) + dh(t+1) z(t+1) + dk(t+1) U^T
    da_n(t) = dh(t) (1 - z(t)) (1 - n(t)^2)
    da_z(t) = dh(t) (h(t-1) - n(t)) z(t) (1 - z(t))
    da_r(t) = da_n(t) m(t) r(t) (1 - r(t))
    da(t)   = da_z(t), da_r(t), da_n(t)
    dk(t)   = da_z(t), da_r(t), da_n(t) r(t)

    Then dx(t) = da(t) W^T, dW = sum x(t)^T da(t) and db = sum da(t) on the input side, and
    dU = sum h(t-1)^T dk(t) and db' = sum dk(t) on the recurrent side.
    """
    hidden_gradients = np.empty_like(output_gradient)  # (T, B, H)
    a_gradients = np.empty_like(cache.gates)  # (T, B, 3*H)
    k_gradients = np.empty_like(cache.gates)  # (T, B, 3*H)
    (from_later,) = final_state_gradient  # (B, H): the part of dh(t) that comes from later steps
    for t in reversed(range(len(output_gradient))):
        z, r, n = np.split(cache.gates[t], 3, axis=-1)  # each (B, H)
        dh = output_gradient[t] + from_later  # (B, H)
        da_n = dh * (1 - z) * (1 - n**2)  # (B, H)
        da_z = dh * (cache.hidden[t] - n) * z * (1 - z)  # (B, H)
        da_r = da_n * cache.recalled[t] * r * (1 - r)  # (B, H)
        a_gradients[t] = np.concatenate([da_z, da_r, da_n], axis=-1)  # (B, 3*H)
        k_gradients[t] = np.concatenate([da_z, da_r, da_n * r], axis=-1)  # (B, 3*H)
        from_later = dh * z + k_gradients[t] @ weights.recurrent_kernel.T  # (B, H)
        hidden_gradients[t] = dh

    weight_gradients = CellWeights(
        kernel=_sum_of_outer_products(cache.inputs, a_gradients),  # (E, 3*H)
        recurrent_kernel=_sum_of_outer_products(cache.hidden[:-1], k_gradients),  # (H, 3*H)
        bias=np.stack([a_gradients.sum(axis=(0, 1)), k_gradients.sum(axis=(0, 1))]),  # (2, 3*H)
    )
    input_gradient = a_gradients @ weights.kernel.T  # (T, B, E)
    return input_gradient, weight_gradients, (from_later,), hidden_gradients


def _states_over_time(initial: Array, projected: Array) -> Array:
    """Room for the states at times -1 ... T-1, (T+1, B, H), with the first one filled in."""
    states = np.empty((len(projected) + 1, *initial.shape), projected.dtype)  # (T+1, B, H)
    states[0] = initial
    return states


def _sum_of_outer_products(left: Array, right: Array) -> Array:
    """The gradient of a kernel: sum left(t)^T right(t), (T, B, M) and (T, B, N) to (M, N)."""
    return np.tensordot(left, right, axes=((0, 1), (0, 1)))


FORWARD_AND_BACKWARD: dict[Cell, tuple[Callable[..., ForwardResult], Callable[..., BackwardResult]]]
FORWARD_AND_BACKWARD = {
    "rnn": (rnn_forward, rnn_backward),
    "lstm": (lstm_forward, lstm_backward),
    "gru": (gru_forward, gru_backward),
}
