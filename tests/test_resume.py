"""A run that is stopped and resumed is the run that never was: in this process and in real ones."""

import os
import re
import shutil
import signal
import subprocess
import termios
import time
from collections.abc import Callable
from dataclasses import replace
from fcntl import ioctl
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import PANGRAMS, Command
from interruptions import (
    SMALL,
    TEXT,
    HasBegun,
    StopAfter,
    names,
    only_begin,
    outcome,
    step_of,
    weights_of,
)
from refusals import line_of

import chargen
from chargen.archive import read_archive
from chargen.training.checkpoint import read_checkpoint, state_path, write_checkpoint
from chargen.training.events import Event, Note, Validated

LETTERS = np.random.default_rng(0).choice(list("abcdefgh"), (60, 12))
STEPS = 800  # of a real process: enough for it to be met by a signal
MODES: dict[str, dict[str, Any]] = {
    # Dropout draws random numbers, and 23 steps in stretches of 5 end with a short one.
    "deep": {
        **SMALL,
        "num_layers": 2,
        "dropout": 0.3,
        "steps": 23,
        "validate_every": 5,
    },
    # Nothing to learn but by heart, so that patience ends it.
    "lines": {
        "text": "\n".join(map("".join, LETTERS)),
        "lines": True,
        "cell": "gru",
        "precision": "bfloat16",
        "units": 16,
        "embedding_dim": 8,
        "batch_size": 8,
        "sequence_length": 16,
        "learning_rate": 0.03,
        "steps": 400,
        "validate_every": 2,
        "patience": 4,
    },
    "last": {
        **SMALL,
        "objective": "last",
        "sequence_length": 9,
        "batch_size": 16,
        "val_fraction": 0,
        "deterministic": True,  # a processor is, and must lose no speed by it
        "steps": 12,
    },
    # Two shards, where there are two processors.
    "bytes": {
        "text": TEXT,
        "tokens": "byte",
        "batch_size": 32,
        "epochs": 3,
        "random_seed": 7,
    },
    "process": {
        "corpus": PANGRAMS,
        "cell": "gru",
        "units": 16,
        "embedding_dim": 8,
        "batch_size": 4,
        "steps": STEPS,
        "validate_every": 100,
    },
}
PROCESS = tuple(
    word
    for name, value in MODES["process"].items()
    if name != "corpus"
    for word in (f"--{name.replace('_', '-')}", value)
)


def train(output: Path, stop: int = 0, **options: Any) -> list[Event]:
    """What a run tells that is stopped after ``stop`` steps (0: not)."""
    events: list[Event] = []
    is_stopped = StopAfter(stop)
    chargen.train(output=output, listener=events.append, is_stopped=is_stopped, **options)
    return events


def notes(events: list[Event]) -> str:
    return "\n".join(event.text for event in events if isinstance(event, Note))


def copied(output: Path, folder: Path) -> Path:
    """What stands at and beside ``output``, in another folder too."""
    for path in (output, state_path(output)):
        shutil.copy(path, folder)
    return folder / output.name


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The output of a run of one of ``MODES`` that is never stopped."""
    outputs: dict[str, Path] = {}

    def trained(mode: str, **more: Any) -> Path:
        if mode not in outputs:
            outputs[mode] = tmp_path_factory.mktemp(mode) / "x.keras"
            train(outputs[mode], **MODES[mode], **more)
        return outputs[mode]

    return trained


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a small run that was stopped at step 7 of 20."""
    output = tmp_path_factory.mktemp("stopped") / "x.keras"
    train(output, 7, **SMALL, steps=20, validate_every=5)
    return output


@pytest.fixture(scope="module")
def finished(stopped: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of the same run at its end, which it came to by its state alone."""
    output = copied(stopped, tmp_path_factory.mktemp("finished"))
    output.unlink()
    train(output, resume=True, text=TEXT)
    return output


# What is left is that of a run that was never stopped


def test_a_run_stopped_again_and_again_is_the_run_that_never_was(
    straight: Callable[..., Path], tmp_path: Path
) -> None:
    output, told = tmp_path / "x.keras", list[Event]()
    # At the first step, right at a validation, between two, and at the last step.
    for before, step in ((0, 1), (1, 5), (5, 9), (9, 23)):
        told += train(output, step - before, resume=True, **MODES["deep"])
        assert step_of(output) == step
        assert names(tmp_path) == {"x.keras", "x.keras.resume"}
        assert (told[-1].steps, told[-1].interrupted) == (step, step < 23)
        assert chargen.load(output).training["completed"] == (step == 23)
        assert (f"going on from step {before} of 23" in notes(told)) == (before > 0)
    assert outcome(output) == outcome(straight("deep"))
    history = chargen.load(output).history
    assert [point["step"] for point in history] == [5, 10, 15, 20, 23]
    seen = {event.step: event.bits_per_char for event in told if isinstance(event, Validated)}
    assert set(seen) == {1, 5, 9, 10, 15, 20, 23}  # a run that is stopped has a last look
    assert all(point["bits_per_char"] == seen[point["step"]] for point in history)


def test_a_run_that_patience_ends_resumes(straight: Callable[..., Path], tmp_path: Path) -> None:
    output, best = tmp_path / "x.keras", chargen.load(straight("lines")).training["best_step"]
    train(output, best + 5, **MODES["lines"])
    run = read_checkpoint(state_path(output)).run
    assert (run.step, run.best_step, run.without_gain) == (best + 5, best, 2)
    events = train(output, resume=True, text=MODES["lines"]["text"])
    assert events[-1].steps == best + 8
    assert "no gain in 4 validations" in notes(events)
    assert outcome(output) == outcome(straight("lines"))


def test_sliding_windows_with_nothing_held_out_resume(
    straight: Callable[..., Path], tmp_path: Path
) -> None:
    output = tmp_path / "x.keras"
    train(output, 4, **MODES["last"])
    events = train(output, resume=True, text=TEXT)
    assert "too little text" not in notes(events)  # it was told to hold none out
    assert outcome(output) == outcome(straight("last"))


def test_a_run_from_another_model_resumes_without_it(
    straight: Callable[..., Path], byte_model: Path, tmp_path: Path
) -> None:
    mode = MODES["bytes"]
    init = shutil.copy(byte_model, tmp_path / "init.keras")
    train(tmp_path / "straight.keras", init=init, **mode)
    output = tmp_path / "x.keras"
    train(output, 3, init=init, **mode)
    os.unlink(init)
    train(output, resume=True, text=TEXT)
    assert outcome(output) == outcome(tmp_path / "straight.keras")


def test_both_files_are_written_in_time_and_the_model_first(tmp_path: Path) -> None:
    output, steps = tmp_path / "x.keras", 0
    every, since = 0.2, time.time()

    def is_stopped() -> bool:
        nonlocal steps, since
        steps += 1
        if steps == 1:
            since = time.time()
        elif output.exists() or time.time() - since > every + 0.1:
            model, state = output.stat(), state_path(output).stat()
            assert model.st_mtime_ns <= state.st_mtime_ns
            assert time.time() - state.st_mtime < every + 0.2
        time.sleep(0.03)
        return False

    chargen.train(
        output=output,
        is_stopped=is_stopped,
        steps=30,
        validate_every=30,
        checkpoint_every=f"{every}s",
        **SMALL,
    )
    assert steps == 30


# What is refused, by name, before TensorFlow is loaded

OTHERS = {
    "cell": "gru",
    "units": 9,
    "num_layers": 2,
    "embedding_dim": 5,
    "dropout": 0.1,
    "objective": "last",
    "batch_size": 8,
    "sequence_length": 16,
    "stride": 2,
    "learning_rate": 0.5,
    "patience": 3,
    "validate_every": 6,
    "precision": "bfloat16",
    "deterministic": True,
    "random_seed": 1,
    "tokens": "byte",
    "encoding": "latin-1",
    "lines": True,
    "val_fraction": 0.2,
    "init": "other.keras",
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_option_than_before_is_refused_by_name(
    name: str, stopped: Path, tmp_path: Path
) -> None:
    output = copied(stopped, tmp_path)
    before = outcome(output)
    with pytest.raises(chargen.UsageError) as caught:
        chargen.train(text=TEXT, output=output, resume=True, **{name: OTHERS[name]})
    option = "--layers" if name == "num_layers" else f"--{name.replace('_', '-')}"
    assert f"leave {option} out" in line_of(caught, 2)
    assert repr(OTHERS[name]) in str(caught.value)
    assert outcome(output) == before
    assert names(tmp_path) == {"x.keras", "x.keras.resume"}


def test_the_options_of_before_are_accepted_given_or_chosen(stopped: Path) -> None:
    state = read_checkpoint(state_path(stopped))
    chosen = {
        "dropout": 0.0,
        "objective": "sequence",
        "sequence_length": state.training.sequence_length,
        "learning_rate": state.training.learning_rate,
        "deterministic": False,
        "random_seed": 0,
        "tokens": "char",
        "lines": False,
    }
    events = only_begin(output=stopped, resume=True, steps=20, validate_every=5, **SMALL, **chosen)
    assert notes(events) == "going on from step 7 of 20"


@pytest.mark.parametrize("text", [TEXT[:-1], f"{TEXT}.", f"{TEXT}é", f"é{TEXT[1:]}"])
def test_a_changed_corpus_is_refused(text: str, stopped: Path) -> None:
    with pytest.raises(chargen.TextError) as caught:
        chargen.train(text=text, output=stopped, resume=True)
    assert "not the corpus" in line_of(caught, 3)


def test_a_corpus_that_has_moved_is_the_same(stopped: Path, tmp_path: Path) -> None:
    for name in ("one.txt", "two.txt"):
        (tmp_path / name).write_text(TEXT, "utf-8")
        only_begin(corpus=tmp_path / name, output=stopped, resume=True)


def test_the_model_of_another_run_is_not_overwritten(
    stopped: Path, finished: Path, sequence_model: Path, tmp_path: Path
) -> None:
    output = copied(stopped, tmp_path)
    for _ in range(2):  # with a state and without one
        shutil.copy(sequence_model, output)
        with pytest.raises(chargen.UsageError) as caught:
            chargen.train(output=output, resume=True, **SMALL, steps=20)
        assert "the model of another run; --force" in line_of(caught, 2)
        assert output.read_bytes() == sequence_model.read_bytes()
        only_begin(output=output, resume=True, force=True, **SMALL, steps=20)
        state_path(output).unlink(missing_ok=True)
    output.write_bytes(finished.read_bytes()[:-9])
    with pytest.raises(chargen.UsageError) as caught:
        chargen.train(output=output, resume=True, **SMALL, steps=20)
    assert "--force overwrites it" in line_of(caught, 2)


def spoil(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:-1],
        lambda data: data[: len(data) // 2],
        lambda data: spoil(data, len(data) // 2),
        lambda data: spoil(data, data.index(b'"step"')),
        lambda data: PANGRAMS.read_bytes(),
    ],
    ids=("empty", "short", "half", "a bit of a tensor", "a bit of the JSON", "a text"),
)
def test_a_damaged_state_is_refused(
    damage: Callable[[bytes], bytes], stopped: Path, tmp_path: Path
) -> None:
    output = copied(stopped, tmp_path)
    state_path(output).write_bytes(damage(state_path(output).read_bytes()))
    with pytest.raises(chargen.ModelFileError) as caught:
        chargen.train(text=TEXT, output=output, resume=True)
    assert "--force without --resume" in line_of(caught, 4)
    only_begin(output=output, force=True, **SMALL)


def test_a_state_that_cannot_be_is_refused(stopped: Path, tmp_path: Path) -> None:
    output = copied(stopped, tmp_path)
    state_path(output).unlink()
    state_path(output).mkdir()
    with pytest.raises(chargen.ModelFileError) as caught:
        chargen.train(text=TEXT, output=output, resume=True)
    line_of(caught, 4)


@pytest.mark.parametrize("every", ["x", "-1s", -1, float("nan"), float("inf"), "9000h"])
def test_times_between_checkpoints_that_cannot_be(every: Any, tmp_path: Path) -> None:
    with pytest.raises(chargen.UsageError) as caught:
        chargen.train(text=TEXT, output=tmp_path / "x.keras", checkpoint_every=every)
    assert "--checkpoint-every" in line_of(caught, 2)
    with pytest.raises(chargen.UsageError) as caught:
        chargen.train(text=TEXT, resume=True)
    assert "-o/--output" in line_of(caught, 2)


# What is missing


def test_without_a_state_the_run_begins(stopped: Path, finished: Path, tmp_path: Path) -> None:
    output = tmp_path / "x.keras"
    events = only_begin(output=output, resume=True, **SMALL)
    assert notes(events) == f"no {output}.resume to go on from: the run begins"
    # A run that was killed between its first two writes left a model and no state.
    shutil.copy(stopped, output)
    train(output, resume=True, **SMALL, steps=20, validate_every=5)
    assert names(tmp_path) == {"x.keras", "x.keras.resume"}
    assert outcome(output) == outcome(finished)


def test_without_its_model_a_finished_run_makes_it_again(finished: Path, tmp_path: Path) -> None:
    output = copied(finished, tmp_path)
    output.unlink()
    train(output, resume=True, text=TEXT)
    assert outcome(output) == outcome(finished)


# The end, and beyond


def test_a_finished_run_says_so(finished: Path, tmp_path: Path) -> None:
    output = copied(finished, tmp_path)
    before = outcome(output)
    for _ in range(2):  # with its state and without it
        for more in ({}, {"steps": 20}):
            options = {**SMALL, "validate_every": 5, **more}
            events = train(output, resume=True, **options)
            assert "this run is finished, after 20 steps" in notes(events)
            assert events[-1] == replace(events[-1], path=str(output), steps=20, interrupted=False)
            assert not any(isinstance(event, Validated) for event in events)
            assert output.read_bytes() == before["model"]
        state_path(output).unlink(missing_ok=True)
    with pytest.raises(chargen.UsageError) as caught:
        chargen.train(output=output, resume=True, **SMALL, steps=30)
    assert "--init" in line_of(caught, 2)
    assert output.read_bytes() == before["model"]


@pytest.mark.parametrize("length", [{"steps": 19}, {"epochs": 0.1}, {"budget": 1}])
def test_a_shorter_length_is_refused(length: Any, finished: Path, stopped: Path) -> None:
    for output in (finished, stopped):
        with pytest.raises(chargen.UsageError) as caught:
            chargen.train(text=TEXT, output=output, resume=True, **length)
        assert f"--{next(iter(length))}" in line_of(caught, 2)


def test_more_steps_go_on_from_the_end(finished: Path, tmp_path: Path) -> None:
    output, again = copied(finished, tmp_path), tmp_path / "again"
    again.mkdir()
    train(output, 4, resume=True, text=TEXT, steps=31)
    assert step_of(output) == 24
    assert [point["step"] for point in read_archive(output).history] == [5, 10, 15, 20, 24]
    train(output, resume=True, text=TEXT)
    again = copied(finished, again)
    events = train(again, resume=True, text=TEXT, steps=31)
    assert notes(events) == "going on from step 20 of 31"
    assert outcome(output) == outcome(again)
    model = chargen.load(output)
    assert [point["step"] for point in model.history] == [5, 10, 15, 20, 25, 30, 31]
    assert (model.training["completed"], model.training["as_planned"]) == (True, False)
    assert model.training["steps"] == 31
    only_begin(text=TEXT, output=output, resume=True, epochs=2)  # 21 steps each


def test_more_time_goes_on_from_the_end(finished: Path, tmp_path: Path) -> None:
    output = copied(finished, tmp_path)
    spent = read_checkpoint(state_path(output)).run.seconds
    events = train(output, resume=True, text=TEXT, budget=spent + 2)
    assert 20 < events[-1].steps <= 11 * 22  # epochs are enough for so little text
    assert chargen.load(output).training["completed"]
    assert chargen.load(output).training["held_out"]["bits_per_char"] == pytest.approx(
        min(point["bits_per_char"] for point in chargen.load(output).history)
    )


def test_another_number_of_threads_is_told(stopped: Path, tmp_path: Path) -> None:
    output = copied(stopped, tmp_path)
    state = read_checkpoint(state_path(output))
    state.run.threads = 3
    write_checkpoint(state_path(output), state)

    def listen(event: Event) -> None:
        if isinstance(event, Note) and "thread(s)" in event.text:
            raise HasBegun(event.text)

    with pytest.raises(HasBegun, match=r"begun with 3 thread.* goes on with 1: its weights"):
        chargen.train(text=TEXT, output=output, resume=True, listener=listen)


# Real processes


def lines_until(process: subprocess.Popen[bytes], beginning: str) -> list[str]:
    """What ``process`` says on stderr, up to a line that begins so."""
    assert process.stderr is not None
    lines: list[str] = []
    while not lines or not lines[-1].startswith(beginning):
        lines.append(process.stderr.readline().decode("utf-8").rstrip("\n"))
        assert lines[-1], f"it ended early: {lines}"
    return lines


def test_a_real_run_is_stopped_and_killed_and_goes_on_by_its_last_line(
    run: Command, straight: Callable[..., Path], tmp_path: Path
) -> None:
    output, last = tmp_path / "it's.keras", 0
    command = "chargen train - -o 'it'\"'\"'s.keras' --resume"
    words = ["train", "-", "-o", output.name, "--resume", "--checkpoint-every", "0.05s"]
    (tmp_path / "text").write_bytes(PANGRAMS.read_bytes())
    # While it stands still two signals come together: the second one leaves at once.
    at_once = (signal.SIGSTOP, signal.SIGINT, signal.SIGTERM, signal.SIGCONT)
    for more, numbers in ((PROCESS, (signal.SIGTERM,)), ((), at_once), ((), (signal.SIGKILL,))):
        with open(tmp_path / "text") as stdin:
            process = run.start(*words, *more, stdin=stdin)
            lines_until(process, "step ")
            time.sleep(0.06)  # for a checkpoint
            for number in numbers:
                process.send_signal(number)
            _, rest = process.communicate(timeout=60)
        assert process.returncode == -(signal.SIGTERM if signal.SIGTERM in numbers else numbers[0])
        if more:
            line = rest.decode("utf-8").splitlines()[-1]
            assert line.startswith(f"stopped at step {step_of(output)}; ")
            assert line.endswith(f". Go on: {command}")
            assert names(tmp_path) == {"text", output.name, f"{output.name}.resume"}
        else:
            assert b"stopped at step" not in rest
        chargen.load(output)
        assert last < step_of(output) < STEPS
        last = step_of(output)
    for told in ("note: going on from step ", "note: this run is finished, after 800 steps"):
        ended = run.shell(f"{command} < text")
        assert (ended.status, ended.stdout) == (0, b"")
        assert told in ended.stderr
        assert ended.lines[-1].endswith("""Next: chargen generate -m 'it'"'"'s.keras'""")
    assert weights_of(output) == weights_of(straight("process"))
    assert names(tmp_path) == {"text", output.name, f"{output.name}.resume"}


@pytest.mark.parametrize("moment", ["at a step", "before the first"])
def test_a_run_on_a_terminal_is_stopped(moment: str, run: Command, tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    process = run.start(
        *("train", PANGRAMS, *PROCESS, "--steps", 10**6, "--checkpoint-every", "0s"),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(theirs)
    shown, sign = b"", b"chars/s" if moment == "at a step" else b"compiling"
    while sign not in shown:
        shown += os.read(ours, 4096)
    if moment == "at a step":
        os.write(ours, b"\x03")
    else:
        process.send_signal(signal.SIGTERM)
    with pytest.raises(OSError, match="Input/output"):
        while data := os.read(ours, 4096):
            shown += data
    os.close(ours)
    assert process.wait(60) == -(signal.SIGINT if moment == "at a step" else signal.SIGTERM)
    plain = re.sub(rb"\x1b\[[0-9;?]*[a-zA-Z]", b"", shown).decode("utf-8")
    assert "Traceback" not in plain
    assert shown.count(b"\x1b[?25h") >= shown.count(b"\x1b[?25l") > 0  # the cursor is back
    if moment != "at a step":
        assert names(tmp_path) == set()
        return
    last = plain.strip().splitlines()[-1].strip()
    assert last.startswith("stopped at step ")
    assert last.endswith(f"Go on: chargen train {PANGRAMS} --resume")
    assert 1 <= step_of(tmp_path / "chargen.keras") < 10**6
    assert names(tmp_path) == {"chargen.keras", "chargen.keras.resume"}
