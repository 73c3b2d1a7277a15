"""``chargen score``: a line in, a line out, with how well a model expects it."""

from __future__ import annotations

import click

from chargen.cli.options import load_models, models_option
from chargen.cli.parsing import Command, File

__all__ = ["command"]


@click.command("score", cls=Command, short_help="Score lines of text, for sorting and filtering.")
@click.argument("file", default="-", type=File())
@models_option("The model to read; with several, the likeliest of them is named for each line.")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object a line.")
def command(file: str, models: tuple[str, ...], as_json: bool) -> None:
    """Write each line of FILE (default: stdin) with its bits per character in front, and a tab.

    A line is read on its own, after a line break, and its own line break counts. With several
    models, the name of the one that expects the line best stands before it.

    \b
      chargen score -m names.keras < candidates.txt | sort -n | head
      chargen score -m english.keras -m german.keras < lines.txt
    """
    from chargen.cli.consoles import TextSink, json_line, one_line
    from chargen.reading import read_lines

    loaded = load_models(models)
    names = list(loaded)
    is_first = True
    with TextSink() as sink:
        for lines in read_lines(file):
            texts = [line.removesuffix(b"\r").decode("utf-8", "surrogateescape") for line in lines]
            if is_first:
                texts[0] = texts[0].removeprefix("\ufeff")
                is_first = False
            scores = [
                [score.bits_per_char for score in model.score(texts)] for model in loaded.values()
            ]
            texts.clear()  # one of them may be long
            for number, line in enumerate(lines):
                bits = {name: found[number] for name, found in zip(names, scores, strict=True)}
                best = min(bits, key=lambda name: bits[name])
                if as_json:
                    record = {"line": line.decode("utf-8", "replace"), "bits_per_char": bits[best]}
                    if len(names) > 1:
                        record |= {"model": best, "models": bits}
                    sink.write(json_line(record))
                else:
                    name = f"{one_line(best)}\t" if len(names) > 1 else ""
                    sink.write(f"{name}{bits[best]:.4f}\t".encode() + line + b"\n")
            sink.flush()
