"""``chargen score``: a line in, a line out, with how well a model expects it."""

from __future__ import annotations

from pathlib import Path

import click

from chargen.errors import UsageError

__all__ = ["command"]


class _ModelPath(click.Path):
    """A path that the environment variable names whole: Click would cut it at colons."""

    def split_envvar_value(self, rv: str) -> list[str]:
        return [rv]


@click.command("score", short_help="Score lines of text, for sorting and filtering.")
@click.argument("file", default="-", type=click.Path(allow_dash=True))
@click.option(
    "-m",
    "--model",
    "models",
    multiple=True,
    envvar="CHARGEN_MODEL",
    default=("chargen.keras",),
    show_default=True,
    show_envvar=True,
    type=_ModelPath(),
    metavar="FILE",
    help="The model to read; with several, the likeliest of them is named for each line.",
)
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
    from chargen.model import load
    from chargen.reading import read_lines

    if len(set(models)) < len(models):
        raise UsageError("a model is named twice (-m/--model)")
    loaded = [load(path) for path in models]
    names = _names(models)
    is_first = True
    with TextSink() as sink:
        for lines in read_lines(file):
            texts = [line.removesuffix(b"\r").decode("utf-8", "surrogateescape") for line in lines]
            if is_first:
                texts[0] = texts[0].removeprefix("\ufeff")
                is_first = False
            scores = [[score.bits_per_char for score in model.score(texts)] for model in loaded]
            for number, line in enumerate(lines):
                bits = {name: found[number] for name, found in zip(names, scores, strict=True)}
                best = min(bits, key=lambda name: bits[name])
                if as_json:
                    record = {"line": line.decode("utf-8", "replace"), "bits_per_char": bits[best]}
                    if len(names) > 1:
                        record |= {"model": best, "models": bits}
                    sink.write(f"{json_line(record)}\n".encode())
                else:
                    name = f"{one_line(best)}\t" if len(names) > 1 else ""
                    sink.write(f"{name}{bits[best]:.4f}\t".encode() + line + b"\n")
            sink.flush()


def _names(paths: tuple[str, ...]) -> list[str]:
    """The files' names without their suffix, or their paths where two would be alike."""
    stems = [Path(path).stem for path in paths]
    return stems if len(set(stems)) == len(stems) else list(paths)
