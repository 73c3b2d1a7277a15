"""The learning rate: linear warm-up, then a cosine to zero (Loshchilov & Hutter 2017)."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

__all__ = ["WarmupCosine"]

_WARM_UP_SHARE = 0.02


class WarmupCosine(keras.optimizers.schedules.LearningRateSchedule):
    """``scale`` × ``peak`` is reached after 2 % of ``total`` steps; ``scale`` and ``total`` are
    variables, so that a run whose length is set after calibration, or whose rate is halved, is not
    compiled again. The rate would be zero one step after the last."""

    def __init__(self, peak: float, total: int) -> None:
        super().__init__()
        self.peak = peak
        self.total = keras.Variable(float(total), trainable=False, name="total_steps")
        self.scale = keras.Variable(1.0, trainable=False, name="rate_scale")

    def __call__(self, step: Any) -> Any:
        done = (ops.cast(step, "float32") + 1.0) / (ops.convert_to_tensor(self.total) + 1.0)
        warm_up = done / _WARM_UP_SHARE
        decay = (done - _WARM_UP_SHARE) / (1.0 - _WARM_UP_SHARE)
        cosine = 0.5 * (1.0 + ops.cos(math.pi * ops.clip(decay, 0.0, 1.0)))
        return self.peak * ops.convert_to_tensor(self.scale) * ops.minimum(warm_up, cosine)

    def rate_of(self, step: int) -> float:
        """The learning rate of a step, counted from 1."""
        return round(float(self(step - 1)), 9)

    def get_config(self) -> dict[str, Any]:
        return {"peak": self.peak, "total": int(self.total)}
