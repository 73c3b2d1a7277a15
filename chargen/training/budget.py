"""A time budget turned into steps: arithmetic on measured seconds, no clock of its own but one."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

__all__ = ["Budget", "Plan", "plan_for_steps"]

_VALIDATION_SHARE = 0.04  # of the time, at most, unless that leaves no validation
_MOST_VALIDATIONS = 25
_TOLERANCE = 0.01  # of the budget: what may be late before the total is lowered
_LATE_ENOUGH = 0.5  # of the steps: before that a clock that is behind may recover


@dataclass(frozen=True)
class Plan:
    """How many steps, and how many of them lie between two validations."""

    steps: int
    validate_every: int


def plan_for_steps(steps: int, validate_every: int | None) -> Plan:
    """The plan of a run whose steps are given: about 20 validations unless told otherwise."""
    return Plan(steps, min(steps, validate_every or math.ceil(steps / 20)))


@dataclass(frozen=True)
class Budget:
    """``seconds`` from ``started`` (of ``time.monotonic``) to the model on disk, of which
    ``reserve`` are for what comes after the last step."""

    seconds: float
    started: float
    reserve: float

    def left(self) -> float:
        """Seconds that steps and validations may still take."""
        return self.started + self.seconds - self.reserve - time.monotonic()

    def plan(
        self, step_seconds: float, validation_seconds: float, validate_every: int | None
    ) -> Plan:
        """As many steps as fit, with as many validations as a small share of the time allows."""
        left, step_seconds = max(self.left(), 0.0), max(step_seconds, 1e-6)
        if validate_every is not None:
            steps = left / (step_seconds + validation_seconds / validate_every)
            return Plan(max(1, int(steps)), validate_every)
        affordable = int(_VALIDATION_SHARE * left / max(validation_seconds, 1e-6))
        validations = min(max(affordable, 1), _MOST_VALIDATIONS)
        steps = max(1, int((left - validations * validation_seconds) / step_seconds))
        return Plan(steps, math.ceil(steps / validations))

    def lowered(self, step: int, plan: Plan, step_seconds: float, validation_seconds: float) -> int:
        """The total that still fits, or ``plan.steps`` where the clock is near enough."""
        rest = plan.steps - step
        validations = math.ceil(rest / plan.validate_every)
        over = rest * step_seconds + validations * validation_seconds - self.left()
        if step < _LATE_ENOUGH * plan.steps or over <= _TOLERANCE * self.seconds:
            return plan.steps
        affordable = (self.left() - validations * validation_seconds) / step_seconds
        return min(plan.steps, step + max(1, int(affordable)))

    def is_spent(self) -> bool:
        """True where going on would break the budget, whatever the plan says."""
        return self.left() < -_TOLERANCE * self.seconds
