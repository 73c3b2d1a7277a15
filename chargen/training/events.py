"""What a training run tells whoever listens, as it happens. Knows nothing of screens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from chargen.config import ModelConfig, TrainingConfig

__all__ = [
    "Event",
    "Listener",
    "Note",
    "Planned",
    "Progress",
    "Sample",
    "Saved",
    "Stage",
    "Validated",
]


@dataclass(frozen=True)
class Note:
    """A line the user should know: something was shrunk, left out or stopped early."""

    text: str


@dataclass(frozen=True)
class Stage:
    """What takes time before the first step."""

    text: str


@dataclass(frozen=True)
class Planned:
    """The corpus is read and the network is built; ``steps`` is None until it is calibrated. The
    ``unit`` of ``characters``, here and everywhere, is a character, or a byte of a byte model."""

    model: ModelConfig
    training: TrainingConfig
    characters: int
    held_out_characters: int
    unit: str
    steps: int | None


@dataclass(frozen=True)
class Progress:
    """After a step. ``loss`` is nats a character since the last validation."""

    step: int
    steps: int
    loss: float
    chars_per_second: float
    seconds_left: float


@dataclass(frozen=True)
class Validated:
    """After a look at the held-out text; ``loss`` is as in ``Progress``."""

    step: int
    steps: int
    loss: float
    bits_per_char: float
    is_best: bool


@dataclass(frozen=True)
class Sample:
    """What the model writes at this point."""

    text: str


@dataclass(frozen=True)
class Saved:
    """The run is over; ``bits_per_char`` is that of the kept weights on the held-out text, and
    ``unit`` is as in ``Planned``."""

    path: str | None
    steps: int
    interrupted: bool
    bits_per_char: float | None
    unit: str


Event = Note | Stage | Planned | Progress | Validated | Sample | Saved
Listener = Callable[[Event], None]
