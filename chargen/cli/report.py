"""``chargen report``: a page about a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from chargen.cli.options import encoding_option, model_option, name_of, unknown_option
from chargen.cli.parsing import Command, File
from chargen.errors import UsageError

if TYPE_CHECKING:
    from chargen.corpus import Corpus, Tokens
    from chargen.model import Model
    from chargen.report import Subject

__all__ = ["command"]

_LARGEST_COMPARED = 2_000_000  # characters of training text that need no --train-text
_DRAWN = ("curve", "vocabulary", "repeat")  # rows of `chargen info` shown in another way


@click.command("report", cls=Command, short_help="Write a page about a model.")
@model_option
@click.option(
    "--text",
    type=File(),
    metavar="FILE",
    help="The text to measure and to color; '-' is stdin.  [default: the held-out part of the"
    " model's corpus, if that is still there, else a text that the model writes]",
)
@click.option(
    "--train-text",
    multiple=True,
    type=File(),
    metavar="FILE",
    help="Compare with n-grams and compressors that are given this text first: a file, a folder or"
    " a glob; may be given several times.  [default: where the text is the held-out part, the rest"
    " of the corpus, up to 2 million characters]",
)
@click.option(
    "-o",
    "--output",
    type=File(),
    default="report.html",
    show_default=True,
    metavar="FILE",
    help="The page to write; '-' is stdout.",
)
@click.option("--force", is_flag=True, help="Overwrite a page that exists.")
@unknown_option
@encoding_option
def command(
    model: str,
    text: str | None,
    train_text: tuple[str, ...],
    output: str,
    force: bool,
    unknown: str,
    encoding: str,
) -> None:
    """Write a page of HTML about a model: how it was trained, what it writes, a text colored by
    surprisal with what the model expected, the units worth looking at, and how far back it looks.

    The page needs no network and no other file. Figures are of the first million characters of the
    text, and colors of the first 3,000.

    \b
      chargen report
      chargen report --text story.txt --train-text corpus.txt -o story.html
    """
    if text == "-" and "-" in train_text:
        raise UsageError("'-' is named twice: standard input can be read only once")

    from chargen.cli.consoles import shell_word, write_text
    from chargen.cli.evaluate import training_text
    from chargen.cli.info import repeating_command, rows_of
    from chargen.files import check_vacant, check_writable, write_atomically
    from chargen.model import load
    from chargen.report import report

    if output != "-":
        if not force:
            check_vacant(output)
        check_writable(output)
    loaded = load(model)
    if text is None:
        subject, own = _own_text(loaded, is_compared=bool(train_text))
    else:
        subject, own = _text(loaded, text, encoding, unknown), None
    training = _rest(own)
    if train_text:
        training = training_text(train_text, loaded.vocabulary, encoding, own)
    page = report(
        loaded,
        subject,
        training=training,
        facts={name or "repeated": fact for name, fact in rows_of(loaded) if name not in _DRAWN},
        repeat=repeating_command(loaded),
        generate=f"chargen generate -m {shell_word(model)}",
    )
    if output == "-":
        write_text(page)
    else:
        write_atomically(output, f"{page}\n".encode())


def _own_text(loaded: Model, *, is_compared: bool) -> tuple[Subject, Corpus | None]:
    """The text that a model itself leads to, and its corpus, if that can be read again."""
    from chargen.cli.consoles import tell
    from chargen.report import own_corpus, own_subject

    own = own_corpus(loaded)
    if own is None and is_compared:
        raise UsageError(
            "--train-text: the corpus of the model is not there as it was, so there is no text to"
            " compare on; --text names one"
        )
    if own is None:
        tell(
            "chargen: the corpus of the model is not there as it was, so the page shows a text that"
            " the model writes; --text names another"
        )
    return own_subject(loaded, own), own


def _text(loaded: Model, text: str, encoding: str, unknown: Any) -> Subject:
    from chargen.corpus import read_tokens
    from chargen.report import Subject

    tokens, skipped = read_tokens(
        [text], loaded.vocabulary, encoding=encoding, unknown=unknown, least=2
    )
    return Subject(tokens, name_of(text), skipped=skipped)


def _rest(own: Corpus | None) -> Tokens | None:
    """What a model was trained on, if a part of that text was held out, and if it is not too large
    to be learned again on the way."""
    if own is None or not own.held_out_size or own.training_part.size > _LARGEST_COMPARED:
        return None
    return own.training_part
