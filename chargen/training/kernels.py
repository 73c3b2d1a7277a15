"""Recurrent layers for training: whole sequences, time-major, with hand-written gradients.

Each kernel takes the layer's input already multiplied by its kernel, so that one product before
the loop serves all steps and the loop holds only ``h @ U`` and the gates. On the way back the
gate derivatives are made for the whole sequence first, the loop holds only ``dz @ Uᵀ``, and the
gradient of U is one product after it (truncated back-propagation through time; equations and
sources in ``chargen.cells``).

Products are made in the dtype of the recurrent kernel that is handed in, everything else in
float32. In float32 the whole is written to be compiled by XLA as one program. XLA has no bfloat16
product on a processor, oneDNN has, outside XLA: there the loop runs as a graph, and what lies
between two products (``compiled``) is a program of its own. Like ``pipeline`` and ``shards`` this
room is TensorFlow; it knows nothing of characters.

Shapes: T time, B batch, H units.
"""

from __future__ import annotations

import functools
from typing import Any

import tensorflow as tf

__all__ = ["compiled", "gru", "lstm", "simple_rnn"]

Tensor = Any  # tf.Tensor, which carries no useful types

compiled = functools.partial(tf.function, jit_compile=True, autograph=False)


def _sigmoid(x: Tensor) -> Tensor:
    return 0.5 * tf.tanh(0.5 * x) + 0.5


def _sigmoid_slope(y: Tensor) -> Tensor:
    """The derivative of the sigmoid where its value is ``y``."""
    return y * (1.0 - y)


def _product(left: Tensor, right: Tensor) -> Tensor:
    """``left @ right`` in the dtype of ``right``."""
    return tf.matmul(tf.cast(left, right.dtype), right)


def _scan(
    step: Any,
    state: tuple[Tensor, ...],
    inputs: tuple[Tensor, ...],
    outputs: tuple[tuple[int, tf.DType], ...],
    backward: bool = False,
) -> Any:
    """Run ``step(state, inputs at t) -> state, outputs at t`` over time; outputs stacked over T.

    ``outputs`` are the width and dtype of each (B, width) that a step gives.
    """
    length, batch_size = inputs[0].shape[:2]
    order = -1 if backward else 1
    sources = [
        tf.TensorArray(x.dtype, length, element_shape=x.shape[1:]).unstack(x) for x in inputs
    ]
    sinks = tuple(
        tf.TensorArray(dtype, length, element_shape=(batch_size, width)) for width, dtype in outputs
    )

    def body(t: Tensor, state: Any, sinks: Any) -> Any:
        state, outputs = step(state, tuple(source.read(t) for source in sources))
        return t + order, state, tuple(s.write(t, y) for s, y in zip(sinks, outputs, strict=True))

    _, state, sinks = tf.while_loop(
        lambda t, *_: t >= 0 if backward else t < length,
        body,
        (tf.constant(length - 1 if backward else 0), state, sinks),
        maximum_iterations=length,
        parallel_iterations=1,
    )
    return state, tuple(sink.stack() for sink in sinks)


def _shifted(first: Tensor, sequence: Tensor) -> Tensor:
    """The state before each step: ``first`` (B, H), then all but the last of (T, B, H)."""
    return tf.concat([first[tf.newaxis], sequence[:-1]], axis=0)


def _product_over_time(left: Tensor, right: Tensor) -> Tensor:
    """The sum over T and B of the outer products of (T, B, X) and (T, B, Y), in the dtype of the
    latter: (X, Y)."""
    return tf.matmul(
        tf.cast(tf.reshape(left, (-1, left.shape[-1])), right.dtype),
        tf.reshape(right, (-1, right.shape[-1])),
        transpose_a=True,
    )


@tf.custom_gradient
def simple_rnn(projected: Tensor, h: Tensor, recurrent_kernel: Tensor) -> Any:
    """h(t) = tanh(projected(t) + h(t-1) U).

    ``projected`` (T, B, H), ``h`` (B, H), ``recurrent_kernel`` (H, H) → outputs (T, B, H), last h.
    """
    units, dtype = recurrent_kernel.shape[0], recurrent_kernel.dtype

    def step(state: Any, inputs: Any) -> Any:
        value = _rnn_forward(inputs[0], _product(state[0], recurrent_kernel))
        return (value,), (value,)

    (last,), (outputs,) = _scan(step, (h,), (projected,), ((units, h.dtype),))

    def gradient(d_outputs: Tensor, d_last: Tensor) -> Any:
        transposed = tf.transpose(recurrent_kernel)
        slope = _rnn_slope(outputs)

        def step_back(state: Any, inputs: Any) -> Any:
            dz = _rnn_backward(state[0], *inputs, dtype)
            return (tf.matmul(dz, transposed),), (dz,)

        (d_first,), (dz,) = _scan(
            step_back,
            (tf.cast(d_last, dtype),),
            (d_outputs, slope),
            ((units, dtype),),
            backward=True,
        )
        return (
            tf.cast(dz, h.dtype),
            tf.cast(d_first, h.dtype),
            _product_over_time(_shifted(h, outputs), dz),
        )

    return (outputs, last), gradient


@compiled
def _rnn_forward(projected: Tensor, recurrent: Tensor) -> Tensor:
    return tf.tanh(projected + tf.cast(recurrent, projected.dtype))


@compiled
def _rnn_slope(outputs: Tensor) -> Tensor:
    return 1.0 - outputs * outputs


@compiled
def _rnn_backward(dh: Tensor, d_output: Tensor, slope: Tensor, dtype: tf.DType) -> Tensor:
    return tf.cast((tf.cast(dh, d_output.dtype) + d_output) * slope, dtype)


@tf.custom_gradient
def lstm(projected: Tensor, h: Tensor, c: Tensor, recurrent_kernel: Tensor) -> Any:
    """An LSTM in Keras' gate order i, f, g, o.

    ``projected`` (T, B, 4H), ``h`` and ``c`` (B, H), ``recurrent_kernel`` (H, 4H) → outputs
    (T, B, H), last h, last c.
    """
    units, dtype = recurrent_kernel.shape[0], recurrent_kernel.dtype

    def step(state: Any, inputs: Any) -> Any:
        h, c = state
        h, c, gates = _lstm_forward(inputs[0], _product(h, recurrent_kernel), c)
        return (h, c), (h, c, gates)

    (last_h, last_c), (outputs, cells, gates) = _scan(
        step,
        (h, c),
        (projected,),
        ((units, h.dtype), (units, h.dtype), (4 * units, h.dtype)),
    )

    def gradient(d_outputs: Tensor, d_last_h: Tensor, d_last_c: Tensor) -> Any:
        transposed = tf.transpose(recurrent_kernel)
        slopes = _lstm_slopes(gates, cells, _shifted(c, cells))

        def step_back(state: Any, inputs: Any) -> Any:
            dz, dc = _lstm_backward(*state, *inputs, dtype)
            return (tf.matmul(dz, transposed), dc), (dz,)

        (dh, dc), (dz,) = _scan(
            step_back,
            (tf.cast(d_last_h, dtype), d_last_c),
            (d_outputs, *slopes),
            ((4 * units, dtype),),
            backward=True,
        )
        return (
            tf.cast(dz, h.dtype),
            tf.cast(dh, h.dtype),
            dc,
            _product_over_time(_shifted(h, outputs), dz),
        )

    return (outputs, last_h, last_c), gradient


@compiled
def _lstm_forward(projected: Tensor, recurrent: Tensor, c: Tensor) -> Any:
    i, f, g, o = tf.split(projected + tf.cast(recurrent, c.dtype), 4, axis=-1)
    i, f, g, o = _sigmoid(i), _sigmoid(f), tf.tanh(g), _sigmoid(o)
    c = f * c + i * g
    return o * tf.tanh(c), c, tf.concat([i, f, g, o], axis=-1)


@compiled
def _lstm_slopes(gates: Tensor, cells: Tensor, before: Tensor) -> Any:
    """dz of i, f and g by dc, dz of o by dh, dc by dh, and the forget gate, for all steps."""
    i, f, g, o = tf.split(gates, 4, axis=-1)
    tanh_c = tf.tanh(cells)
    by_dc = tf.concat(
        [g * _sigmoid_slope(i), before * _sigmoid_slope(f), i * (1.0 - g * g)], axis=-1
    )
    return by_dc, tanh_c * _sigmoid_slope(o), o * (1.0 - tanh_c * tanh_c), tf.identity(f)


@compiled
def _lstm_backward(
    dh: Tensor,
    dc: Tensor,
    d_output: Tensor,
    by_dc: Tensor,
    o_by_dh: Tensor,
    c_by_dh: Tensor,
    f: Tensor,
    dtype: tf.DType,
) -> Any:
    dh = tf.cast(dh, dc.dtype) + d_output
    dc = dc + dh * c_by_dh
    dz = tf.concat([tf.tile(dc, (1, 3)) * by_dc, dh * o_by_dh], axis=-1)
    return tf.cast(dz, dtype), dc * f


@tf.custom_gradient
def gru(projected: Tensor, h: Tensor, recurrent_kernel: Tensor, recurrent_bias: Tensor) -> Any:
    """A GRU in Keras' gate order z, r, n, the reset gate after the product (``reset_after=True``).

    ``projected`` (T, B, 3H) with the input bias in it, ``h`` (B, H), ``recurrent_kernel`` (H, 3H),
    ``recurrent_bias`` (3H,) → outputs (T, B, H), last h.
    """
    units, dtype = recurrent_kernel.shape[0], recurrent_kernel.dtype

    def step(state: Any, inputs: Any) -> Any:
        h = state[0]
        recurrent = _product(h, recurrent_kernel)
        h, gates, n, recalled = _gru_forward(inputs[0], recurrent, recurrent_bias, h)
        return (h,), (h, gates, n, recalled)

    (last,), (outputs, gates, n, recalled) = _scan(
        step,
        (h,),
        (projected,),
        ((units, h.dtype), (2 * units, h.dtype), (units, h.dtype), (units, h.dtype)),
    )

    def gradient(d_outputs: Tensor, d_last: Tensor) -> Any:
        transposed = tf.transpose(recurrent_kernel)
        before = _shifted(h, outputs)
        z, *others = _gru_slopes(gates, n, recalled, before)

        def step_back(state: Any, inputs: Any) -> Any:
            kept, product = state
            d_projected, d_recurrent, kept = _gru_backward(kept, product, *inputs, dtype)
            return (kept, tf.matmul(d_recurrent, transposed)), (d_projected, d_recurrent)

        (kept, product), (d_projected, d_recurrent) = _scan(
            step_back,
            (d_last, tf.zeros_like(d_last, dtype)),
            (d_outputs, z, *others),
            ((3 * units, h.dtype), (3 * units, dtype)),
            backward=True,
        )
        return (
            d_projected,
            kept + tf.cast(product, kept.dtype),
            _product_over_time(before, d_recurrent),
            tf.reduce_sum(tf.cast(d_recurrent, h.dtype), axis=(0, 1)),
        )

    return (outputs, last), gradient


@compiled
def _gru_forward(projected: Tensor, recurrent: Tensor, recurrent_bias: Tensor, h: Tensor) -> Any:
    units = h.shape[-1]
    split = [2 * units, units]
    x_gates, x_candidate = tf.split(projected, split, axis=-1)
    recurrent = tf.cast(recurrent, h.dtype) + recurrent_bias
    h_gates, recalled = tf.split(recurrent, split, axis=-1)
    gates = _sigmoid(x_gates + h_gates)
    z, r = tf.split(gates, 2, axis=-1)
    n = tf.tanh(x_candidate + r * recalled)
    return n + z * (h - n), gates, n, tf.identity(recalled)


@compiled
def _gru_slopes(gates: Tensor, n: Tensor, recalled: Tensor, before: Tensor) -> Any:
    """The gates z and r, dz and dn by dh, and dr by dn, for all steps."""
    z, r = tf.split(gates, 2, axis=-1)
    return (
        tf.identity(z),
        tf.identity(r),
        (before - n) * _sigmoid_slope(z),
        (1.0 - z) * (1.0 - n * n),
        recalled * _sigmoid_slope(r),
    )


@compiled
def _gru_backward(
    kept: Tensor,
    product: Tensor,
    d_output: Tensor,
    z: Tensor,
    r: Tensor,
    z_by_dh: Tensor,
    n_by_dh: Tensor,
    r_by_dn: Tensor,
    dtype: tf.DType,
) -> Any:
    """Gradients of the projected input and of the product, and what of dh passes by it."""
    dh = kept + tf.cast(product, kept.dtype) + d_output
    dn = dh * n_by_dh
    d_gates = tf.concat([dh * z_by_dh, dn * r_by_dn], axis=-1)
    return (
        tf.concat([d_gates, dn], axis=-1),
        tf.cast(tf.concat([d_gates, dn * r], axis=-1), dtype),
        dh * z,
    )
