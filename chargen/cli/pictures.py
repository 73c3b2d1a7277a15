"""What the pictures of ``chargen plot`` have in common: models and a text to read, a file or the
terminal to draw in.

It knows nothing of what is drawn.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chargen.cli.options import encoding_option, name_of, unknown_option
from chargen.cli.parsing import File, WholeNumber
from chargen.errors import TextError, UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from chargen.model import Model

__all__ = [
    "check_output",
    "draw",
    "output_options",
    "read_text",
    "text_options",
    "unit_of",
]

Function = Callable[..., Any]


def output_options(function: Function) -> Function:
    output = click.option(
        "-o",
        "--output",
        type=File(),
        metavar="FILE",
        help="The picture to write, by its name a .png or .svg.  [default: drawn in the terminal]",
    )
    force = click.option("--force", is_flag=True, help="Overwrite a picture that exists.")
    return output(force(function))


def text_options(length: int) -> Callable[[Function], Function]:
    """What the commands that read a text share; ``length`` is how much of it, unless told."""
    text = click.option(
        "--text",
        required=True,
        type=File(),
        metavar="FILE",
        help="The text to read; '-' is stdin.",
    )
    first = click.option(
        "-n",
        "--length",
        type=WholeNumber(1),
        default=length,
        show_default=True,
        metavar="N",
        help="Read the first N characters of the text, and no more.",
    )
    return lambda function: text(first(unknown_option(encoding_option(function))))


def check_output(output: str | None, force: bool) -> None:
    """Find out before anything is computed what stands in the way of a picture."""
    if output is None:
        return
    from chargen.figures import KINDS, require_matplotlib
    from chargen.files import check_vacant, check_writable

    if _kind_of(output) not in KINDS:
        raise UsageError(f"-o/--output {output!r}: expected a name that ends in .png or .svg")
    if not force:
        check_vacant(output)
    check_writable(output)
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it tells of its caches
    require_matplotlib()


def draw(output: str | None, picture: str, *numbers: Any, **options: Any) -> None:
    """The ``picture`` of that name, from `plots` into a file or from `drawings` to stdout."""
    if output is None:
        from chargen.cli import drawings
        from chargen.cli.consoles import TextSink

        rows = getattr(drawings, picture)(*numbers, **options)
        with TextSink() as sink:
            for row in rows:
                for text, color in row:
                    sink.write(text.encode("utf-8", "backslashreplace"), color=color)
                sink.write(b"\n")
        return
    from chargen import plots
    from chargen.figures import render
    from chargen.files import write_atomically

    figure = getattr(plots, picture)(*numbers, **options)
    write_atomically(output, render(figure, _kind_of(output)))


def _kind_of(path: str) -> str:
    return Path(path).suffix.lower().removeprefix(".")


def unit_of(models: Iterable[Model]) -> str:
    """What these models read one by one."""
    return "byte" if all(model.vocabulary.unit == "byte" for model in models) else "character"


def read_text(
    models: dict[str, Model], *, text: str, length: int, unknown: Any, encoding: str
) -> list[tuple[NDArray[np.int32], str]]:
    """The first ``length`` characters of ``text``, read once: for each model, its indices, two at
    least, and a character for each of them."""
    from chargen.features import characters_of
    from chargen.reading import check_encoding, expand_sources, read_blocks
    from chargen.vocabulary import counted

    kind: Any = "byte" if unit_of(models.values()) == "byte" else "char"
    check_encoding(encoding, kind)
    paths = expand_sources([text])
    blocks = (b for path in paths for b in read_blocks(path, tokens=kind, encoding=encoding))
    joined: Any = b"" if kind == "byte" else ""
    for block in blocks:
        joined += block[: length - len(joined)]
        if len(joined) == length:
            break
    read = []
    for model in models.values():
        tokens = model.vocabulary.encode(joined, unknown=unknown, what=name_of(text))
        if tokens.size < 2:
            raise TextError(f"{name_of(text)}: holds {counted(tokens.size)}; expected at least 2")
        read.append((tokens, characters_of(model.vocabulary, tokens)))
    return read
