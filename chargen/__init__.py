"""Train a character-level recurrent network on any text and generate new text from it.

    >>> import chargen
    >>> model = chargen.train("corpus.txt", budget="1m")
    >>> print(model.generate("The quick ", length=200))
    >>> model.save("corpus.keras")
    >>> chargen.load("corpus.keras").evaluate("Some other text.").bits_per_char

Names are loaded when they are first used: ``import chargen`` costs nothing, ``load`` and
``Model`` need NumPy, and only ``train`` needs TensorFlow.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from chargen.config import ModelConfig, SamplingConfig, TrainingConfig
    from chargen.errors import ChargenError, ModelFileError, RunError, TextError, UsageError
    from chargen.evaluation import Evaluation
    from chargen.model import Model, load
    from chargen.training import train
    from chargen.vocabulary import Vocabulary

_HOMES = {
    "ChargenError": "chargen.errors",
    "Evaluation": "chargen.evaluation",
    "Model": "chargen.model",
    "ModelConfig": "chargen.config",
    "ModelFileError": "chargen.errors",
    "RunError": "chargen.errors",
    "SamplingConfig": "chargen.config",
    "TextError": "chargen.errors",
    "TrainingConfig": "chargen.config",
    "UsageError": "chargen.errors",
    "Vocabulary": "chargen.vocabulary",
    "load": "chargen.model",
    "train": "chargen.training",
}

__all__ = [
    "ChargenError",
    "Evaluation",
    "Model",
    "ModelConfig",
    "ModelFileError",
    "RunError",
    "SamplingConfig",
    "TextError",
    "TrainingConfig",
    "UsageError",
    "Vocabulary",
    "__version__",
    "load",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'chargen' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
