"""What a model writes, at several temperatures, each with the command that writes it again."""

from __future__ import annotations

from collections.abc import Iterator

from chargen.model import Model
from chargen.report.page import Html, command_line, element

__all__ = ["written"]

_LENGTH, _RANDOM_SEED = 400, 0
_TEMPERATURES = (0.5, 0.8, 1.0)


def written(model: Model, generate: str) -> Iterator[Html]:
    """The section; ``generate`` is the command that writes with this model, less its options."""
    yield element(
        "p",
        f"{_LENGTH} {model.vocabulary.unit}s each, from one random seed. The lower the temperature,"
        " the more the model keeps to what is likely; at 1 it writes as it expects.",
    )
    for temperature in _TEMPERATURES:
        text = model.generate(length=_LENGTH, temperature=temperature, random_seed=_RANDOM_SEED)
        yield element("h3", f"Temperature {temperature:g}")
        yield element("pre", text.replace("\r\n", "\n"), class_="text plain", dir="auto")
        yield command_line(
            f"{generate} -n {_LENGTH} --temperature {temperature:g} --random-seed {_RANDOM_SEED}"
        )
