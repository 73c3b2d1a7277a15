"""Bring TensorFlow and Keras in without their start-up noise, and without hiding real errors.

TensorFlow writes below Python's level, to file descriptor 2, before its own log level is heard.
What it says while it is imported is held back, its known noise is dropped, and the rest is
passed on. This room knows nothing of networks.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from chargen.errors import RunError

__all__ = ["ensure_backend", "has_gpu", "make_deterministic"]

# Informational lines and warnings, and the search for a GPU that is not there.
_NOISE = re.compile(
    rb"[IW]\d{4} |WARNING: All log messages before absl|To enable the following instructions"
    rb"|E\d{4} .*(cuInit|cuda_platform|cuda_diagnostics|Unable to register cu)"
    rb"|\d{4}-\d\d-\d\d .*: [IW] "
)


def ensure_backend() -> None:
    """Import TensorFlow and Keras, quietly. Raises ``RunError`` where they are missing."""
    logging.getLogger("tensorflow").addFilter(_is_worth_a_line)
    if "keras" in sys.modules:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # 2 keeps errors
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    if (asked := os.environ["KERAS_BACKEND"]) not in ("", "tensorflow"):
        raise RunError(f"KERAS_BACKEND is {asked!r}: expected tensorflow, or no such variable")
    if importlib.util.find_spec("tensorflow") is None:
        raise RunError("training needs TensorFlow, which is not installed: pip install tensorflow")
    with _without_noise():
        import keras  # noqa: F401
        import tensorflow as tf

        tf.config.list_physical_devices("GPU")  # the second source of noise


def has_gpu() -> bool:
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))


def make_deterministic() -> None:
    """Take operations that give equal bits in equal runs, for the rest of this process."""
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()


def _is_worth_a_line(record: logging.LogRecord) -> bool:
    """Each model has its own training step, which must be traced: no fault of a program that
    trains several, though TensorFlow warns of it."""
    message = record.getMessage()
    return not ("multi_step_on_iterator" in message and "tf.function retracing" in message)


@contextmanager
def _without_noise() -> Iterator[None]:
    """Hold back file descriptor 2, and pass on what is not known noise."""
    try:
        kept = os.dup(2)
    except OSError:  # stderr is closed
        yield
        return
    if sys.stderr is not None:
        sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            if sys.stderr is not None:
                sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            held.seek(0)
            for line in held:
                if not _NOISE.match(line):
                    os.write(2, line)
