"""``chargen generate``: new text on stdout."""

from __future__ import annotations

import math
import re
import sys
from typing import TYPE_CHECKING, Any

import click

from chargen.cli.options import model_option, unknown_option
from chargen.cli.parsing import Command, File, Number, WholeNumber
from chargen.errors import TextError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chargen.generation import Generated, StopRules
    from chargen.model import Model, Piece

__all__ = ["command"]

_ENDLESS = -1
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "\\": "\\"}


@click.command("generate", cls=Command, short_help="Write new text.")
@model_option
@click.option(
    "--seed",
    "-p",
    "--prompt",
    "prompt",
    metavar="TEXT",
    help="Text to go on from. Without it the model starts after a line break.",
)
@click.option(
    "--seed-file",
    type=File(),
    metavar="FILE",
    help="Go on from the text in FILE ('-' is stdin), less one final line break.",
)
@click.option(
    "-e",
    "--escape",
    is_flag=True,
    help=r"Read \n, \t, \r, \0 and \\ in --seed, --stop, --delimiter, --ban and --only.",
)
@click.option("--no-echo", is_flag=True, help="Leave the seed out of the output.")
@click.option(
    "-n",
    "--length",
    type=WholeNumber(0, sys.maxsize, also={"inf": _ENDLESS}),
    metavar="N|inf",
    help="New characters to write (bytes, for a byte model); inf goes on until the pipe closes."
    "  [default: 500, or inf with --lines and --until-newline]",
)
@click.option(
    "--stop",
    multiple=True,
    metavar="STRING",
    help="End before this string; may be given several times.",
)
@click.option("--keep-stop", is_flag=True, help="Write the stop string too.")
@click.option("--until-newline", is_flag=True, help="End before the first line break.")
@click.option("--lines", type=WholeNumber(), metavar="N", help="Write N whole lines.")
@click.option(
    "--num-samples",
    type=WholeNumber(1, 10**9),
    default=1,
    show_default=True,
    metavar="N",
    help="Texts to write, made side by side; text i has the random seed plus i.",
)
@click.option(
    "--delimiter",
    metavar="STRING",
    help="Written between texts.  [default: each ends its line]",
)
@click.option(
    "--temperature",
    type=Number(),
    metavar="T",
    help="Below 1 is safer, above is wilder, 0 takes the likeliest.  [default: 0.8]",
)
@click.option("--greedy", is_flag=True, help="Take the likeliest character: temperature 0.")
@click.option(
    "--top-k", type=WholeNumber(), metavar="K", help="Draw from the K likeliest characters."
)
@click.option(
    "--top-p",
    type=Number(),
    metavar="P",
    help="Draw from the fewest characters that are likely by P together.",
)
@click.option(
    "--min-p",
    type=Number(),
    metavar="P",
    help="Draw from characters at least P times as likely as the likeliest.",
)
@click.option(
    "--repetition-penalty",
    type=Number(),
    metavar="X",
    help="Above 1, what was written lately is less likely.",
)
@click.option(
    "--repetition-window",
    type=WholeNumber(),
    metavar="N",
    help="How many characters back the penalty looks.  [default: 64]",
)
@click.option("--ban", default="", metavar="CHARACTERS", help="Never write these.")
@click.option("--only", metavar="CHARACTERS", help="Write nothing but these.")
@click.option(
    "--random-seed",
    type=WholeNumber(0),
    metavar="N",
    help="The same number gives the same text.  [default: a fresh one]",
)
@unknown_option
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object a text.")
@click.option(
    "--surprisal",
    is_flag=True,
    help="Color each character on a terminal by how surprising it was to the model.",
)
def command(
    model: str,
    prompt: str | None,
    seed_file: str | None,
    escape: bool,
    no_echo: bool,
    num_samples: int,
    delimiter: str | None,
    ban: str,
    only: str | None,
    random_seed: int | None,
    unknown: str,
    as_json: bool,
    surprisal: bool,
    **options: Any,
) -> None:
    """Write new text to stdout: the seed, then as many new characters as asked for.

    \b
      chargen generate --seed "The quick " -n 200
      chargen generate --length inf --temperature 0.5 | head -c 1000
      chargen generate -m names.keras --until-newline --num-samples 20 | sort -u
    """
    if prompt is not None and seed_file is not None:
        raise UsageError("--seed and --seed-file both say where to go on from: give one")
    if only == "":
        raise UsageError("--only '': expected at least one character")
    if options["keep_stop"] and not (options["stop"] or options["until_newline"]):
        raise UsageError("--keep-stop keeps the string of --stop: give --stop too")
    if as_json and delimiter is not None:
        raise UsageError("--json ends a line with each text, and --delimiter does not: give one")
    if surprisal and (as_json or num_samples > 1):
        other = "--json" if as_json else "--num-samples"
        raise UsageError(f"--surprisal colors one text as it is made: leave {other} out")
    if escape:
        prompt, delimiter = _unescaped(prompt, "--seed"), _unescaped(delimiter, "--delimiter")
        ban, only = _unescaped(ban, "--ban"), _unescaped(only, "--only")
        options["stop"] = [_unescaped(stop, "--stop") for stop in options["stop"]]
    sampling = _sampling(options)

    from chargen.model import load

    loaded = load(model)
    seed = _read_seed(seed_file, loaded) if seed_file is not None else prompt or ""
    request: dict[str, Any] = {
        "sampling": sampling,
        "rules": _stop_rules(options, loaded, ban, only or ""),
        "ban": ban,
        "only": only or "",
        "random_seed": random_seed,
        "unknown": unknown,
    }
    echo = b"" if no_echo else _bytes_of(seed)
    if num_samples > 1 or as_json:
        samples = loaded.samples(seed, num_samples=num_samples, scored=as_json, **request)
        _hint(prompt)
        if as_json:
            _write_json(samples, seed)
        else:
            _write_samples(samples, echo, delimiter)
    else:
        pieces = loaded.pieces(seed, **request)
        _hint(prompt)
        _write_pieces(pieces, echo, surprisal)


def _hint(prompt: str | None) -> None:
    if prompt is not None and prompt.strip().isdecimal():
        from chargen.cli.consoles import tell

        tell(f"chargen: --seed {prompt} is text to go on from; the random seed is --random-seed")


def _write_pieces(pieces: Iterator[Piece], echo: bytes, surprisal: bool) -> None:
    """One text as it is made."""
    from chargen.cli.consoles import TextSink, shows_color, surprisal_color

    is_colored = surprisal and shows_color()
    with TextSink(shown=is_colored) as sink:
        sink.write(echo)
        if is_colored:
            for piece in pieces:
                sink.write(piece.data, color=surprisal_color(piece.surprisal / math.log(2)))
        else:
            for piece in pieces:
                sink.write(piece.data)


def _write_samples(samples: Iterator[Generated], echo: bytes, delimiter: str | None) -> None:
    """Several texts: a line each at least, or with ``delimiter`` between them."""
    from chargen.cli.consoles import TextSink

    with TextSink() as sink:
        for number, sample in enumerate(samples):
            text = echo + sample.data
            if delimiter is None:
                sink.write(text if text.endswith(b"\n") else text + b"\n")
            else:
                sink.write(_bytes_of(delimiter) * (number > 0) + text)


def _write_json(samples: Iterator[Generated], seed: str | bytes) -> None:
    """A line a text: ``text`` is what is new, without the seed."""
    from chargen.cli.consoles import write_json

    for sample in samples:
        nats = sample.nats or 0.0
        record = {
            "text": sample.data.decode("utf-8", "replace"),
            "seed": _bytes_of(seed).decode("utf-8", "replace"),
            "finish_reason": sample.finish_reason,
            "characters": sample.tokens,
            "log_probability": 0.0 - nats,
            "bits_per_char": nats / math.log(2) / sample.tokens if sample.tokens else None,
            "random_seed": sample.random_seed,
        }
        write_json(record)


def _sampling(options: dict[str, Any]) -> Any:
    from chargen.config import SamplingConfig

    if options.pop("greedy"):
        if options["temperature"] is not None:
            raise UsageError("--greedy is temperature 0, and --temperature another: give one")
        options["temperature"] = 0.0
    names = SamplingConfig.__dataclass_fields__
    return SamplingConfig(**{name: options[name] for name in names if options[name] is not None})


def _stop_rules(options: dict[str, Any], loaded: Model, ban: str, only: str) -> StopRules:
    from chargen.generation import StopRules
    from chargen.model import DEFAULT_LENGTH

    length, lines, until_newline = (options[name] for name in ("length", "lines", "until_newline"))
    if lines is not None and until_newline:
        raise UsageError("--until-newline is one line, and --lines says how many: give one")
    if until_newline and options["keep_stop"]:
        raise UsageError(
            "--until-newline leaves out the line break that --keep-stop keeps: give one"
        )
    by_line = until_newline or lines is not None
    if by_line and length is None:
        if loaded.vocabulary.line_break is None:
            raise UsageError(
                "--lines and --until-newline: this model never saw a line break, so no line would"
                " end; give -n/--length"
            )
        if "\n" in ban or (only and "\n" not in only):
            raise UsageError(
                "--ban or --only forbids the line break, so no line would end; give -n/--length"
            )
    if length is None and not by_line:
        length = DEFAULT_LENGTH
    stop = [_bytes_of(text) for text in options["stop"]] + [b"\n"] * until_newline
    return StopRules(
        None if length == _ENDLESS else length, tuple(stop), options["keep_stop"], lines
    )


def _read_seed(path: str, loaded: Model) -> str | bytes:
    """The text in the file at ``path``, as the model reads text, less one final line break."""
    from chargen.reading import expand_sources, read_blocks

    kind, files = loaded.vocabulary.kind, expand_sources([path])
    try:
        blocks = [
            block for file in files for block in read_blocks(file, tokens=kind, encoding="utf-8")
        ]
    except TextError as error:
        raise TextError(f"{str(error).partition(';')[0]}; --seed-file reads UTF-8") from error
    if kind == "byte":
        return re.sub(rb"\r?\n\Z", b"", b"".join(blocks))
    return re.sub(r"\r?\n\Z", "", "".join(blocks))


def _bytes_of(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")


def _unescaped(text: Any, option: str) -> Any:
    """What the ``text`` of an option stands for with -e; None stays None."""
    if text is None:
        return None

    def character(match: re.Match[str]) -> str:
        if match[1] not in _ESCAPES:
            raise UsageError(
                f"{option}: {match[0]} is no escape; -e/--escape reads \\n, \\t, \\r, \\0 and \\\\"
            )
        return _ESCAPES[match[1]]

    return re.sub(r"\\(.?)", character, text, flags=re.DOTALL)
