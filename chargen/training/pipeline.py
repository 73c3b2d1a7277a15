"""Batches to TensorFlow: windows in, a `tf.data.Dataset` out, time-major.

The pipeline's own threads are kept to one: the default pool takes the processors away from the
compiled step and costs a third of its speed on two cores.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from chargen.windows import Windows

__all__ = ["dataset"]


def dataset(windows: Windows, first_step: int = 0) -> Any:
    """An endless dataset of ``((ids (T, B), carry (B,)), targets)`` from ``first_step`` on.

    Targets are (T, B), or (B,) for sliding windows.
    """

    def batches() -> Iterator[Any]:
        step = first_step
        while True:
            inputs, targets, carry = windows.batch(step)
            ids = np.ascontiguousarray(inputs.T, np.int32)
            yield (ids, carry.astype(np.float32)), np.ascontiguousarray(targets.T, np.int32)
            step += 1

    (ids, carry), targets = next(batches())
    signature = (
        (tf.TensorSpec(ids.shape, tf.int32), tf.TensorSpec(carry.shape, tf.float32)),
        tf.TensorSpec(targets.shape, tf.int32),
    )
    options = tf.data.Options()
    options.autotune.enabled = False
    options.threading.private_threadpool_size = 1
    options.threading.max_intra_op_parallelism = 1
    found = tf.data.Dataset.from_generator(batches, output_signature=signature)
    return found.prefetch(2).with_options(options)
