"""A run while it goes: JSON lines for ``--log``, event files for ``--tensorboard``."""

import json
import sys
from pathlib import Path

import pytest
from conftest import PANGRAMS, Command

import chargen

SMALL = ("--cell", "rnn", "--units", 8, "--embedding-dim", 4)


def events_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_a_log_holds_what_the_model_holds_and_a_resumed_run_adds_to_it(
    run: Command, tmp_path: Path
) -> None:
    log = ("--log", "run.jsonl", "--quiet")
    assert run("train", PANGRAMS, *SMALL, "--steps", 30, *log).status == 0
    first = events_of(tmp_path / "run.jsonl")
    assert {event["event"] for event in first} == {
        *("stage", "planned", "progress", "validated", "sample", "saved")
    }
    seconds = [event["seconds"] for event in first]
    assert seconds == sorted(seconds)
    history = chargen.load(tmp_path / "chargen.keras").history
    looks = [event for event in first if event["event"] == "validated"]
    for name in ("step", "loss", "bits_per_char"):
        assert [look[name] for look in looks] == [point[name] for point in history]
    planned = next(event for event in first if event["event"] == "planned")
    assert (planned["model"]["units"], planned["training"]["steps"]) == (8, 30)

    assert run("train", PANGRAMS, "--resume", "--steps", 40, *log).status == 0
    both = events_of(tmp_path / "run.jsonl")
    assert both[: len(first)] == first
    assert {event["event"] for event in both[len(first) :]} >= {"note", "validated", "saved"}
    assert both[-1]["steps"] == 40


def test_a_log_that_cannot_be_written_costs_no_model(run: Command, tmp_path: Path) -> None:
    finished = run("train", PANGRAMS, *SMALL, "--steps", 5, "--log", "/dev/full", "--quiet")
    assert finished.status == 0
    [line] = finished.lines
    assert line.startswith("note: /dev/full: cannot be written: No space left")
    assert (tmp_path / "chargen.keras").exists()


def test_a_log_that_cannot_be_opened_is_refused(run: Command, tmp_path: Path) -> None:
    finished = run("train", PANGRAMS, "--log", "nowhere/run.jsonl")
    assert finished.status == 1
    assert finished.lines == [
        "chargen: nowhere/run.jsonl: cannot be written: No such file or directory; name another"
        " file with --log"
    ]
    assert list(tmp_path.iterdir()) == []


def test_tensorboard_reads_the_loss_and_the_figure(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util import tensor_util

    text = PANGRAMS.read_text("utf-8")
    model = chargen.train(
        text=text, steps=12, validate_every=4, cell="rnn", units=8, tensorboard=tmp_path / "board"
    )
    events = EventAccumulator(str(tmp_path / "board" / "train"))
    events.Reload()
    assert "epoch_learning_rate" in events.Tags()["tensors"]  # of the step to come, says Keras
    for tag, name in (("epoch_loss", "loss"), ("epoch_bits_per_char", "bits_per_char")):
        written = [
            float(tensor_util.make_ndarray(event.tensor_proto)) for event in events.Tensors(tag)
        ]
        assert written == pytest.approx([point[name] for point in model.history], rel=1e-5)


def test_without_tensorboard_a_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(chargen.RunError, match=r"pip install 'chargen\[tensorboard\]'"):
        chargen.train(text="abc" * 9, steps=1, tensorboard="board")
