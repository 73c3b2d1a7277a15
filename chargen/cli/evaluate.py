"""``chargen evaluate``: how well a model expects a text."""

from __future__ import annotations

import json

import click

from chargen.cli.options import encoding_option, model_option, unknown_option

__all__ = ["command"]


@click.command("evaluate", short_help="Measure how well the model expects a text.")
@click.argument("file", metavar="FILE")
@model_option
@click.option(
    "--held-out",
    is_flag=True,
    help="FILE is the corpus the model was trained on: measure the part that was held out.",
)
@unknown_option
@encoding_option
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object.")
def command(
    file: str, model: str, held_out: bool, unknown: str, encoding: str, as_json: bool
) -> None:
    """Measure how well the model expects the text in FILE ('-' is stdin).

    The figure is the mean over characters 2 to N of the text, read in order from zero state; fewer
    bits per character are better.

    \b
      chargen evaluate other.txt
      chargen evaluate corpus.txt --held-out --json
    """
    from chargen.cli.consoles import write_text
    from chargen.corpus import read_tokens
    from chargen.model import load

    loaded = load(model)
    if held_out:
        found = loaded.evaluate_tokens(loaded.held_out_part([file]))
    else:
        tokens, skipped = read_tokens(
            [file],
            loaded.vocabulary,
            encoding=encoding,
            unknown=unknown,  # type: ignore[arg-type]
        )
        found = loaded.evaluate_tokens(tokens, skipped=skipped)
    if as_json:
        write_text(json.dumps(found.to_dict()))
        return
    rows = [
        ("bits per character", f"{found.bits_per_char:.4f}"),
        ("nats per character", f"{found.nats_per_char:.4f}"),
        ("perplexity", f"{found.perplexity:.3f}"),
        ("accuracy", f"{100 * found.accuracy:.2f} %"),
        ("characters", f"{found.characters:,}"),
    ]
    if unknown == "skip":
        rows.append(("skipped as unknown", f"{found.skipped:,}"))
    write_text("\n".join(f"{name:<20}{value}" for name, value in rows))
