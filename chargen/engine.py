"""Inference on NumPy: token indices in, logits out, one stream or a batch.

The recurrent body (`Body`: embedding and recurrent layers) and its head (`Head`: logits of the
next token) are apart, so that another head can come to the same body. A `State` owns the buffers
of its streams, and a step writes into them; nothing is allocated on the way. ``cells`` holds the
same equations to be read; here they are arranged for speed:

* ``embedding @ kernel + bias`` is one table, made at load, wherever the vocabulary is small;
* the columns of the sigmoid gates are halved, since sigmoid(x) = (1 + tanh(x / 2)) / 2, so that
  one tanh serves all gates;
* LSTM gates are reordered from Keras' i, f, c, o to i, f, o, c to lie side by side;
* gates come first in all that has any, (G, H) or (G, B, H), so that each is one block of memory;
  one stream makes them by a single product, a batch by one a gate, or by many small ones where
  BLAS is fast at those;
* weights and buffers begin at multiples of 64 bytes, which makes one stream a fifth faster.

This room knows nothing of text or random numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen import blas
from chargen.config import ModelConfig

__all__ = ["Body", "Engine", "Head", "State"]

Floats = NDArray[np.float32]
Indices = NDArray[np.integer[Any]]

_LARGEST_TABLE_BYTES = 1 << 26
_HALF = np.float32(0.5)


class _Recurrence:
    """One layer's recurrence over the buffers of one state; ``h`` is (H,) or (B, H)."""

    def __init__(self, layer: _Layer, batch_shape: tuple[int, ...]) -> None:
        self.h = blas.aligned(np.zeros((*batch_shape, layer.units), np.float32))
        self._gates = blas.aligned(np.zeros((layer.num_gates, *self.h.shape), np.float32))
        if batch_shape:
            operands = layer.recurrent_kernels.operands(self.h, self._gates)
            self._multiply = partial(np.matmul, *operands)
        else:
            flat = self._gates.reshape(-1)
            self._multiply = partial(np.dot, layer.recurrent_kernel, self.h, flat)

    @property
    def arrays(self) -> tuple[Floats, ...]:
        return (self.h,)

    def advance(self, projected: Floats) -> None:
        """One step, given the layer's input times its kernel, plus its bias: (G, H) or
        (G, B, H)."""
        raise NotImplementedError


class _SimpleRNN(_Recurrence):
    def advance(self, projected: Floats) -> None:
        self._multiply()
        gates = self._gates
        np.add(gates, projected, gates)
        np.tanh(gates[0], self.h)


class _LSTM(_Recurrence):
    def __init__(self, layer: _Layer, batch_shape: tuple[int, ...]) -> None:
        super().__init__(layer, batch_shape)
        self.c = blas.aligned(np.zeros_like(self.h))
        self._tanh_c = blas.aligned(np.zeros_like(self.h))
        self._sigmoids = self._gates[:3]
        self._input, self._forget, self._output, self._candidate = self._gates

    @property
    def arrays(self) -> tuple[Floats, ...]:
        return (self.h, self.c)

    def advance(self, projected: Floats) -> None:
        self._multiply()
        gates, sigmoids, c, candidate = self._gates, self._sigmoids, self.c, self._candidate
        np.add(gates, projected, gates)
        np.tanh(gates, gates)
        np.multiply(sigmoids, _HALF, sigmoids)
        np.add(sigmoids, _HALF, sigmoids)
        np.multiply(c, self._forget, c)
        np.multiply(candidate, self._input, candidate)
        np.add(c, candidate, c)
        np.tanh(c, self._tanh_c)
        np.multiply(self._tanh_c, self._output, self.h)


class _GRU(_Recurrence):
    def __init__(self, layer: _Layer, batch_shape: tuple[int, ...]) -> None:
        super().__init__(layer, batch_shape)
        self._candidate_bias = layer.candidate_bias
        self._sigmoids = self._gates[:2]
        self._update, self._reset, self._candidate = self._gates

    def advance(self, projected: Floats) -> None:
        self._multiply()
        h, sigmoids, candidate = self.h, self._sigmoids, self._candidate
        np.add(sigmoids, projected[:2], sigmoids)
        np.tanh(sigmoids, sigmoids)
        np.multiply(sigmoids, _HALF, sigmoids)
        np.add(sigmoids, _HALF, sigmoids)
        np.add(candidate, self._candidate_bias, candidate)
        np.multiply(candidate, self._reset, candidate)
        np.add(candidate, projected[2], candidate)
        np.tanh(candidate, candidate)
        np.subtract(h, candidate, h)  # h = candidate + update * (h - candidate)
        np.multiply(h, self._update, h)
        np.add(h, candidate, h)


_RECURRENCES: dict[str, type[_Recurrence]] = {"rnn": _SimpleRNN, "lstm": _LSTM, "gru": _GRU}


class _Layer:
    """One recurrent layer's weights, arranged for ``_Recurrence``."""

    def __init__(self, cell: str, units: int, kernel: Floats, recurrent: Floats, bias: Floats):
        self.units = units
        self.num_gates = kernel.shape[1] // units
        columns = np.arange(kernel.shape[1])
        scale = np.ones(columns.size, np.float32)
        self.candidate_bias = np.zeros(0, np.float32)
        if cell == "lstm":
            columns = np.concatenate(
                [columns[: 2 * units], columns[3 * units :], columns[2 * units : 3 * units]]
            )
            scale[: 3 * units] = _HALF
        elif cell == "gru":
            scale[: 2 * units] = _HALF
            # The recurrent bias of the candidate lies inside the reset gate's product.
            self.candidate_bias = bias[1, 2 * units :].copy()
            bias = np.concatenate([bias.sum(axis=0)[: 2 * units], bias[0, 2 * units :]])
        self._kernel = blas.aligned((kernel[:, columns] * scale).T)  # (G H, E)
        self._bias = (bias[columns] * scale).reshape(-1, units)  # (G, H)
        self.recurrent_kernel = blas.aligned((recurrent[:, columns] * scale).T)  # (G H, H)
        self.recurrent_kernels = self._by_gate(self.recurrent_kernel)
        self._kernels = self._by_gate(self._kernel)

    def _by_gate(self, kernel: Floats) -> blas.Kernels:
        gates = kernel.reshape(self.num_gates, self.units, -1)
        return blas.Kernels(gates.swapaxes(1, 2))

    def project(self, inputs: Floats) -> Floats:
        """The kernel times inputs (E,) or (B, E), plus the bias: (G, H) or (G, B, H)."""
        if inputs.ndim == 1:
            return np.dot(self._kernel, inputs).reshape(self._bias.shape) + self._bias
        projected = np.empty((self.num_gates, len(inputs), self.units), np.float32)
        np.matmul(*self._kernels.operands(inputs, projected))
        projected += self._bias[:, np.newaxis]
        return projected


class Body:
    """Embedding and recurrent layers: token indices in, the last layer's outputs out."""

    def __init__(self, config: ModelConfig, tensors: Mapping[str, Floats]) -> None:
        self.cell = config.cell
        self.units = config.units
        self.layers = [
            _Layer(
                config.cell,
                config.units,
                tensors[f"recurrent_{layer + 1}/kernel"],
                tensors[f"recurrent_{layer + 1}/recurrent_kernel"],
                tensors[f"recurrent_{layer + 1}/bias"],
            )
            for layer in range(config.num_layers)
        ]
        self._embedding = tensors["embedding"]
        numbers = config.vocabulary_size * len(self.layers[0].recurrent_kernel)
        fits = numbers * 4 <= _LARGEST_TABLE_BYTES
        # The first layer's projected input of every token: (G, V, H), and (V, G, H).
        self._table_by_gate = self._table = None
        if fits:
            self._table_by_gate = blas.aligned(self.layers[0].project(self._embedding))
            self._table = blas.aligned(self._table_by_gate.swapaxes(0, 1))

    def lookup(self, tokens: int | Indices) -> Floats:
        """The first layer's projected input of one token (G, H), or of (B,): (G, B, H)."""
        if self._table_by_gate is None or self._table is None:
            return self.layers[0].project(self._embedding[tokens])
        if isinstance(tokens, np.ndarray) and tokens.ndim:
            return self._table_by_gate.take(tokens, axis=1, mode="clip")
        return np.asarray(self._table[tokens])

    def advance(self, state: State, tokens: int | Indices) -> Floats:
        """Read one token, or (B,); the last layer's outputs (H,) or (B, H), a live view."""
        first, *others = state.recurrences
        first.advance(self.lookup(tokens))
        output = first.h
        for layer, recurrence in zip(self.layers[1:], others, strict=True):
            recurrence.advance(layer.project(output))
            output = recurrence.h
        return output

    def run(self, state: State, tokens: Indices) -> Floats:
        """Outputs (T, H) or (T, B, H) of ``tokens`` (T,) or (T, B); ``state`` moves on."""
        outputs = np.empty((*tokens.shape, self.units), np.float32)
        if tokens.ndim > 1:
            for step, step_tokens in enumerate(tokens):
                outputs[step] = self.advance(state, step_tokens)
            return outputs
        first, *others = zip(self.layers, state.recurrences, strict=True)
        for step, token in enumerate(tokens):
            first[1].advance(self.lookup(token))
            outputs[step] = first[1].h
        for layer, recurrence in others:
            projected = layer.project(outputs)  # its steps as if they were a batch: (G, T, H)
            for step in range(len(tokens)):
                recurrence.advance(projected[:, step])
                outputs[step] = recurrence.h
        return outputs


class Head:
    """The next token's logits: ``outputs @ kernel + bias``."""

    def __init__(self, kernel: Floats, bias: Floats) -> None:
        self._kernel = blas.aligned(kernel.T)  # (V, H)
        self._bias = bias

    @property
    def size(self) -> int:
        """How many logits there are."""
        return self._bias.size

    def __call__(self, outputs: Floats) -> Floats:
        """Logits (..., V) of outputs (..., H)."""
        if outputs.ndim == 1:
            logits = np.dot(self._kernel, outputs)
        else:
            streams = outputs.reshape(-1, outputs.shape[-1])
            logits = np.dot(streams, self._kernel.T).reshape(*outputs.shape[:-1], -1)
        logits += self._bias
        return logits


class State:
    """The hidden state of one stream (``batch_size`` None) or of a batch, and its buffers."""

    def __init__(self, body: Body, batch_size: int | None = None) -> None:
        shape = () if batch_size is None else (batch_size,)
        recurrence = _RECURRENCES[body.cell]
        self.recurrences = [recurrence(layer, shape) for layer in body.layers]

    @property
    def arrays(self) -> list[Floats]:
        """Live views (H,) or (B, H): h, and c of an LSTM, of each layer in order."""
        return [array for recurrence in self.recurrences for array in recurrence.arrays]

    @property
    def output(self) -> Floats:
        """The last layer's h, (H,) or (B, H), a live view."""
        return self.recurrences[-1].h

    def reset(self) -> None:
        for array in self.arrays:
            array.fill(0)


class Engine:
    """A body with a next-token head."""

    def __init__(self, config: ModelConfig, tensors: Mapping[str, Floats]) -> None:
        self.body = Body(config, tensors)
        self.head = Head(tensors["head/kernel"], tensors["head/bias"])

    def zero_state(self, batch_size: int | None = None) -> State:
        return State(self.body, batch_size)

    def logits(self, state: State) -> Floats:
        """What ``state`` expects next: (V,) or (B, V). A zero state knows only the head's bias."""
        return self.head(state.output)

    def prefill(self, state: State, tokens: Indices) -> Floats:
        """Read ``tokens`` (T,) or (T, B), T ≥ 1; the logits after the last of them."""
        return self.head(self.body.run(state, tokens)[-1])

    def step(self, state: State, tokens: int | Indices) -> Floats:
        """Read one token a stream; the logits after it."""
        return self.head(self.body.advance(state, tokens))
