"""The words of the command line: commands, options and their values, and a line for each mistake.

Click finds what is wrong with them, and what it says changes from version to version; here it is
said once, in the form of all other errors: what came, what was expected. This room does not know
what a command does.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import click

from chargen.errors import UsageError

__all__ = ["Command", "File", "Folder", "Group", "NoCommand", "Number", "OneOf", "WholeNumber"]

_ALIKE = 0.75  # from here on an option is named in place of one that does not exist


class NoCommand(click.ClickException):
    """A group was called alone; the message is its help."""


class Command(click.Command):
    """A command that raises ``UsageError`` for words that it cannot take."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.allow_extra_args = True
        try:
            rest = super().parse_args(ctx, args)
        except click.UsageError as error:
            raise UsageError(
                f"{self._mistake(error, ctx)}; see {ctx.command_path} --help"
            ) from None
        if rest and not isinstance(self, click.Group) and not ctx.resilient_parsing:
            raise UsageError(f"{rest[0]!r}: one argument too many; see {ctx.command_path} --help")
        return rest

    def _mistake(self, error: click.UsageError, ctx: click.Context) -> str:
        if isinstance(error, click.MissingParameter) and error.param is not None:
            kind = error.param.type
            choices = f": expected {kind.expected}" if isinstance(kind, OneOf) else ""
            return f"{_spelled(error.param)} is missing{choices}"
        options = {name: param for param in self.get_params(ctx) for name in param.opts}
        if isinstance(error, click.NoSuchOption):
            alike = difflib.get_close_matches(error.option_name, options, 1, _ALIKE)
            return f"{error.option_name}: no such option{f' (perhaps {alike[0]})' if alike else ''}"
        if isinstance(error, click.BadOptionUsage):
            is_flag = getattr(options[error.option_name], "is_flag", False)
            return f"{error.option_name}: {'takes no value' if is_flag else 'its value is missing'}"
        return error.format_message()


class Group(Command, click.Group):
    """A group of such commands, which come in the order of their file."""

    command_class = Command

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:
            raise NoCommand(ctx.get_help())
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if self.get_command(ctx, args[0]) is None and not ctx.resilient_parsing:
            known = ", ".join(self.list_commands(ctx))
            raise UsageError(f"{args[0]!r}: no such command; expected one of {known}")
        return super().resolve_command(ctx, args)


class _Value(click.ParamType):  # type: ignore[type-arg]
    """A value of a command line, ``expected`` in words."""

    expected: str

    def refuse(self, value: str, param: click.Parameter | None) -> UsageError:
        named = "" if param is None else f"{_spelled(param)} "
        return UsageError(f"{named}{value}: expected {self.expected}")


class WholeNumber(_Value):
    """A whole number from ``low`` to ``high``, or one of the words ``also``, which stand for
    another value; without bounds, whoever takes the number knows them."""

    name = "whole number"

    def __init__(
        self,
        low: int | None = None,
        high: int | None = None,
        also: Mapping[str, Any] | None = None,
    ) -> None:
        self._low, self._high, self._also = low, high, also or {}
        bounds = ""
        if low is not None:
            bounds = f" of {low:,} or more" if high is None else f" from {low:,} to {high:,}"
        self.expected = " or ".join([f"a whole number{bounds}", *self._also])

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):  # a default
            return value
        if value in self._also:
            return self._also[value]
        try:
            number = int(value)
        except ValueError:
            raise self.refuse(repr(value), param) from None
        is_low = self._low is not None and number < self._low
        if is_low or (self._high is not None and number > self._high):
            raise self.refuse(value, param)
        return number


class Number(_Value):
    """A number; whoever takes it knows its bounds."""

    name = "number"
    expected = "a number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return float(value)
        except ValueError:
            raise self.refuse(repr(value), param) from None


class OneOf(_Value, click.Choice):  # type: ignore[type-arg]
    """One of some words."""

    def __init__(self, choices: Sequence[str]) -> None:
        super().__init__(choices)
        self.expected = f"one of {', '.join(choices)}"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value not in self.choices:
            raise self.refuse(repr(value), param)
        return value


class File(_Value, click.Path):
    """The name of a file; an environment variable is one, whole: Click would cut it at colons."""

    expected = "the name of a file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not value:
            raise self.refuse(repr(value), param)
        return value

    def split_envvar_value(self, rv: str) -> list[str]:
        return [rv]


class Folder(File):
    """The name of a folder."""

    expected = "the name of a folder"

    def __init__(self) -> None:
        super().__init__(file_okay=False)


def _spelled(param: click.Parameter) -> str:
    """A parameter as the help spells it."""
    if isinstance(param, click.Option):
        return "/".join(param.opts)
    return (param.metavar or param.name or "").rstrip(".").upper()
