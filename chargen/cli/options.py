"""Options that several commands share, as decorators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

__all__ = ["encoding_option", "model_option", "unknown_option"]

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

model_option: Decorator = click.option(
    "-m",
    "--model",
    envvar="CHARGEN_MODEL",
    default="chargen.keras",
    show_default=True,
    show_envvar=True,
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
