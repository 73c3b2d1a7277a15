"""Float32 or bfloat16 for the recurrent products: a fixed policy by processor and shape.

oneDNN multiplies bfloat16 about twice as fast as float32 where the processor has instructions for
it, but XLA does not use it, and a step that is not one XLA program pays for its pieces. Measured
by ``tests/benchmarks/precision.py`` on a processor with AVX512-BF16: with 64 rows an LSTM of 1,024
units is 1.49 times as fast, of 512 1.19, a GRU of 512 1.13, a SimpleRNN 1.06, an LSTM of 256 0.94;
with 32 rows an LSTM of 512 1.07. This room knows nothing of Keras.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path

from chargen.config import ModelConfig, Precision

__all__ = ["automatic_precision", "has_bfloat16_products"]

_INSTRUCTIONS = {"avx512_bf16", "amx_bf16"}


@functools.cache
def has_bfloat16_products() -> bool:
    """Whether this processor, and TensorFlow's settings, make bfloat16 products fast."""
    if os.environ.get("TF_ENABLE_ONEDNN_OPTS") == "0":
        return False
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return False
    flags = next((line for line in lines if line.startswith("flags")), "")
    return not _INSTRUCTIONS.isdisjoint(flags.split())


def automatic_precision(model: ModelConfig, batch_size: int) -> Precision:
    """What ``--precision auto`` is for a model trained with ``batch_size`` rows."""
    is_large = model.cell != "rnn" and model.units >= 512 and batch_size >= 64
    return "bfloat16" if is_large and has_bfloat16_products() else "float32"
