"""Batches to TensorFlow: windows in, a `tf.data.Dataset` out, time-major.

Two traps are stepped around. The pipeline's own threads are kept to one, since the default pool
takes the processors away from the compiled step. And it is no `Dataset.from_generator`: that
operation sets glibc's M_TRIM_THRESHOLD to 128 kB for the whole process ("Memory patch applied"),
after which every step gives its memory back to the system and faults it in again; on two cores a
step of 26 ms took 60.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from chargen.windows import Windows

__all__ = ["dataset"]


def dataset(windows: Windows, first_step: int = 0) -> Any:
    """An endless dataset of ``((ids (T, B), carry (B,)), targets)`` from ``first_step`` on.

    Targets are (T, B), or (B,) for sliding windows.
    """

    def arrays(step: int) -> tuple[Any, Any, Any]:
        inputs, targets, carry = windows.batch(int(step))
        return (
            np.ascontiguousarray(inputs.T, np.int32),
            carry.astype(np.float32),
            np.ascontiguousarray(targets.T, np.int32),
        )

    shapes = [array.shape for array in arrays(first_step)]

    def batch(step: Any) -> Any:
        parts = tf.numpy_function(arrays, [step], [tf.int32, tf.float32, tf.int32])
        ids, carry, targets = (
            tf.ensure_shape(part, shape) for part, shape in zip(parts, shapes, strict=True)
        )
        return (ids, carry), targets

    options = tf.data.Options()
    options.autotune.enabled = False
    options.threading.private_threadpool_size = 1
    options.threading.max_intra_op_parallelism = 1
    steps = tf.data.Dataset.counter(first_step)
    return steps.map(batch).prefetch(2).with_options(options)
