"""``chargen evaluate``: how well a model expects a text."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import click

from chargen.cli.options import encoding_option, model_option, unknown_option
from chargen.cli.parsing import Command, File
from chargen.errors import TextError, UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from chargen.corpus import Corpus, Tokens
    from chargen.evaluation import Evaluation
    from chargen.vocabulary import Vocabulary

__all__ = ["command", "training_text"]

_THIS_MODEL = "this model"
_ROWS = 1 << 14  # of the table of characters, made at a time


@click.command("evaluate", cls=Command, short_help="Measure how well the model expects a text.")
@click.argument("file", type=File(), metavar="FILE")
@model_option
@click.option(
    "--held-out",
    is_flag=True,
    help="FILE is the corpus the model was trained on: measure the part that was held out.",
)
@click.option(
    "--train-text",
    multiple=True,
    type=File(),
    metavar="FILE",
    help="Compare with n-grams and compressors that are given this text first: a file, a folder or"
    " a glob; may be given several times. With --held-out, the corpus named again is the part of it"
    " that was trained on.",
)
@click.option(
    "--per-char",
    is_flag=True,
    help="Write a line for each character instead: it, a tab, and its surprisal in bits.",
)
@click.option(
    "--color",
    is_flag=True,
    help="Write the text instead, each character colored by its surprisal: on a terminal, or with"
    " FORCE_COLOR set.",
)
@unknown_option
@encoding_option
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object.")
def command(
    file: str,
    model: str,
    held_out: bool,
    train_text: tuple[str, ...],
    per_char: bool,
    color: bool,
    unknown: str,
    encoding: str,
    as_json: bool,
) -> None:
    """Measure how well the model expects the text in FILE ('-' is stdin).

    The figure is the mean over characters 2 to N of the text, read in order from zero state; fewer
    bits per character are better.

    \b
      chargen evaluate other.txt
      chargen evaluate corpus.txt --held-out --json
      chargen evaluate corpus.txt --held-out --train-text corpus.txt
      FORCE_COLOR=1 chargen evaluate other.txt --color | less -R
    """
    _check_options(file, held_out, train_text, per_char, color, encoding, as_json)

    from chargen.corpus import read_tokens
    from chargen.evaluation import baselines, surprisal_bits
    from chargen.model import load

    loaded = load(model)
    vocabulary = loaded.vocabulary
    own = None
    if held_out:
        own = loaded.own_corpus([file])
        if not own.held_out_size:
            raise TextError(
                f"{file}: nothing of it was held out when the model was trained; leave --held-out"
                " out to measure the whole text"
            )
        tokens, skipped = own.held_out_part, 0
    else:
        tokens, skipped = read_tokens(
            [file],
            vocabulary,
            encoding=encoding,
            unknown=unknown,  # type: ignore[arg-type]
            least=2,
        )
    if per_char or color:
        bits = surprisal_bits(loaded.engine, tokens, window=loaded.window)
        write = _write_characters if per_char else _write_colored
        write(tokens, bits, vocabulary)
        return
    found = loaded.evaluate_tokens(tokens, skipped=skipped)
    training = training_text(train_text, vocabulary, encoding, own) if train_text else None
    rivals = baselines(tokens, vocabulary, training)
    if as_json:
        from chargen.cli.consoles import write_text

        write_text(json.dumps({**found.to_dict(), "baselines": rivals}))
    else:
        _write_figures(found, rivals, vocabulary.unit, shows_skipped=unknown == "skip")


def _check_options(
    file: str,
    held_out: bool,
    train_text: tuple[str, ...],
    per_char: bool,
    color: bool,
    encoding: str,
    as_json: bool,
) -> None:
    forms = {"--per-char": per_char, "--color": color, "--json": as_json}
    chosen = [name for name, is_chosen in forms.items() if is_chosen]
    if len(chosen) > 1:
        raise UsageError(f"{chosen[0]} and {chosen[1]} each say what to write: give one")
    if train_text and (per_char or color):
        raise UsageError(
            f"--train-text adds figures to compare with, and {chosen[0]} writes none: give one"
        )
    if held_out and encoding != "utf-8" and not train_text:
        raise UsageError(
            f"--encoding {encoding!r}: --held-out reads the corpus as training did; leave it out"
        )
    if file == "-" and "-" in train_text and not held_out:
        raise UsageError("'-' is named twice: standard input can be read only once")


def training_text(
    names: tuple[str, ...], vocabulary: Vocabulary, encoding: str, own: Corpus | None
) -> Tokens:
    """What ``names`` hold; the files of a corpus of which a part is held out stand together for the
    rest of it."""
    import numpy as np

    from chargen.corpus import read_tokens
    from chargen.reading import expand_sources

    held_back = {os.path.realpath(name) for name in own.names} if own is not None else set()
    files = expand_sources(names)
    others = [name for name in files if os.path.realpath(name) not in held_back]
    if own is not None and not others:
        return own.training_part
    read, _ = read_tokens(others, vocabulary, encoding=encoding, unknown="skip")
    if own is None or len(others) == len(files):
        return read
    return np.concatenate([own.training_part, read])


def _write_figures(
    found: Evaluation, rivals: dict[str, float], unit: str, *, shows_skipped: bool
) -> None:
    from chargen.cli.consoles import write_text

    rows = [
        (f"bits per {unit}", f"{found.bits_per_char:.4f}"),
        (f"nats per {unit}", f"{found.nats_per_char:.4f}"),
        ("perplexity", f"{found.perplexity:.3f}"),
        ("accuracy", f"{100 * found.accuracy:.2f} %"),
        (f"{unit}s", f"{found.characters:,}"),
    ]
    if shows_skipped:
        rows.append(("skipped as unknown", f"{found.skipped:,}"))
    lines = [f"{name:<20}{value}" for name, value in rows]
    lines += ["", f"bits per {unit}, the best first:"]
    ranking = sorted({**rivals, _THIS_MODEL: found.bits_per_char}.items(), key=lambda item: item[1])
    for name, bits in ranking:
        mark = ">" if name == _THIS_MODEL else " "
        lines.append(f"{mark} {name:<15}{bits:9.4f}")
    write_text("\n".join(lines))


def _write_characters(tokens: Tokens, bits: NDArray[np.float64], vocabulary: Vocabulary) -> None:
    """A table of tab-separated values: each character, escaped as in JSON, and its surprisal."""
    from chargen.cli.consoles import TextSink

    names = [_escaped(point, vocabulary.kind == "byte") for point in vocabulary.characters]
    with TextSink() as sink:
        sink.write(b"character\tbits\n")
        for start in range(0, tokens.size, _ROWS):
            rows = slice(start, start + _ROWS)
            shown = [f"{surprisal:.4f}" for surprisal in bits[rows].tolist()]
            if start == 0:
                shown[0] = ""
            lines = [
                f"{names[token]}\t{surprisal}\n"
                for token, surprisal in zip(tokens[rows].tolist(), shown, strict=True)
            ]
            sink.write("".join(lines).encode())


def _escaped(point: int, is_byte: bool) -> str:
    r"""A character as in a JSON string, but for the quotation mark, if it has no shape of its own
    or is a backslash; a byte beyond ASCII as ``\x`` and its two digits."""
    if is_byte and point >= 0x80:
        return f"\\x{point:02x}"
    character = chr(point)
    if character.isprintable() and character != "\\":
        return character
    return json.dumps(character)[1:-1]


def _write_colored(tokens: Tokens, bits: NDArray[np.float64], vocabulary: Vocabulary) -> None:
    """The text, each character coloured by its surprisal: of a byte model, by the sum over its
    bytes. The first has no colour, and line breaks have none, so that a pager keeps the others."""
    import numpy as np

    from chargen.cli.consoles import TextSink, surprisal_color

    starts = np.arange(tokens.size)
    if vocabulary.kind == "byte":
        starts = starts[(starts == 0) | (tokens & 0xC0 != 0x80)]  # all but continuations
    sums = np.add.reduceat(np.nan_to_num(bits), starts)
    no_color = -1
    colors = np.array([surprisal_color(one) for one in sums.tolist()])
    colors[0] = no_color
    colors[tokens[starts] == vocabulary.line_break] = no_color
    runs = np.concatenate([[0], np.flatnonzero(np.diff(colors)) + 1])
    begins = starts[runs].tolist()
    with TextSink(shown=True) as sink:
        for begin, end, color in zip(
            begins, [*begins[1:], tokens.size], colors[runs].tolist(), strict=True
        ):
            data = vocabulary.decode_bytes(tokens[begin:end])
            sink.write(data, color=None if color == no_color else color)
