"""The display of a training run on stderr: a Rich bar on a terminal, else plain lines."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from chargen.cli.consoles import is_terminal, one_line, shell_word, tell, terminal_safe
from chargen.training.events import (
    Event,
    Listener,
    Note,
    Planned,
    Progress,
    Sample,
    Saved,
    Stage,
    Validated,
)

__all__ = ["display"]

_SAMPLE_INTERVAL = 15.0  # seconds


@contextmanager
def display(corpus: Sequence[str], *, quiet: bool) -> Iterator[Listener]:
    """A listener that shows the run on ``corpus``; with ``quiet`` it shows nothing."""
    if quiet:
        yield lambda event: None
    elif is_terminal(sys.stderr) and os.environ.get("TERM") != "dumb":
        with _Bar(corpus) as bar:
            yield bar
    else:
        yield _Lines(corpus)


class _Lines:
    """A line for each thing worth a line."""

    def __init__(self, corpus: Sequence[str]) -> None:
        self._corpus = corpus
        self._unit = "character"
        self._speed = 0.0
        self._sampled = time.monotonic()

    def __call__(self, event: Event) -> None:
        match event:
            case Progress():
                self._speed = event.chars_per_second
            case Validated():
                self.say(
                    f"step {event.step:,}/{event.steps:,}  loss {event.loss:.4f}  held out"
                    f" {event.bits_per_char:.4f} bits per {self._unit}"
                    f"{' (best)' if event.is_best else ''}  {self._speed:,.0f} {self._unit}s/s"
                )
            case Sample():
                if time.monotonic() - self._sampled >= _SAMPLE_INTERVAL:
                    self._sampled = time.monotonic()
                    self.sample(event.text)
            case Planned():
                self._unit = event.unit
                self.say(_plan(event))
            case Note():
                self.say(f"note: {event.text}")
            case Saved():
                self.say(_closing(event, self._corpus))

    def say(self, line: str) -> None:
        tell(line)

    def sample(self, text: str) -> None:
        for line in terminal_safe(text).strip("\n").split("\n"):
            self.say(f"  | {line}")


class _Bar(_Lines):
    """A bar with the time left, the speed, the loss and the held-out figure."""

    def __init__(self, corpus: Sequence[str]) -> None:
        super().__init__(corpus)
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

        # Nothing in a text or a name is a style or the name of an emoji.
        self._console = Console(
            stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False
        )
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[figures]}"),
            console=self._console,
            transient=True,
        )
        self._task = self._bar.add_task("starting", total=None, figures="")
        self._held_out = ""

    def __enter__(self) -> _Bar:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def __call__(self, event: Event) -> None:
        match event:
            case Stage():
                self._bar.update(self._task, description=event.text, refresh=True)
            case Progress():
                units = "bytes" if self._unit == "byte" else "chars"
                self._bar.update(
                    self._task,
                    description=f"{event.step:,}/{event.steps:,}",
                    total=event.steps,
                    completed=event.step,
                    figures=f"{_clock(event.seconds_left)} left"
                    f"  {event.chars_per_second / 1000:.0f}k {units}/s"
                    f"  loss {event.loss:.3f}{self._held_out}",
                )
            case Validated():
                self._held_out = f"  held out {event.bits_per_char:.3f} bits"
            case Saved():
                self._bar.stop()
                super().__call__(event)
            case _:
                super().__call__(event)

    def say(self, line: str) -> None:
        self._console.print(one_line(line))

    def sample(self, text: str) -> None:
        for line in terminal_safe(text).strip("\n").split("\n"):
            self._console.print(f"  {line}", style="dim")


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _plan(event: Planned) -> str:
    model, training = event.model, event.training
    return (
        f"{event.characters:,} {event.unit}s to learn from, {event.held_out_characters:,} held out,"
        f" {model.vocabulary_size:,} different; {model.cell.upper()} {model.num_layers} x"
        f" {model.units}, {model.num_parameters:,} parameters; batch {training.batch_size} x"
        f" {training.sequence_length}"
    )


def _closing(event: Saved, corpus: Sequence[str]) -> str:
    path = event.path or ""
    figure = (
        ""
        if event.bits_per_char is None
        else f", {event.bits_per_char:.4f} bits per {event.unit} on the held-out text"
    )
    if event.interrupted:
        options = [] if path == "chargen.keras" else ["-o", path]
        if any(name.startswith("-") and name != "-" for name in corpus):
            words = ["chargen", "train", *options, "--resume", "--", *corpus]
        else:
            words = ["chargen", "train", *corpus, *options, "--resume"]
        going_on = f"Go on: {' '.join(map(shell_word, words))}"
        return f"stopped at step {event.steps:,}; {one_line(path)}{figure}. {going_on}"
    model = "" if path == "chargen.keras" else f" -m {shell_word(path)}"
    return f"{one_line(path)}{figure}. Next: chargen generate{model}"
