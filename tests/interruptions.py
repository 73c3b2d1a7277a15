"""Runs of ``chargen.train`` that are stopped on purpose, or only just let begin."""

from pathlib import Path
from typing import Any

import pytest
from conftest import PANGRAMS

import chargen
from chargen.archive import read_archive
from chargen.training.checkpoint import read_checkpoint, state_path
from chargen.training.events import Event, Stage

TEXT = PANGRAMS.read_text("utf-8")[:3000]
SMALL = {"text": TEXT, "cell": "rnn", "units": 8, "embedding_dim": 4, "batch_size": 4}


class StopAfter:
    """An ``is_stopped`` that stops a run after so many of its steps in this process."""

    def __init__(self, steps: int) -> None:
        self._left = steps

    def __call__(self) -> bool:
        self._left -= 1
        return self._left == 0


class HasBegun(Exception):
    """Raised where TensorFlow would be started: nothing has been refused."""


def only_begin(**options: Any) -> list[Event]:
    """What a run tells before it starts TensorFlow, which it must come to."""
    events: list[Event] = []

    def listen(event: Event) -> None:
        events.append(event)
        if event == Stage("starting TensorFlow"):
            raise HasBegun

    with pytest.raises(HasBegun):
        chargen.train(listener=listen, **options)
    return events


def weights_of(path: Path) -> bytes:
    """The weights in the model file at ``path``, as they lie there."""
    return read_archive(path).members["model.weights.h5"]


def outcome(output: Path) -> dict[str, Any]:
    """All that a run left beside ``output`` but the times that it took, as comparable values."""
    state = read_checkpoint(state_path(output))
    run = state.run.to_dict()
    return {
        "model": output.read_bytes(),
        "configs": (state.model, state.training, state.vocabulary, state.asked, state.origin),
        "run": {name: value for name, value in run.items() if not name.endswith("seconds")},
        "best": {name: array.tobytes() for name, array in (state.run.best or {}).items()},
        "now": {name: array.tobytes() for name, array in state.variables.items()},
    }


def step_of(output: Path) -> int:
    """Where the run that writes ``output`` stands, as its state says."""
    return read_checkpoint(state_path(output)).run.step


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}
