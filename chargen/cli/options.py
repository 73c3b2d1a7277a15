"""Options that several commands share, as decorators."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chargen.cli.parsing import File, OneOf
from chargen.errors import UsageError

if TYPE_CHECKING:
    from chargen.model import Model

__all__ = [
    "encoding_option",
    "load_models",
    "model_option",
    "models_option",
    "name_of",
    "unknown_option",
]

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


model_option: Decorator = click.option(
    "-m",
    "--model",
    envvar="CHARGEN_MODEL",
    default="chargen.keras",
    show_default=True,
    show_envvar=True,
    type=File(),
    metavar="FILE",
    help="The model to read.",
)


def models_option(meaning: str) -> Decorator:
    """``-m``, several times; ``meaning`` is its help."""
    return click.option(
        "-m",
        "--model",
        "models",
        multiple=True,
        envvar="CHARGEN_MODEL",
        default=("chargen.keras",),
        show_default=True,
        show_envvar=True,
        type=File(),
        metavar="FILE",
        help=meaning,
    )


def load_models(paths: Sequence[str]) -> dict[str, Model]:
    """The models by the names of their files, or by their paths where two names are alike."""
    from chargen.model import load

    for path in paths:
        if paths.count(path) > 1:
            raise UsageError(f"-m/--model {path!r}: named twice; expected different models")
    stems = [Path(path).stem for path in paths]
    names = stems if len(set(stems)) == len(stems) else paths
    return {name: load(path) for name, path in zip(names, paths, strict=True)}


unknown_option: Decorator = click.option(
    "--unknown",
    type=OneOf(["error", "skip"]),
    default="error",
    show_default=True,
    help="What to do about a character that the model never saw.",
)

encoding_option: Decorator = click.option(
    "--encoding",
    default="utf-8",
    show_default=True,
    metavar="NAME",
    help="The encoding of the text.",
)


def name_of(text: str) -> str:
    """What to call the text at that path in a title."""
    return "standard input" if text == "-" else Path(text).name or text
