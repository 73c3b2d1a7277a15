"""``chargen train``: from a corpus to a model file."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from typing import Any

import click

from chargen.cli.consoles import is_terminal
from chargen.cli.parsing import Command, File, Folder, Number, OneOf, WholeNumber
from chargen.errors import UsageError

__all__ = ["command"]

_CURSOR = b"\x1b[?25h"  # shows it


@click.command("train", cls=Command, short_help="Train a model on a text.")
@click.argument("corpus", nargs=-1, required=True, type=File(), metavar="CORPUS...")
@click.option(
    "-o",
    "--output",
    default="chargen.keras",
    show_default=True,
    type=File(),
    metavar="FILE",
    help="The model to write.",
)
@click.option("--force", is_flag=True, help="Overwrite a model that exists.")
@click.option(
    "--resume",
    is_flag=True,
    help="Go on where the run that writes this model stood, with its options; begin where there"
    " is none.",
)
@click.option(
    "--checkpoint-every",
    default="60s",
    show_default=True,
    metavar="TIME",
    help="Write the best model so far, and the state to resume from, at least so often.",
)
@click.option(
    "--init",
    type=File(),
    metavar="MODEL",
    help="Start from this model's weights; new characters are added to its vocabulary.",
)
@click.option(
    "--budget",
    metavar="TIME",
    help="How long everything may take, such as 90s, 3m or 1h30m; a small corpus takes less."
    "  [default: 3m]",
)
@click.option(
    "--epochs", type=WholeNumber(), metavar="N", help="Train for N passes over the text instead."
)
@click.option("--steps", type=WholeNumber(), metavar="N", help="Train for N batches instead.")
@click.option(
    "--tokens",
    type=OneOf(["char", "byte"]),
    help="Learn characters, or the bytes of any file.  [default: char]",
)
@click.option("--encoding", metavar="NAME", help="The encoding of the text.  [default: utf-8]")
@click.option(
    "--lines",
    is_flag=True,
    default=None,
    help="Each line is a document (a name, a title): they are shuffled and held out whole.",
)
@click.option(
    "--val-fraction",
    type=Number(),
    metavar="SHARE",
    help="Share of the text held out from its end; 0 holds out none."
    "  [default: 0.1, at most 1,000,000 characters]",
)
@click.option(
    "--cell",
    type=OneOf(["rnn", "lstm", "gru"]),
    help="The recurrent layer.  [default: lstm]",
)
@click.option(
    "--units",
    type=WholeNumber(also={"auto": None}),
    default="auto",
    show_default=True,
    metavar="N|auto",
    help="Width of a layer; auto goes by the corpus and the budget.",
)
@click.option(
    "--layers",
    "num_layers",
    type=WholeNumber(),
    metavar="N",
    help="Recurrent layers.  [default: 1]",
)
@click.option(
    "--embedding-dim",
    type=WholeNumber(),
    metavar="N",
    help="Width of the embedding.  [default: 64]",
)
@click.option(
    "--dropout",
    type=Number(),
    metavar="SHARE",
    help="Share of a layer's outputs dropped in training.  [default: by corpus and budget]",
)
@click.option(
    "--objective",
    type=OneOf(["sequence", "last"]),
    help="Learn every next character with carried state, or only the one after each window."
    "  [default: sequence]",
)
@click.option(
    "--batch-size",
    type=WholeNumber(),
    metavar="N",
    help="Texts read side by side.  [default: by the corpus]",
)
@click.option(
    "--sequence-length",
    type=WholeNumber(),
    metavar="N",
    help="Characters in a window.  [default: 32; 40 for --objective last]",
)
@click.option(
    "--stride",
    type=WholeNumber(),
    metavar="N",
    help="Characters from one window to the next, for --objective last.  [default: 1]",
)
@click.option(
    "--learning-rate",
    type=Number(),
    metavar="RATE",
    help="The peak, after warm-up.  [default: by the cell]",
)
@click.option(
    "--patience",
    type=WholeNumber(),
    metavar="N",
    help="Stop after N validations without a better held-out figure.",
)
@click.option(
    "--validate-every",
    type=WholeNumber(),
    metavar="N",
    help="Steps between validations.  [default: by the length of the run]",
)
@click.option(
    "--precision",
    type=OneOf(["auto", "float32", "bfloat16"]),
    default="auto",
    show_default=True,
    help="Of the recurrent products; auto is bfloat16 where that is faster.",
)
@click.option(
    "--deterministic",
    is_flag=True,
    default=None,
    help="Ask a GPU for equal models from equal runs, at a price; a processor makes them anyway.",
)
@click.option(
    "--random-seed",
    type=WholeNumber(),
    metavar="N",
    help="The same number gives the same model.  [default: 0]",
)
@click.option(
    "--log",
    "log_file",
    type=File(),
    metavar="FILE",
    help="Add what happens to FILE, a JSON object a line.",
)
@click.option(
    "--tensorboard",
    type=Folder(),
    metavar="DIR",
    help="Write TensorBoard's event files to DIR (pip install 'chargen[tensorboard]').",
)
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def command(
    corpus: tuple[str, ...],
    output: str,
    quiet: bool,
    units: int | None,
    log_file: str | None,
    **options: Any,
) -> None:
    """Train a model on CORPUS: files, folders, globs, or '-' for stdin (.gz too).

    \b
      chargen train corpus.txt
      chargen train names.txt --lines --budget 1m -o names.keras
      cat *.py | chargen train - -o code.keras
      chargen train corpus.txt --resume
    """
    started = _process_start()
    if log_file is not None:
        _check_log(
            log_file, [*corpus, output, f"{output}.resume", *filter(None, [options["init"]])]
        )

    from chargen.cli.log import logged
    from chargen.cli.progress import display
    from chargen.training import train

    shown, noted, interrupt = display(corpus, quiet=quiet), logged(log_file), _Interrupt()
    try:
        with shown as show, noted as note, interrupt:

            def listen(event: Any) -> None:
                interrupt.arm(event)
                show(event)
                note(event)

            train(
                corpus,
                output=output,
                units=units,
                listener=listen,
                is_stopped=interrupt.is_requested,
                started=started,
                **options,
            )
    except KeyboardInterrupt:
        interrupt.obey()
        raise
    interrupt.obey()


def _check_log(log_file: str, others: list[str]) -> None:
    """Raise ``UsageError`` where the log would be written into another file of the run."""
    if os.path.realpath(log_file) in map(os.path.realpath, others):
        raise UsageError(f"--log {log_file!r}: is a text or a model of this run; name another file")


class _Interrupt:
    """The first Ctrl-C or SIGTERM ends the run after its step, a second one at once.

    Before the first step there is nothing to keep: SIGTERM ends the run as Ctrl-C always does, by
    an exception, which leaves the terminal and the folder as they were.
    """

    def __init__(self) -> None:
        self._received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}
        self._is_armed = False

    def __enter__(self) -> _Interrupt:
        self._take(signal.SIGTERM, self._end)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def arm(self, event: object) -> None:
        if not self._is_armed and type(event).__name__ == "Progress":
            self._is_armed = True
            for number in (signal.SIGINT, signal.SIGTERM):
                self._take(number, self._handle)

    def _take(self, number: signal.Signals, handler: Any) -> None:
        if signal.getsignal(number) is not signal.SIG_IGN:
            self._before.setdefault(number, signal.signal(number, handler))

    def _end(self, number: int, frame: object) -> None:
        self._received = signal.Signals(number)
        raise KeyboardInterrupt

    def _handle(self, number: int, frame: object) -> None:
        if self._received is not None:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self._received = signal.Signals(number)
        if is_terminal(sys.stderr):  # a second one leaves no time for the cursor
            os.write(sys.stderr.fileno(), _CURSOR)

    def is_requested(self) -> bool:
        return self._received is not None

    def obey(self) -> None:
        """Die of the signal that was received, if any."""
        if self._received is not None:
            from chargen.cli import die_of

            die_of(self._received)


def _process_start() -> float:
    """When this process began, of ``time.monotonic``; now, where the system does not tell."""
    now = time.monotonic()
    with contextlib.suppress(OSError, AttributeError, ValueError, IndexError):
        with open("/proc/self/stat") as file:
            ticks = int(file.read().rpartition(")")[2].split()[19])
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
        return now - max(0.0, age)
    return now
