"""One network, two faces: the stock `Sequential` that is saved, and the face that trains.

`TrainingNetwork` shares the stock layers' variables and computes the same function with our
kernels, from token ids to logits, and carries the state from batch to batch. With
``recurrence="stock"`` it runs Keras' own layers instead: the slow twin on a CPU, and on a GPU the
way to cuDNN. The body ends at ``outputs``; the head is one product after it. This room knows
nothing of files or of how long to train.
"""

from __future__ import annotations

from typing import Any, Literal

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from chargen.config import ModelConfig, Objective, Precision
from chargen.errors import ModelFileError
from chargen.training import kernels
from chargen.training.run import Snapshot
from chargen.training.shards import ShardedStep, num_shards

__all__ = [
    "Recurrence",
    "TrainingNetwork",
    "assign_tensors",
    "build_network",
    "expect_frequencies",
    "named_variables",
    "tensors_of",
]

Recurrence = Literal["kernels", "stock"]

_LAYERS = {"rnn": keras.layers.SimpleRNN, "lstm": keras.layers.LSTM, "gru": keras.layers.GRU}
# Keras' own 0.05 leaves the first layer blind to its input for hundreds of steps.
_EMBEDDING_DEVIATION = 0.6


def build_network(config: ModelConfig, random_seed: int = 0) -> keras.Sequential:
    """The stock network of ``config``: ids (B, T) in, logits (B, T, V) out.

    Weights are drawn by ``random_seed`` alone: Glorot kernels, orthogonal recurrent kernels, and
    a forget bias of 1 (Jozefowicz et al. 2015).
    """
    seeds = iter(np.random.SeedSequence(random_seed).generate_state(3 * config.num_layers + 2) >> 1)

    def seed() -> int:
        return int(next(seeds))

    layers: list[Any] = [
        keras.Input((None,), dtype="int32", name="tokens"),
        keras.layers.Embedding(
            config.vocabulary_size,
            config.embedding_dim,
            embeddings_initializer=keras.initializers.RandomNormal(
                stddev=_EMBEDDING_DEVIATION, seed=seed()
            ),
            name="embedding",
        ),
    ]
    for layer in range(1, config.num_layers + 1):
        layers.append(
            _LAYERS[config.cell](
                config.units,
                return_sequences=True,
                kernel_initializer=keras.initializers.GlorotUniform(seed=seed()),
                recurrent_initializer=keras.initializers.Orthogonal(seed=seed()),
                name=f"recurrent_{layer}",
            )
        )
        if config.dropout:
            layers.append(
                keras.layers.Dropout(
                    config.dropout,
                    noise_shape=(None, 1, config.units),
                    seed=seed(),
                    name=f"dropout_{layer}",
                )
            )
    layers.append(
        keras.layers.Dense(
            config.vocabulary_size,
            kernel_initializer=keras.initializers.GlorotUniform(seed=seed()),
            name="head",
        )
    )
    return keras.Sequential(layers, name="chargen")


def expect_frequencies(network: keras.Sequential, counts: NDArray[np.int64]) -> None:
    """Set the head's bias to the log frequencies of the tokens (V,), each counted once more.

    A network that must first learn how frequent each token is pushes its units into saturation on
    the way: on tiny Shakespeare this and the wider embedding took 2,695 steps from 1.539 to 1.467
    nats a character.
    """
    share = (counts + 1) / (counts.sum() + counts.size)
    network.get_layer("head").bias.assign(np.log(share).astype(np.float32))


def named_variables(network: keras.Sequential) -> dict[str, Any]:
    """The network's weights by the names of ``ModelConfig.tensor_shapes``."""
    variables = {}
    for layer in network.layers:
        for variable in layer.weights:
            if layer.name == "embedding":
                variables["embedding"] = variable
            elif not variable.path.endswith("seed_generator_state"):
                variables[f"{layer.name}/{variable.name}"] = variable
    return variables


def tensors_of(network: keras.Sequential) -> Snapshot:
    """A copy of the network's weights, as NumPy arrays."""
    return _copied(named_variables(network))


def _copied(variables: dict[str, Any]) -> Snapshot:
    return {name: np.asarray(variable).copy() for name, variable in variables.items()}


def assign_tensors(network: keras.Sequential, tensors: dict[str, Any]) -> None:
    for name, variable in named_variables(network).items():
        variable.assign(tensors[name])


class TrainingNetwork(keras.Model):
    """The face that trains: ``((ids (T, B), carry (B,)), ...)`` in, logits out, states kept.

    Logits are (T, B, V) for the ``sequence`` objective and (B, V) for ``last``. ``carry`` is 1
    where a stream reads on from the batch before, 0 where it begins at zero state; the carried
    states are variables of this face.
    """

    def __init__(
        self,
        network: keras.Sequential,
        config: ModelConfig,
        batch_size: int,
        objective: Objective = "sequence",
        recurrence: Recurrence = "kernels",
        precision: Precision = "float32",
    ) -> None:
        super().__init__(name="training")
        self.network = network
        self._config = config
        self._batch_size = batch_size
        self._objective = objective
        self._recurrence = recurrence
        self._precision = precision
        self._embedding = network.get_layer("embedding")
        self._head = network.get_layer("head")
        self._recurrent = [
            network.get_layer(f"recurrent_{layer + 1}") for layer in range(config.num_layers)
        ]
        self._dropout = keras.random.SeedGenerator(
            int(np.random.SeedSequence((config.units, batch_size)).generate_state(1)[0] >> 1),
            name="dropout",
        )
        arrays = 2 if config.cell == "lstm" else 1
        self.states = [
            [
                self.add_weight(
                    shape=(batch_size, config.units),
                    initializer="zeros",
                    trainable=False,
                    name=f"state_{layer + 1}_{array + 1}",
                )
                for array in range(arrays)
            ]
            for layer in range(config.num_layers)
        ]
        self._step: ShardedStep | None = None
        self.built = True

    def _changing(self) -> dict[str, Any]:
        """The variables that a step changes, by name.

        Keras saves neither the carried states nor the seed generators nor a metric's sums.
        """
        self.optimizer.build(self.trainable_variables)
        states = {f"state/{state.name}": state for states in self.states for state in states}
        sums = {f"loss/{variable.name}": variable for variable in self._loss_tracker.variables}
        moments = {
            f"optimizer/{number}": variable
            for number, variable in enumerate(self.optimizer.variables)
        }
        seed = {"dropout/seed": self._dropout.state}
        return {**named_variables(self.network), **states, **sums, **moments, **seed}

    def snapshot(self) -> Snapshot:
        """A copy of everything that a step changes."""
        return _copied(self._changing())

    def restore(self, snapshot: Snapshot) -> None:
        """Go back to ``snapshot``. Raises ``ModelFileError`` where it is of another network."""
        variables = self._changing()
        kinds = {name: (tuple(v.shape), np.dtype(v.dtype)) for name, v in variables.items()}
        if {name: (array.shape, array.dtype) for name, array in snapshot.items()} != kinds:
            raise ModelFileError(
                "the resume state is not that of its own architecture; start the run anew: --force"
                " without --resume"
            )
        for name, variable in variables.items():
            variable.assign(snapshot[name])

    def call(self, inputs: Any, training: bool = False) -> Any:
        ids, carry = inputs
        masks = self._draw_masks() if training else []
        outputs, after = self._body(ids, self._states_before(carry), masks, training)
        self._keep(after)
        return self._logits(outputs)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, *args: Any, **others: Any
    ) -> Any:
        # Of targets of a lower rank Keras would take the logits of a single character for a rank
        # too many, and squeeze it.
        return super().compute_loss(x, y[..., np.newaxis], y_pred, *args, **others)

    def train_step(self, data: Any) -> Any:
        if self._recurrence == "stock":
            return super().train_step(data)
        if self._step is None:
            self._step = ShardedStep(
                self._loss,
                self.trainable_variables,
                self.optimizer,
                num_shards(self._batch_size),
                jit_compile=self._precision == "float32",
            )
        (ids, carry), targets, _ = keras.utils.unpack_x_y_sample_weight(data)
        loss, after = self._step(ids, targets, self._states_before(carry), self._draw_masks())
        self._keep(after)
        self._loss_tracker.update_state(loss)
        return self.get_metrics_result()

    def _loss(self, ids: Any, targets: Any, states: Any, masks: Any) -> Any:
        outputs, after = self._body(ids, states, masks, training=True)
        return self._loss_of_outputs(outputs, targets), after

    @kernels.compiled
    def _loss_of_outputs(self, outputs: Any, targets: Any) -> Any:
        return self.compute_loss(y=targets, y_pred=self._logits(outputs))

    def _states_before(self, carry: Any) -> list[list[Any]]:
        return [[state * carry[:, np.newaxis] for state in states] for states in self.states]

    def _keep(self, after: Any) -> None:
        for states, values in zip(self.states, after, strict=True):
            for state, value in zip(states, values, strict=True):
                state.assign(ops.stop_gradient(value))

    def _draw_masks(self) -> list[Any]:
        """A dropout mask (B, H) for each layer, one for all steps of the window."""
        if not self._config.dropout:
            return []
        ones = ops.ones((self._batch_size, self._config.units))
        return [
            keras.random.dropout(ones, self._config.dropout, seed=self._dropout)
            for _ in self._recurrent
        ]

    def _logits(self, outputs: Any) -> Any:
        if self._objective == "last":
            outputs = outputs[-1]
        return ops.matmul(outputs, self._head.kernel) + self._head.bias

    def _body(self, ids: Any, states: Any, masks: list[Any], training: bool) -> Any:
        """The last layer's outputs (T, b, H), and every layer's states after the last step."""
        hidden = None
        after = []
        for number, (layer, before) in enumerate(zip(self._recurrent, states, strict=True)):
            if self._recurrence == "stock":
                inputs = self._embedding(ids) if hidden is None else hidden
                hidden, last = _run_stock(layer, inputs, before, training)
            else:
                if hidden is None:
                    projected = self._project_ids(ids)
                else:
                    projected = _project(layer, hidden, self._precision)
                hidden, last = self._run_kernel(layer, projected, before)
            after.append(last)
            if masks:
                hidden = hidden * masks[number]
        return hidden, after

    @kernels.compiled
    def _project_ids(self, ids: Any) -> Any:
        """The first layer's projected input: a look-up in the projected embedding where the
        vocabulary is smaller than the batch of characters."""
        layer = self._recurrent[0]
        if self._config.vocabulary_size <= ids.shape[0] * ids.shape[1]:
            return ops.take(_project(layer, self._embedding.embeddings), ids, axis=0)
        return _project(layer, ops.take(self._embedding.embeddings, ids, axis=0))

    def _run_kernel(self, layer: Any, projected: Any, states: list[Any]) -> Any:
        cell = layer.cell
        recurrent_kernel = ops.cast(cell.recurrent_kernel, self._precision)
        if self._config.cell == "rnn":
            hidden, *after = kernels.simple_rnn(projected, *states, recurrent_kernel)
        elif self._config.cell == "lstm":
            hidden, *after = kernels.lstm(projected, *states, recurrent_kernel)
        else:
            hidden, *after = kernels.gru(projected, *states, recurrent_kernel, cell.bias[1])
        return hidden, after


def _project(layer: Any, inputs: Any, precision: Precision = "float32") -> Any:
    """Inputs (..., E) times the layer's kernel, multiplied in ``precision``, plus its bias."""
    cell = layer.cell
    bias = cell.bias[0] if isinstance(layer, keras.layers.GRU) else cell.bias
    product = ops.matmul(ops.cast(inputs, precision), ops.cast(cell.kernel, precision))
    return ops.cast(product, inputs.dtype) + bias


def _run_stock(layer: Any, inputs: Any, states: list[Any], training: bool) -> Any:
    """A stock layer's outputs (T, B, H) and last states; cuDNN where Keras has it."""
    layer.return_state = True
    try:
        hidden, *after = layer(
            ops.transpose(inputs, (1, 0, 2)), initial_state=states, training=training
        )
    finally:
        layer.return_state = False
    return ops.transpose(hidden, (1, 0, 2)), after
