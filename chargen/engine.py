"""Inference on NumPy: token indices in, logits out, one stream or a batch.

The recurrent body (`Body`: embedding and recurrent layers) and its head (`Head`: logits of the
next token) are apart, so that another head can come to the same body. A `State` owns the buffers
of its streams, and a step writes into them; nothing is allocated on the way. ``cells`` holds the
same equations to be read; here they are arranged for speed:

* ``embedding @ kernel + bias`` is one table, made at load, wherever the vocabulary is small;
* the columns of the sigmoid gates are halved, since sigmoid(x) = (1 + tanh(x / 2)) / 2, so that
  one tanh serves all gates;
* LSTM gates are reordered from Keras' i, f, c, o to i, f, o, c to lie side by side.

This room knows nothing of text or random numbers.
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
    """One layer's recurrence over the buffers of one state; ``h`` is (H,) or (B, H)."""

    def __init__(self, layer: _Layer, batch_shape: tuple[int, ...]) -> None:
        units = layer.recurrent_kernel.shape[0]
        self._recurrent_kernel = layer.recurrent_kernel
        self.h = np.zeros((*batch_shape, units), np.float32)
        self._gates = np.empty((*batch_shape, layer.recurrent_kernel.shape[1]), np.float32)

    @property
    def arrays(self) -> tuple[Floats, ...]:
        return (self.h,)

    def advance(self, projected: Floats) -> None:
        """One step, given the layer's input times its kernel, plus its bias."""
        raise NotImplementedError


class _SimpleRNN(_Recurrence):
    def advance(self, projected: Floats) -> None:
        gates = self._gates
        np.dot(self.h, self._recurrent_kernel, gates)
        np.add(gates, projected, gates)
        np.tanh(gates, self.h)


class _LSTM(_Recurrence):
    def __init__(self, layer: _Layer, batch_shape: tuple[int, ...]) -> None:
        super().__init__(layer, batch_shape)
        units = self.h.shape[-1]
        self.c = np.zeros_like(self.h)
        self._tanh_c = np.empty_like(self.h)
        self._sigmoids = self._gates[..., : 3 * units]
        self._input = self._gates[..., :units]
        self._forget = self._gates[..., units : 2 * units]
        self._output = self._gates[..., 2 * units : 3 * units]
        self._candidate = self._gates[..., 3 * units :]

    @property
    def arrays(self) -> tuple[Floats, ...]:
        return (self.h, self.c)

    def advance(self, projected: Floats) -> None:
        gates, sigmoids, c, candidate = self._gates, self._sigmoids, self.c, self._candidate
        np.dot(self.h, self._recurrent_kernel, gates)
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
        self._units = units = self.h.shape[-1]
        self._candidate_bias = layer.candidate_bias
        self._sigmoids = self._gates[..., : 2 * units]
        self._update = self._gates[..., :units]
        self._reset = self._gates[..., units : 2 * units]
        self._candidate = self._gates[..., 2 * units :]

    def advance(self, projected: Floats) -> None:
        h, gates, sigmoids, candidate = self.h, self._gates, self._sigmoids, self._candidate
        split = 2 * self._units
        np.dot(h, self._recurrent_kernel, gates)
        np.add(sigmoids, projected[..., :split], sigmoids)
        np.tanh(sigmoids, sigmoids)
        np.multiply(sigmoids, _HALF, sigmoids)
        np.add(sigmoids, _HALF, sigmoids)
        np.add(candidate, self._candidate_bias, candidate)
        np.multiply(candidate, self._reset, candidate)
        np.add(candidate, projected[..., split:], candidate)
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
        self._kernel = np.ascontiguousarray(kernel[:, columns] * scale)
        self._bias = np.ascontiguousarray(bias[columns] * scale)
        self.recurrent_kernel = np.ascontiguousarray(recurrent[:, columns] * scale)

    def project(self, inputs: Floats) -> Floats:
        """Inputs (..., E) times the kernel, plus the bias: (..., columns)."""
        return inputs @ self._kernel + self._bias


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
        columns = self.layers[0].recurrent_kernel.shape[1]
        fits = config.vocabulary_size * columns * 4 <= _LARGEST_TABLE_BYTES
        self._table = self.layers[0].project(self._embedding) if fits else None

    def lookup(self, tokens: int | Indices) -> Floats:
        """The first layer's projected input of ``tokens``: (..., columns)."""
        if self._table is not None:
            return np.asarray(self._table[tokens])
        return self.layers[0].project(self._embedding[tokens])

    def run(self, state: State, tokens: Indices) -> Floats:
        """Outputs (T, H) or (T, B, H) of ``tokens`` (T,) or (T, B); ``state`` moves on."""
        outputs = np.empty((*tokens.shape, self.units), np.float32)
        first, *others = zip(self.layers, state.recurrences, strict=True)
        for step, step_tokens in enumerate(tokens):
            first[1].advance(self.lookup(step_tokens))
            outputs[step] = first[1].h
        for layer, recurrence in others:
            projected = layer.project(outputs)
            for step in range(len(tokens)):
                recurrence.advance(projected[step])
                outputs[step] = recurrence.h
        return outputs


class Head:
    """The next token's logits: ``outputs @ kernel + bias``."""

    def __init__(self, kernel: Floats, bias: Floats) -> None:
        self._kernel = np.ascontiguousarray(kernel)
        self._bias = bias

    @property
    def size(self) -> int:
        """How many logits there are."""
        return self._bias.size

    def __call__(self, outputs: Floats) -> Floats:
        """Logits (..., V) of outputs (..., H)."""
        logits = np.dot(outputs, self._kernel)
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
        """The live arrays: h, and c of an LSTM, of each layer in order."""
        return [array for recurrence in self.recurrences for array in recurrence.arrays]

    @property
    def output(self) -> Floats:
        """The last layer's h, (H,) or (B, H), a live array."""
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
        first, *others = state.recurrences
        first.advance(self.body.lookup(tokens))
        output = first.h
        for layer, recurrence in zip(self.body.layers[1:], others, strict=True):
            recurrence.advance(layer.project(output))
            output = recurrence.h
        return self.head(output)
