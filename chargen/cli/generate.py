"""``chargen generate``: new text on stdout."""

from __future__ import annotations

import sys
from itertools import islice

import click

from chargen.cli.options import model_option, unknown_option
from chargen.errors import UsageError

__all__ = ["command"]


@click.command("generate", short_help="Write new text.")
@model_option
@click.option(
    "--seed",
    "-p",
    "--prompt",
    "prompt",
    default="",
    metavar="TEXT",
    help="Text to go on from. Without it the model starts after a line break.",
)
@click.option(
    "-n",
    "--length",
    type=int,
    default=500,
    show_default=True,
    metavar="N",
    help="New characters to write (bytes, for a byte model).",
)
@click.option(
    "--temperature",
    type=float,
    default=None,
    metavar="T",
    help="Below 1 is safer, above is wilder, 0 takes the likeliest.  [default: 0.8]",
)
@click.option("--greedy", is_flag=True, help="Take the likeliest character: temperature 0.")
@click.option(
    "--random-seed",
    type=int,
    default=None,
    metavar="N",
    help="The same number gives the same text.  [default: a fresh one]",
)
@click.option("--no-echo", is_flag=True, help="Leave the seed out of the output.")
@unknown_option
def command(
    model: str,
    prompt: str,
    length: int,
    temperature: float | None,
    greedy: bool,
    random_seed: int | None,
    no_echo: bool,
    unknown: str,
) -> None:
    """Write new text to stdout: the seed, then as many new characters as asked for.

    \b
      chargen generate --seed "The quick " -n 200
      chargen generate --temperature 0.5 --random-seed 1 | fold -s
    """
    if greedy and temperature is not None:
        raise UsageError("--greedy is temperature 0: give --greedy or --temperature, not both")
    if not 0 <= length <= sys.maxsize:
        raise UsageError(f"length {length}: expected from 0 to {sys.maxsize} (-n/--length)")
    if random_seed is not None and random_seed < 0:
        raise UsageError(f"random seed {random_seed}: expected 0 or more (--random-seed)")
    if greedy:
        temperature = 0.0

    from chargen.cli.consoles import TextSink
    from chargen.config import SamplingConfig
    from chargen.model import load

    sampling = SamplingConfig() if temperature is None else SamplingConfig(temperature)
    loaded = load(model)
    tokens = loaded.tokens(
        prompt,
        sampling=sampling,
        random_seed=random_seed,
        unknown=unknown,  # type: ignore[arg-type]
    )
    pieces = [loaded.vocabulary.decode_bytes([index]) for index in range(len(loaded.vocabulary))]
    with TextSink() as sink:
        if not no_echo:
            sink.write(prompt.encode("utf-8", "surrogateescape"))
        for token in islice(tokens, length):
            sink.write(pieces[token])
