"""A training step on several cores: the batch cut by rows, one compiled program a shard.

A product of a step of time is too small to be shared well: on two cores XLA made 150 GFLOP/s of
one product of 64 rows on both, and 2 x 100 of two products of 32 rows, one on each. So a step is
data parallelism inside one process: each shard computes its gradients by the same XLA program,
side by side with the others, and one more program averages them and applies the optimiser. Like
``kernels`` and ``pipeline`` this room is TensorFlow; it knows nothing of what the network is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from chargen.training.kernels import compiled

__all__ = ["ShardedStep", "num_shards"]

_FEWEST_ROWS = 16  # of a shard: fewer rows are multiplied no faster


def num_shards(batch_size: int) -> int:
    """One shard a processor, as far as the batch divides and leaves each a good product."""
    try:
        processors = len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        processors = os.cpu_count() or 1
    most = max(1, min(processors, batch_size // _FEWEST_ROWS))
    return max(shards for shards in range(1, most + 1) if batch_size % shards == 0)


class ShardedStep:
    """One step of ``optimizer`` on ``variables``.

    ``loss_of(ids (T, b), targets (..., b), states, masks) -> loss, states`` is the mean loss of
    some rows and their states afterwards; ``states`` and ``masks`` are nested lists of (b, H).
    ``jit_compile`` makes one program of a shard; without it only its ``compiled`` parts are.
    """

    def __init__(
        self,
        loss_of: Callable[..., Any],
        variables: Sequence[Any],
        optimizer: Any,
        shards: int,
        *,
        jit_compile: bool,
    ) -> None:
        self._loss_of = loss_of
        self._variables = list(variables)
        self._optimizer = optimizer
        self._shards = shards
        optimizer.build(self._variables)
        self._gradients = tf.function(self._gradients_of, jit_compile=jit_compile)
        self._update = compiled(self._average_and_apply)

    def __call__(self, ids: Any, targets: Any, states: Any, masks: Any) -> tuple[Any, Any]:
        """The mean loss before the step, and the states after the batch."""
        rows = ids.shape[1] // self._shards
        results = []
        for shard in range(self._shards):
            own = slice(shard * rows, (shard + 1) * rows)
            own_states, own_masks = tf.nest.map_structure(lambda x: x[own], (states, masks))  # noqa: B023
            results.append(self._gradients(ids[:, own], targets[..., own], own_states, own_masks))
        losses, after, gradients = zip(*results, strict=True)
        self._update(gradients)
        return tf.add_n(losses) / self._shards, tf.nest.map_structure(
            lambda *parts: tf.concat(parts, axis=0), *after
        )

    def _gradients_of(self, ids: Any, targets: Any, states: Any, masks: Any) -> Any:
        with tf.GradientTape() as tape:
            loss, after = self._loss_of(ids, targets, states, masks)
        return loss, after, tape.gradient(loss, self._variables)

    def _average_and_apply(self, gradients: Any) -> None:
        averages = [tf.add_n(parts) / self._shards for parts in zip(*gradients, strict=True)]
        self._optimizer.apply_gradients(zip(averages, self._variables, strict=True))
