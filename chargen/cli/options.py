"""Options that several commands share, as decorators."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import click

from chargen.errors import UsageError

__all__ = ["AUTO", "ENDLESS", "LENGTH", "encoding_option", "model_option", "unknown_option"]

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
