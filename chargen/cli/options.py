"""Options that several commands share, as decorators."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chargen.errors import UsageError

if TYPE_CHECKING:
    from chargen.model import Model

__all__ = [
    "AUTO",
    "ENDLESS",
    "LENGTH",
    "encoding_option",
    "load_models",
    "model_option",
    "models_option",
    "unknown_option",
]

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class _Auto(click.ParamType):  # type: ignore[type-arg]
    """A whole number, or ``auto``, which leaves the choice open."""

    name = "whole number"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | str | None:
        if value == "auto" or isinstance(value, int):
            return value
        try:
            return int(value)
        except ValueError:
            self.fail(f"{value!r} is neither a whole number nor 'auto'.", param, ctx)


AUTO = _Auto()


class _Length(click.ParamType):  # type: ignore[type-arg]
    """A whole number, or ``inf``, which becomes -1."""

    name = "whole number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        if value == "inf":
            return ENDLESS
        try:
            length = int(value)
        except ValueError:
            self.fail(f"{value!r} is neither a whole number nor 'inf'.", param, ctx)
        if not 0 <= length <= sys.maxsize:
            raise UsageError(f"length {length}: expected from 0 to {sys.maxsize} (-n/--length)")
        return length


ENDLESS = -1
LENGTH = _Length()

model_option: Decorator = click.option(
    "-m",
    "--model",
    envvar="CHARGEN_MODEL",
    default="chargen.keras",
    show_default=True,
    show_envvar=True,
    type=click.Path(),
    metavar="FILE",
    help="The model to read.",
)


class _ModelPath(click.Path):
    """A path that the environment variable names whole: Click would cut it at colons."""

    def split_envvar_value(self, rv: str) -> list[str]:
        return [rv]


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
        type=_ModelPath(),
        metavar="FILE",
        help=meaning,
    )


def load_models(paths: Sequence[str]) -> dict[str, Model]:
    """The models by the names of their files, or by their paths where two names are alike."""
    from chargen.model import load

    if len(set(paths)) < len(paths):
        raise UsageError("a model is named twice (-m/--model)")
    stems = [Path(path).stem for path in paths]
    names = stems if len(set(stems)) == len(stems) else paths
    return {name: load(path) for name, path in zip(names, paths, strict=True)}


unknown_option: Decorator = click.option(
    "--unknown",
    type=click.Choice(["error", "skip"]),
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
