"""What a model is, how it is trained and how it is sampled, as frozen dataclasses.

Each is validated when it is made and goes to a plain dict and back. This room knows nothing of
files, arrays or Keras.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self

from chargen.errors import UsageError

__all__ = [
    "CELLS",
    "GATES",
    "Cell",
    "ModelConfig",
    "Objective",
    "Precision",
    "SamplingConfig",
    "TrainingConfig",
    "format_duration",
    "option_of",
    "parse_duration",
]

Cell = Literal["rnn", "lstm", "gru"]
Objective = Literal["sequence", "last"]
Precision = Literal["float32", "bfloat16"]

# Blocks of ``units`` columns in a recurrent kernel.
GATES: dict[Cell, int] = {"rnn": 1, "lstm": 4, "gru": 3}
CELLS: tuple[Cell, ...] = tuple(GATES)

_LARGEST_SEED = 2**63 - 1
_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?")


def parse_duration(text: str, option: str = "--budget") -> float:
    """Seconds in ``90s``, ``3m``, ``1h30m`` or a plain number of seconds, given as ``option``."""
    match = _DURATION.fullmatch(text.strip().lower())
    if match is None or not any(match.groups()):
        raise UsageError(f"{option} {text!r}: expected a time such as 90s, 3m or 1h30m")
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return 3600 * hours + 60 * minutes + seconds


def format_duration(seconds: float) -> str:
    """The shortest text that ``parse_duration`` reads back, to a tenth of a second."""
    tenths = round(seconds * 10)
    hours, rest = divmod(tenths, 36000)
    minutes, rest = divmod(rest, 600)
    parts = [f"{hours}h"] * bool(hours) + [f"{minutes}m"] * bool(minutes)
    if rest or not parts:
        parts.append(f"{rest / 10:g}s")
    return "".join(parts)


def option_of(name: str) -> str:
    """The option of the command line that sets the entry ``name`` of a config."""
    return "--layers" if name == "num_layers" else f"--{name.replace('_', '-')}"


def _shown(value: object) -> str:
    """A value as it is typed: a whole number without a fraction."""
    return repr(value).removesuffix(".0")


class _Validated:
    """Checks, and the dict round trip, that every config shares."""

    def _require_int(self, name: str, low: int, high: int, option: str) -> None:
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise UsageError(
                f"{option} {value!r}: expected a whole number from {low:,} to {high:,}"
            )

    def _require_number(self, name: str, low: float, high: float, option: str) -> None:
        value = getattr(self, name)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not low <= value <= high:
            raise UsageError(
                f"{option} {_shown(value)}: expected a number from {low:,} to {high:,}"
            )

    def _require_choice(self, name: str, choices: tuple[str, ...], option: str) -> None:
        value = getattr(self, name)
        if value not in choices:
            raise UsageError(f"{option} {value!r}: expected one of {', '.join(choices)}")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)  # type: ignore[call-overload]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The config of ``values``; ``UsageError`` for a missing, unknown or bad entry."""
        known = {field.name for field in fields(cls)}  # type: ignore[arg-type]
        if set(values) != known:
            odd = ", ".join(sorted(repr(name) for name in known.symmetric_difference(values)))
            raise UsageError(f"missing or unknown entries: {odd}")
        return cls(**values)


@dataclass(frozen=True)
class ModelConfig(_Validated):
    """The architecture: Embedding → recurrent layers → Dense over the vocabulary.

    ``dropout`` acts on the output of every recurrent layer, one mask for all steps of a window.
    """

    vocabulary_size: int
    cell: Cell = "lstm"
    units: int = 256
    num_layers: int = 1
    embedding_dim: int = 64
    dropout: float = 0.0

    def __post_init__(self) -> None:
        self._require_int("vocabulary_size", 1, 0x110000, "vocabulary_size")
        self._require_choice("cell", CELLS, "--cell")
        self._require_int("units", 1, 16384, "--units")
        self._require_int("num_layers", 1, 16, "--layers")
        self._require_int("embedding_dim", 1, 16384, "--embedding-dim")
        self._require_number("dropout", 0, 0.95, "--dropout")

    @property
    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """The name and shape of each weight, in Keras' layouts and order."""
        columns = GATES[self.cell] * self.units
        shapes: dict[str, tuple[int, ...]] = {
            "embedding": (self.vocabulary_size, self.embedding_dim)
        }
        inputs = self.embedding_dim
        for layer in range(1, self.num_layers + 1):
            shapes[f"recurrent_{layer}/kernel"] = (inputs, columns)
            shapes[f"recurrent_{layer}/recurrent_kernel"] = (self.units, columns)
            shapes[f"recurrent_{layer}/bias"] = (2, columns) if self.cell == "gru" else (columns,)
            inputs = self.units
        shapes["head/kernel"] = (self.units, self.vocabulary_size)
        shapes["head/bias"] = (self.vocabulary_size,)
        return shapes

    @property
    def num_parameters(self) -> int:
        """How many numbers are trained."""
        return sum(math.prod(shape) for shape in self.tensor_shapes.values())


@dataclass(frozen=True)
class TrainingConfig(_Validated):
    """How a model is trained. Exactly one of ``budget`` (seconds), ``epochs`` and ``steps`` is set.

    ``objective`` is ``sequence`` (a target at every step, state carried from batch to batch) or
    ``last`` (sliding windows from zero state, one target each). ``patience`` counts validations
    without a better held-out figure before training ends; None is never. ``validate_every`` counts
    steps between validations; None leaves it to the length of the run. ``precision`` is that of the
    recurrent products; weights and all the rest are float32. ``deterministic`` takes the operations
    that give equal bits in equal runs where the fastest ones do not, which is on a GPU alone.
    """

    objective: Objective = "sequence"
    batch_size: int = 64
    sequence_length: int = 32
    stride: int = 1
    learning_rate: float = 8e-3
    budget: float | None = None
    epochs: int | None = None
    steps: int | None = None
    patience: int | None = None
    validate_every: int | None = None
    precision: Precision = "float32"
    deterministic: bool = False
    random_seed: int = 0

    def __post_init__(self) -> None:
        if type(self.deterministic) is not bool:
            raise UsageError(f"--deterministic {self.deterministic!r}: expected True or False")
        self._require_choice("precision", ("float32", "bfloat16"), "--precision")
        self._require_choice("objective", ("sequence", "last"), "--objective")
        self._require_int("batch_size", 1, 65536, "--batch-size")
        self._require_int("sequence_length", 1, 65536, "--sequence-length")
        self._require_int("stride", 1, 65536, "--stride")
        self._require_number("learning_rate", 1e-8, 10, "--learning-rate")
        self._require_int("random_seed", 0, _LARGEST_SEED, "--random-seed")
        if self.patience is not None:
            self._require_int("patience", 1, 1_000_000, "--patience")
        if self.validate_every is not None:
            self._require_int("validate_every", 1, 10**12, "--validate-every")
        given = [name for name in ("budget", "epochs", "steps") if getattr(self, name) is not None]
        if not given:
            raise UsageError("one of --budget, --epochs and --steps says how long to train")
        if len(given) > 1:
            raise UsageError(f"--{given[0]} and --{given[1]} each say how long to train: give one")
        if self.budget is not None:
            self._require_number("budget", 1, 366 * 86400, "--budget")
        if self.epochs is not None:
            self._require_int("epochs", 1, 10**9, "--epochs")
        if self.steps is not None:
            self._require_int("steps", 1, 10**12, "--steps")


@dataclass(frozen=True)
class SamplingConfig(_Validated):
    """How the next character is drawn, in this order of steps.

    ``repetition_penalty`` (1: none) acts on the characters among the last ``repetition_window``
    ones; ``temperature`` 0 takes the likeliest; ``top_k`` (0: all), ``top_p`` (1: all) and
    ``min_p`` (0: all) leave the unlikely ones out.
    """

    temperature: float = 0.8
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    repetition_window: int = 64

    def __post_init__(self) -> None:
        self._require_number("temperature", 0, 100, "--temperature")
        self._require_int("top_k", 0, 0x110000, "--top-k")
        self._require_number("top_p", 0, 1, "--top-p")
        self._require_number("min_p", 0, 1, "--min-p")
        self._require_number("repetition_penalty", 0.01, 100, "--repetition-penalty")
        self._require_int("repetition_window", 1, 1_000_000, "--repetition-window")
