"""Recurrent layers for training: whole sequences, time-major, with hand-written gradients.

Each kernel takes the layer's input already multiplied by its kernel, so that one product before
the loop serves all steps and the loop holds only ``h @ U`` and the gates. On the way back the
gate derivatives are made for the whole sequence first, the loop holds only ``dz @ Uᵀ``, and the
gradient of U is one product after it (truncated back-propagation through time; equations and
sources in ``chargen.cells``). Written to be compiled by XLA. Only this room and ``pipeline`` are
TensorFlow; neither knows anything of characters.

Shapes: T time, B batch, H units.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

__all__ = ["gru", "lstm", "simple_rnn"]

Tensor = Any  # tf.Tensor, which carries no useful types


def _sigmoid(x: Tensor) -> Tensor:
    return 0.5 * tf.tanh(0.5 * x) + 0.5


def _sigmoid_slope(y: Tensor) -> Tensor:
    """The derivative of the sigmoid where its value is ``y``."""
    return y * (1.0 - y)


def _scan(step: Any, state: tuple[Tensor, ...], inputs: tuple[Tensor, ...], backward: bool) -> Any:
    """Run ``step(state, inputs at t) -> state, outputs at t`` over time; outputs stacked over T."""
    length = inputs[0].shape[0]
    order = -1 if backward else 1
    first = length - 1 if backward else 0
    sources = [
        tf.TensorArray(x.dtype, length, element_shape=x.shape[1:]).unstack(x) for x in inputs
    ]
    specs = step(state, tuple(source.read(first) for source in sources))[1]
    sinks = tuple(tf.TensorArray(y.dtype, length, element_shape=y.shape) for y in specs)

    def body(t: Tensor, state: Any, sinks: Any) -> Any:
        state, outputs = step(state, tuple(source.read(t) for source in sources))
        return t + order, state, tuple(s.write(t, y) for s, y in zip(sinks, outputs, strict=True))

    _, state, sinks = tf.while_loop(
        lambda t, *_: t >= 0 if backward else t < length,
        body,
        (tf.constant(first), state, sinks),
        maximum_iterations=length,
        parallel_iterations=1,
    )
    return state, tuple(sink.stack() for sink in sinks)


def _shifted(first: Tensor, sequence: Tensor) -> Tensor:
    """The state before each step: ``first`` (B, H), then all but the last of (T, B, H)."""
    return tf.concat([first[tf.newaxis], sequence[:-1]], axis=0)


def _product_over_time(left: Tensor, right: Tensor) -> Tensor:
    """The sum over T and B of the outer products of (T, B, X) and (T, B, Y): (X, Y)."""
    return tf.matmul(
        tf.reshape(left, (-1, left.shape[-1])),
        tf.reshape(right, (-1, right.shape[-1])),
        transpose_a=True,
    )


@tf.custom_gradient
def simple_rnn(projected: Tensor, h: Tensor, recurrent_kernel: Tensor) -> Any:
    """h(t) = tanh(projected(t) + h(t-1) U).

    ``projected`` (T, B, H), ``h`` (B, H), ``recurrent_kernel`` (H, H) → outputs (T, B, H), last h.
    """

    def step(state: Any, inputs: Any) -> Any:
        value = tf.tanh(inputs[0] + tf.matmul(state[0], recurrent_kernel))
        return (value,), (value,)

    (last,), (outputs,) = _scan(step, (h,), (projected,), backward=False)

    def gradient(d_outputs: Tensor, d_last: Tensor) -> Any:
        transposed = tf.transpose(recurrent_kernel)
        slope = 1.0 - outputs * outputs

        def step_back(state: Any, inputs: Any) -> Any:
            d_output, slope = inputs
            dz = (state[0] + d_output) * slope
            return (tf.matmul(dz, transposed),), (dz,)

        (d_first,), (dz,) = _scan(step_back, (d_last,), (d_outputs, slope), backward=True)
        return dz, d_first, _product_over_time(_shifted(h, outputs), dz)

    return (outputs, last), gradient


@tf.custom_gradient
def lstm(projected: Tensor, h: Tensor, c: Tensor, recurrent_kernel: Tensor) -> Any:
    """An LSTM in Keras' gate order i, f, g, o.

    ``projected`` (T, B, 4H), ``h`` and ``c`` (B, H), ``recurrent_kernel`` (H, 4H) → outputs
    (T, B, H), last h, last c.
    """

    def step(state: Any, inputs: Any) -> Any:
        h, c = state
        z = inputs[0] + tf.matmul(h, recurrent_kernel)
        i, f, g, o = tf.split(z, 4, axis=-1)
        i, f, g, o = _sigmoid(i), _sigmoid(f), tf.tanh(g), _sigmoid(o)
        c = f * c + i * g
        h = o * tf.tanh(c)
        return (h, c), (h, c, tf.concat([i, f, g, o], axis=-1))

    (last_h, last_c), (outputs, cells, gates) = _scan(step, (h, c), (projected,), backward=False)

    def gradient(d_outputs: Tensor, d_last_h: Tensor, d_last_c: Tensor) -> Any:
        transposed = tf.transpose(recurrent_kernel)
        i, f, g, o = tf.split(gates, 4, axis=-1)
        tanh_c = tf.tanh(cells)
        # dz of i, f and g is dc times these; dz of o is dh times its own.
        by_dc = tf.concat(
            [g * _sigmoid_slope(i), _shifted(c, cells) * _sigmoid_slope(f), i * (1.0 - g * g)],
            axis=-1,
        )
        o_by_dh = tanh_c * _sigmoid_slope(o)
        c_by_dh = o * (1.0 - tanh_c * tanh_c)

        def step_back(state: Any, inputs: Any) -> Any:
            dh, dc = state
            d_output, by_dc, o_by_dh, c_by_dh, f = inputs
            dh = dh + d_output
            dc = dc + dh * c_by_dh
            dz = tf.concat([tf.tile(dc, (1, 3)) * by_dc, dh * o_by_dh], axis=-1)
            return (tf.matmul(dz, transposed), dc * f), (dz,)

        (dh, dc), (dz,) = _scan(
            step_back,
            (d_last_h, d_last_c),
            (d_outputs, by_dc, o_by_dh, c_by_dh, f),
            backward=True,
        )
        return dz, dh, dc, _product_over_time(_shifted(h, outputs), dz)

    return (outputs, last_h, last_c), gradient


@tf.custom_gradient
def gru(projected: Tensor, h: Tensor, recurrent_kernel: Tensor, recurrent_bias: Tensor) -> Any:
    """A GRU in Keras' gate order z, r, n, the reset gate after the product (``reset_after=True``).

    ``projected`` (T, B, 3H) with the input bias in it, ``h`` (B, H), ``recurrent_kernel`` (H, 3H),
    ``recurrent_bias`` (3H,) → outputs (T, B, H), last h.
    """
    units = recurrent_kernel.shape[0]
    split = [2 * units, units]

    def step(state: Any, inputs: Any) -> Any:
        h = state[0]
        x_gates, x_candidate = tf.split(inputs[0], split, axis=-1)
        recurrent = tf.matmul(h, recurrent_kernel) + recurrent_bias
        h_gates, recalled = tf.split(recurrent, split, axis=-1)
        gates = _sigmoid(x_gates + h_gates)
        z, r = tf.split(gates, 2, axis=-1)
        n = tf.tanh(x_candidate + r * recalled)
        h = n + z * (h - n)
        return (h,), (h, gates, n, recalled)

    (last,), (outputs, gates, n, recalled) = _scan(step, (h,), (projected,), backward=False)

    def gradient(d_outputs: Tensor, d_last: Tensor) -> Any:
        transposed = tf.transpose(recurrent_kernel)
        z, r = tf.split(gates, 2, axis=-1)
        before = _shifted(h, outputs)
        z_by_dh = (before - n) * _sigmoid_slope(z)
        n_by_dh = (1.0 - z) * (1.0 - n * n)
        r_by_dn = recalled * _sigmoid_slope(r)

        def step_back(state: Any, inputs: Any) -> Any:
            d_output, z, r, z_by_dh, n_by_dh, r_by_dn = inputs
            dh = state[0] + d_output
            dn = dh * n_by_dh
            d_gates = tf.concat([dh * z_by_dh, dn * r_by_dn], axis=-1)
            d_recurrent = tf.concat([d_gates, dn * r], axis=-1)
            return (dh * z + tf.matmul(d_recurrent, transposed),), (d_gates, dn)

        (d_first,), (d_gates, dn) = _scan(
            step_back,
            (d_last,),
            (d_outputs, z, r, z_by_dh, n_by_dh, r_by_dn),
            backward=True,
        )
        d_recurrent = tf.concat([d_gates, dn * r], axis=-1)
        return (
            tf.concat([d_gates, dn], axis=-1),
            d_first,
            _product_over_time(before, d_recurrent),
            tf.reduce_sum(d_recurrent, axis=(0, 1)),
        )

    return (outputs, last), gradient
