"""Inference on NumPy: token indices in, logits out, one stream or a batch.

The recurrent body (`Body`: embedding and recurrent layers) and its head (`Head`: logits of the
next token) are apart, so that another head can come to the same body. A `State` owns the buffers
of its streams, and a step writes into them; nothing is allocated on the way. ``cells`` holds the
same equations to be read; here they are arranged for speed:

* ``embedding @ kernel + bias`` is one table, made at load, wherever the vocabulary is small;
* the columns of the sigmoid gates are halved, since sigmoid(x) = (1 + tanh(x / 2)) / 2, so that
  one tanh serves all gates;
* LSTM gates are reordered from Keras' i, f, c, o to i, f, o, c to lie side by side;
* buffers are feature-major: a state is (H,) or (H, B), so that each gate is one block of memory
  and a batch is the right side of its product, which OpenBLAS multiplies a quarter faster.

Outside, streams come first as everywhere: what is handed out are transposed views. This room
knows nothing of text or random numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.config import ModelConfig

__all__ = ["Body", "Engine", "Head", "State"]

Floats = NDArray[np.float32]
Indices = NDArray[np.integer[Any]]

_LARGEST_TABLE_BYTES = 1 << 26
_HALF = np.float32(0.5)


class _Recurrence:
    """One layer's recurrence over the buffers of one state; ``h`` is (H,) or (H, B)."""

    def __init__(self, layer: _Layer, batch_shape: tuple[int, ...]) -> None:
        self._recurrent_kernel = layer.recurrent_kernel
        columns, units = layer.recurrent_kernel.shape
        self.h = np.zeros((units, *batch_shape), np.float32)
        self._gates = np.empty((columns, *batch_shape), np.float32)

    @property
    def arrays(self) -> tuple[Floats, ...]:
        return (self.h,)

    def advance(self, projected: Floats) -> None:
        """One step, given the layer's input times its kernel, plus its bias: (columns,) or
        (columns, B)."""
        raise NotImplementedError


class _SimpleRNN(_Recurrence):
    def advance(self, projected: Floats) -> None:
        gates = self._gates
        np.dot(self._recurrent_kernel, self.h, gates)
        np.add(gates, projected, gates)
        np.tanh(gates, self.h)


class _LSTM(_Recurrence):
    def __init__(self, layer: _Layer, batch_shape: tuple[int, ...]) -> None:
        super().__init__(layer, batch_shape)
        units = len(self.h)
        self.c = np.zeros_like(self.h)
        self._tanh_c = np.empty_like(self.h)
        self._sigmoids = self._gates[: 3 * units]
        self._input = self._gates[:units]
        self._forget = self._gates[units : 2 * units]
        self._output = self._gates[2 * units : 3 * units]
        self._candidate = self._gates[3 * units :]

    @property
    def arrays(self) -> tuple[Floats, ...]:
        return (self.h, self.c)

    def advance(self, projected: Floats) -> None:
        gates, sigmoids, c, candidate = self._gates, self._sigmoids, self.c, self._candidate
        np.dot(self._recurrent_kernel, self.h, gates)
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
        self._units = units = len(self.h)
        # A column where there are streams beside it.
        self._candidate_bias = layer.candidate_bias.reshape(-1, *[1] * len(batch_shape))
        self._sigmoids = self._gates[: 2 * units]
        self._update = self._gates[:units]
        self._reset = self._gates[units : 2 * units]
        self._candidate = self._gates[2 * units :]

    def advance(self, projected: Floats) -> None:
        h, gates, sigmoids, candidate = self.h, self._gates, self._sigmoids, self._candidate
        split = 2 * self._units
        np.dot(self._recurrent_kernel, h, gates)
        np.add(sigmoids, projected[:split], sigmoids)
        np.tanh(sigmoids, sigmoids)
        np.multiply(sigmoids, _HALF, sigmoids)
        np.add(sigmoids, _HALF, sigmoids)
        np.add(candidate, self._candidate_bias, candidate)
        np.multiply(candidate, self._reset, candidate)
        np.add(candidate, projected[split:], candidate)
        np.tanh(candidate, candidate)
        np.subtract(h, candidate, h)  # h = candidate + update * (h - candidate)
        np.multiply(h, self._update, h)
        np.add(h, candidate, h)


_RECURRENCES: dict[str, type[_Recurrence]] = {"rnn": _SimpleRNN, "lstm": _LSTM, "gru": _GRU}


class _Layer:
    """One recurrent layer's weights, arranged for ``_Recurrence``."""

    def __init__(self, cell: str, units: int, kernel: Floats, recurrent: Floats, bias: Floats):
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
        self._kernel = np.ascontiguousarray((kernel[:, columns] * scale).T)
        self._bias = np.ascontiguousarray(bias[columns] * scale)
        self.recurrent_kernel = np.ascontiguousarray((recurrent[:, columns] * scale).T)

    def project(self, inputs: Floats) -> Floats:
        """The kernel times inputs (E,) or (E, B), plus the bias: (columns,) or (columns, B)."""
        bias = self._bias if inputs.ndim == 1 else self._bias[:, np.newaxis]
        return np.matmul(self._kernel, inputs) + bias


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
        columns = len(self.layers[0].recurrent_kernel)
        fits = config.vocabulary_size * columns * 4 <= _LARGEST_TABLE_BYTES
        # The first layer's projected input of every token: (columns, V), and (V, columns).
        self._table_columns = self.layers[0].project(self._embedding.T) if fits else None
        self._table = (
            None if self._table_columns is None else np.ascontiguousarray(self._table_columns.T)
        )

    def lookup(self, tokens: int | Indices) -> Floats:
        """The first layer's projected input of one token (columns,), or of (B,): (columns, B)."""
        if self._table_columns is None or self._table is None:
            return self.layers[0].project(self._embedding[tokens].T)
        if isinstance(tokens, np.ndarray) and tokens.ndim:
            return self._table_columns.take(tokens, axis=1, mode="clip")
        return np.asarray(self._table[tokens])

    def run(self, state: State, tokens: Indices) -> Floats:
        """Outputs (T, H) or (T, B, H) of ``tokens`` (T,) or (T, B); ``state`` moves on."""
        # Steps lie as streams do, so that one product serves them all: (H, T) or (H, T, B).
        outputs = np.empty((self.units, *tokens.shape), np.float32)
        first, *others = zip(self.layers, state.recurrences, strict=True)
        for step, step_tokens in enumerate(tokens):
            first[1].advance(self.lookup(step_tokens))
            outputs[:, step] = first[1].h
        for layer, recurrence in others:
            projected = layer.project(outputs.reshape(self.units, -1))
            projected = projected.reshape(-1, *tokens.shape)
            for step in range(len(tokens)):
                recurrence.advance(projected[:, step])
                outputs[:, step] = recurrence.h
        return np.moveaxis(outputs, 0, -1)


class Head:
    """The next token's logits: ``outputs @ kernel + bias``."""

    def __init__(self, kernel: Floats, bias: Floats) -> None:
        self._kernel = np.ascontiguousarray(kernel.T)  # (V, H)
        self._bias = bias

    @property
    def size(self) -> int:
        """How many logits there are."""
        return self._bias.size

    def __call__(self, outputs: Floats) -> Floats:
        """Logits (..., V) of outputs (..., H)."""
        if outputs.ndim > 2:  # (T, B, H), which lies in memory as (H, T, B): see `Body.run`
            streams = outputs.transpose(2, 0, 1).reshape(outputs.shape[-1], -1)
            return self(streams.T).T.reshape(-1, *outputs.shape[:-1]).transpose(1, 2, 0)
        logits = np.dot(self._kernel, outputs.T).T
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
        return [array.T for recurrence in self.recurrences for array in recurrence.arrays]

    @property
    def output(self) -> Floats:
        """The last layer's h, (H,) or (B, H), a live view."""
        return self.recurrences[-1].h.T

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
        first, *others = state.recurrences
        first.advance(self.body.lookup(tokens))
        output = first.h
        for layer, recurrence in zip(self.body.layers[1:], others, strict=True):
            recurrence.advance(layer.project(output))
            output = recurrence.h
        return self.head(output.T)
