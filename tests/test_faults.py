"""Disks that fail, fill or may not be written, runs side by side, and weights that go bad."""

import contextlib
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import PANGRAMS, Command
from faults import CALLS, ERRORS, Disk
from interruptions import SMALL, TEXT, StopAfter, names, only_begin, outcome, step_of
from refusals import line_of, unprivileged

import chargen
from chargen.archive import read_archive
from chargen.errors import RunError
from chargen.files import claimed
from chargen.training.checkpoint import read_checkpoint, state_path
from chargen.training.events import Event, Note
from chargen.training.saving import Saver

OURS = {"x.keras", "x.keras.resume"}
PAIR = 2 * len(CALLS)  # calls that a model and its state come about by
OPTIONS: dict[str, Any] = {**SMALL, "steps": PAIR * len(ERRORS) + 1, "validate_every": 10**6}


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a run that nothing happens to."""
    output = tmp_path_factory.mktemp("straight") / "x.keras"
    chargen.train(output=output, **OPTIONS)
    return output


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of the same run, stopped at step 7."""
    output = tmp_path_factory.mktemp("stopped") / "x.keras"
    chargen.train(output=output, is_stopped=StopAfter(7), **OPTIONS)
    return output


def copied(output: Path, folder: Path) -> Path:
    for path in (output, state_path(output)):
        shutil.copy(path, folder)
    return folder / output.name


def contents(output: Path) -> tuple[bytes, bytes]:
    model, state = (
        path.read_bytes() if path.exists() else b"" for path in (output, state_path(output))
    )
    return model, state


def notes(events: list[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, Note)]


class Steps:
    """An ``is_stopped`` that stops nothing and calls ``act`` with the number of the step, which
    has ended, and whose checkpoint comes next."""

    def __init__(self, act: Callable[[int], None]) -> None:
        self._act = act
        self.step = 0

    def __call__(self) -> bool:
        self.step += 1
        self._act(self.step)
        return False


# Calls that fail


def test_every_call_of_a_checkpoint_may_fail(disk: Disk, straight: Path, tmp_path: Path) -> None:
    """There is a checkpoint after each step, and in each another call fails."""
    output, events, before = tmp_path / "x.keras", list[Event](), (b"", b"")
    faults = [(number, error) for error in ERRORS for number in range(PAIR)]
    at_step, last = {b"": 0}, ""

    def act(step: int) -> None:
        nonlocal before
        now = contents(output)
        if step > 1:
            check(*faults[step - 2], step - 1, now)
            events.clear()
        before = now
        disk.fail(*(faults[step - 1] if step <= len(faults) else (None,)))

    def check(number: int, error: int, step: int, now: tuple[bytes, bytes]) -> None:
        nonlocal last
        assert disk.has_failed
        assert {name for name in names(tmp_path) if not name.endswith(".lock")} <= OURS
        only_folder = number in (5, 11)  # its sync: the file stands by then
        is_new = tuple(one != other for one, other in zip(now, before, strict=True))
        assert is_new == (number >= 5, only_folder)
        path = output if number < 5 else state_path(output)
        failure = "" if only_folder else f"{path}: cannot be written: {os.strerror(error)}; "
        # One that lasts is told once.
        assert len(notes(events)) == (failure not in ("", last))
        for note in notes(events):
            assert note.startswith(failure)
            assert note.endswith("; training goes on")
        last = failure
        if now[0]:
            chargen.load(output)
        if now[1]:
            at_step.setdefault(now[1], step)
            assert step_of(output) == at_step[now[1]]

    chargen.train(
        output=output,
        checkpoint_every=0,
        is_stopped=Steps(act),
        listener=events.append,
        **OPTIONS,
    )
    assert outcome(output) == outcome(straight)


@pytest.mark.parametrize("resumed", [True, False])
@pytest.mark.parametrize("error", ERRORS)
def test_every_call_of_the_last_writes_may_fail(
    error: int, resumed: bool, disk: Disk, straight: Path, stopped: Path, tmp_path: Path
) -> None:
    archive, state = read_archive(straight), read_checkpoint(state_path(straight))
    for number in range(PAIR):
        output, events = copied(stopped, tmp_path), list[Event]()
        old = contents(output)
        saver = Saver(output, 60, events.append, may_overwrite=True, resumed=resumed)
        disk.fail(number, error)
        if number < 5:
            with pytest.raises(RunError) as caught:
                saver.save_last(archive, state)
            assert os.strerror(error) in line_of(caught, 1)
            # A state that goes with its model goes at the last moment.
            assert contents(output) == (old if resumed or number < 4 else (old[0], b""))
        else:
            saver.save_last(archive, state)
            has_state = number in (5, 11)
            assert len(notes(events)) == (not has_state)
            model, kept = contents(output)
            assert read_archive(output).tensors.keys() == archive.tensors.keys()
            assert model == straight.read_bytes()
            if has_state:
                assert outcome(output) == outcome(straight)
            else:
                assert kept == (old[1] if resumed else b"")
        assert disk.has_failed
        assert names(tmp_path) <= OURS


def test_a_run_whose_last_writes_fail_can_be_finished(
    disk: Disk, straight: Path, stopped: Path, tmp_path: Path
) -> None:
    output = copied(stopped, tmp_path)
    before = contents(output)
    disk.fail(0)
    with pytest.raises(RunError) as caught:
        chargen.train(text=TEXT, output=output, resume=True)
    assert "No space left on device" in line_of(caught, 1)
    assert contents(output) == before
    disk.fail(6)
    events: list[Event] = []
    model = chargen.train(text=TEXT, output=output, resume=True, listener=events.append)
    assert "only --resume lacks it" in notes(events)[-1]
    assert contents(output) == (straight.read_bytes(), before[1])
    assert model.training["completed"]
    disk.fail(None)
    chargen.train(text=TEXT, output=output, resume=True)
    assert outcome(output) == outcome(straight)
    assert names(tmp_path) == OURS


# Disks that are full, and folders that may not be written


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A file system in memory at ``folder``, which is made."""
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", options, "chargen-test", str(folder)]
    try:
        refused = subprocess.run(words, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount here")
    if refused.returncode:
        pytest.skip(f"no file system can be mounted here: {refused.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """A file that takes all the room that is left."""
    path = folder / "filler"
    with pytest.raises(OSError, match="No space left"), open(path, "wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return path


def test_a_disk_that_fills_costs_checkpoints_and_no_more(straight: Path, tmp_path: Path) -> None:
    with mounted(tmp_path / "small", "size=200k") as folder:
        output, events = folder / "x.keras", list[Event]()
        kept, fillers = [], []

        def act(step: int) -> None:
            if step in (5, 11):
                fillers.append(fill(folder))
                kept.append(contents(output))
            elif step in (9, 13):
                assert contents(output) == kept[-1]
                assert len(notes(events)) == len(kept)  # once while it lasts
                assert "No space left on device" in notes(events)[-1]
                assert step_of(output) == step - (5 if step == 9 else 3)
                chargen.load(output)
                fillers[-1].unlink()

        options = {**OPTIONS, "checkpoint_every": 0, "listener": events.append}
        chargen.train(output=output, is_stopped=Steps(act), **options)
        assert len(notes(events)) == 2
        assert outcome(output) == outcome(straight)
        assert names(folder) == OURS


def test_a_disk_that_is_full_refuses_in_one_line(straight: Path, tmp_path: Path) -> None:
    with mounted(tmp_path / "small", "size=100k") as folder:
        output = copied(straight, folder)
        before = contents(output)
        fill(folder)
        for options in ({"force": True, **OPTIONS}, {"resume": True, "text": TEXT, "steps": 50}):
            with pytest.raises(RunError) as caught:
                chargen.train(output=output, **options)
            assert "No space left on device" in line_of(caught, 1)
            assert "-o/--output" in str(caught.value)
        assert contents(output) == before
        assert names(folder) == {*OURS, "filler"}
    # Where there is room for the corpus and not for what Keras writes; HDF5 would say much.
    with mounted(tmp_path / "smaller", "size=32k") as folder, pytest.raises(RunError) as caught:
        chargen.train(output=folder / "x.keras", **OPTIONS)
    assert line_of(caught, 1).startswith(f"{folder}/x.keras: cannot be written: No space left")
    with mounted(tmp_path / "fixed", "ro") as folder, pytest.raises(RunError) as caught:
        chargen.train(output=folder / "x.keras", **OPTIONS)
    assert "Read-only file system" in line_of(caught, 1)


def test_a_folder_that_becomes_read_only_costs_checkpoints_and_no_more(
    straight: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    output, events = folder / "x.keras", list[Event]()
    with contextlib.ExitStack() as rights:

        def act(step: int) -> None:
            if step == 3:
                folder.chmod(0o555)
                rights.enter_context(unprivileged())
            elif step == 5:
                rights.close()
                folder.chmod(0o755)
                assert [note.count("Permission denied") for note in notes(events)] == [1]
                assert step_of(output) == 2

        chargen.train(
            output=output,
            checkpoint_every=0,
            is_stopped=Steps(act),
            listener=events.append,
            **OPTIONS,
        )
    assert outcome(output) == outcome(straight)
    folder.chmod(0o555)
    with unprivileged(), pytest.raises(RunError) as caught:
        chargen.train(output=output, force=True, **OPTIONS)
    assert "Permission denied" in line_of(caught, 1)
    folder.chmod(0o755)


def test_a_real_run_meets_a_limit_and_another_run(run: Command, tmp_path: Path) -> None:
    endless = ("--cell", "rnn", "--units", 8, "--steps", 10**6, "--validate-every", 50)
    refused = run.shell(f"ulimit -f 1; chargen train {PANGRAMS}")
    assert (refused.status, len(refused.lines)) == (1, 1)
    assert "File too large" in refused.stderr
    assert names(tmp_path) == set()
    process = run.start("train", PANGRAMS, *endless, "--checkpoint-every", "0.1s", "-o", "x.keras")
    assert process.stderr is not None
    state = state_path(tmp_path / "x.keras")
    while not state.exists():
        assert process.stderr.readline()
    for force in ((), ("--force",), ("--resume",)):
        second = run("train", PANGRAMS, *endless, "-o", "x.keras", *force)
        assert (second.status, len(second.lines)) == (1 if force else 2, 1)
        assert (f"another run is writing it (process {process.pid})" in second.stderr) == bool(
            force
        )
    limits = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (4096, limits[1]))
    while b"File too large" not in (line := process.stderr.readline()):
        assert line
    assert line.endswith(b"; training goes on\n")
    step = step_of(tmp_path / "x.keras")
    chargen.load(tmp_path / "x.keras")
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, limits)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT
    assert step_of(tmp_path / "x.keras") > step
    assert names(tmp_path) == OURS


# What a killed process leaves

KILLED = """
import os, signal, sys
from chargen.files import claimed, scratch_folder, write_atomically
from chargen.training.checkpoint import state_path
output = sys.argv[1]
os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)
with claimed(output, state_path(output)):
    if sys.argv[2] == "scratch":
        with scratch_folder(output, 99) as folder:
            (folder / "weights").write_bytes(b"some")
            os.fsync(0)
    write_atomically(output if sys.argv[2] == "model" else state_path(output), bytes(99))
"""


@pytest.mark.parametrize("amid", ["model", "state", "scratch"])
def test_the_next_run_clears_what_a_killed_one_left(
    amid: str, stopped: Path, tmp_path: Path
) -> None:
    output = copied(stopped, tmp_path)
    others = {"other.keras", ".x.keras.tmp", ".other.keras.0.tmp", "x.keras.tmp"}
    for name in others:
        (tmp_path / name).touch()
    before = contents(output)
    ended = subprocess.run([sys.executable, "-c", KILLED, str(output), amid], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert contents(output) == before
    left = names(tmp_path) - OURS - others
    assert len(left) == 2  # and the lock
    assert all(name.startswith(".x.keras.") for name in left)
    only_begin(output=output, resume=True, text=TEXT)
    assert names(tmp_path) == OURS | others
    assert contents(output) == before


# Runs side by side

HOLDER = """
import sys
from chargen.files import claimed
with claimed(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_an_output_is_written_by_one_run_at_a_time(stopped: Path, tmp_path: Path) -> None:
    output = copied(stopped, tmp_path)
    before = contents(output)
    link = tmp_path / "link.keras"
    link.symlink_to(output)
    words = [sys.executable, "-c", HOLDER, str(output)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(words, **pipes) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        for path, how in ((output, "resume"), (output, "force"), (link, "force")):
            with pytest.raises(RunError) as caught:
                chargen.train(text=TEXT, output=path, **{how: True})
            assert f"another run is writing it (process {holder.pid})" in line_of(caught, 1)
        only_begin(text=TEXT, output=tmp_path / "y.keras")
        holder.kill()
        holder.wait()
        assert contents(output) == before
        only_begin(text=TEXT, output=output, resume=True)
    with claimed(output), pytest.raises(RunError) as caught:
        chargen.train(text=TEXT, output=output, resume=True)
    assert f"process {os.getpid()}" in line_of(caught, 1)
    only_begin(text=TEXT, output=output, resume=True)
    assert names(tmp_path) == {*OURS, "link.keras"}


# Weights that are not finite


@pytest.fixture
def spoilt(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Gives all weights of the network that is trained a value."""
    from chargen.training.backend import ensure_backend

    ensure_backend()
    from chargen.training import trainer
    from chargen.training.network import named_variables

    networks: list[Any] = []
    compiled = trainer.compiled

    def kept(network: Any, *arguments: Any) -> Any:
        networks.append(network)
        return compiled(network, *arguments)

    def spoil(value: float) -> None:
        for variable in named_variables(networks[-1]).values():
            variable.assign(np.full(variable.shape, value, np.float32))

    monkeypatch.setattr(trainer, "compiled", kept)
    return spoil


SHORT: dict[str, Any] = {**SMALL, "steps": 20, "validate_every": 5, "checkpoint_every": 0}


def trained(output: Path, act: Callable[[int], bool], **options: Any) -> list[str]:
    """The notes of a run that asks ``act``, by the number of the question, whether it is stopped.

    After each step what stands at ``output`` must be readable, and no reader takes a number that
    is not finite.
    """
    events, asked = list[Event](), 0

    def is_stopped() -> bool:
        nonlocal asked
        asked += 1
        if output.exists():
            chargen.load(output)
            read_checkpoint(state_path(output))
        return act(asked)

    try:
        chargen.train(output=output, is_stopped=is_stopped, listener=events.append, **options)
    except RunError as error:
        events.append(Note(str(error)))
    return notes(events)


def test_weights_that_go_bad_send_a_run_back_and_are_never_saved(
    spoilt: Callable[[float], None], tmp_path: Path
) -> None:
    output = tmp_path / "x.keras"
    # At step 7; from 5 on again, at the validation of 10; from 5 on again, at 7, and stopped.
    bad = {7: np.nan, 12: 1e20, 14: np.inf}

    def act(asked: int) -> bool:
        if asked in bad:
            spoilt(bad[asked])
        return asked == 14

    told = trained(output, act, **SHORT)
    again = ": back to step 5 with half the learning rate"
    assert told == [f"the loss is no longer finite at step {step}{again}" for step in (8, 10)]
    state, model = read_checkpoint(state_path(output)), chargen.load(output)
    assert (state.run.step, state.run.halvings, model.training["best_step"]) == (5, 2, 5)
    assert trained(output, lambda _: False, resume=True, text=TEXT) == [
        "going on from step 5 of 20"
    ]
    history = chargen.load(output).history
    assert [point["step"] for point in history] == [5, 10, 15, 20]
    peak, cosine = state.training.learning_rate, 0.5 * (1 + np.cos(np.pi * (10 / 21 - 0.02) / 0.98))
    assert history[1]["learning_rate"] == pytest.approx(peak / 4 * cosine, rel=1e-4)
    assert chargen.load(output).training["completed"]


def test_weights_that_are_bad_when_a_run_is_stopped_early_leave_those_of_its_start(
    spoilt: Callable[[float], None], tmp_path: Path
) -> None:
    output = tmp_path / "x.keras"

    def act(asked: int) -> bool:
        if asked == 3:
            spoilt(np.nan)
        return asked == 3

    assert trained(output, act, **SHORT) == []
    assert step_of(output) == 0
    assert read_archive(output).history[-1]["step"] == 0
    only_begin(output=output, resume=True, text=TEXT)


def test_a_run_that_goes_bad_again_and_again_ends_with_its_best_weights(
    spoilt: Callable[[float], None], tmp_path: Path
) -> None:
    output = tmp_path / "x.keras"

    def act(asked: int) -> bool:
        if asked >= 7:
            spoilt(np.nan)
        return False

    told = trained(output, act, **SHORT)
    assert [note.count("half the learning rate") for note in told] == [1, 1, 1, 0, 0]
    assert "halved 3 times: training ends here" in told[3]
    assert told[4].startswith(f"the loss stayed not finite; {output} keeps the best weights, of")
    assert chargen.load(output).training["best_step"] == 5
    state = read_checkpoint(state_path(output))
    assert (state.run.step, state.run.halvings, state.run.is_over) == (5, 3, False)
    trained(output, lambda _: False, resume=True, text=TEXT)  # where it was but bad luck
    assert chargen.load(output).training["completed"]


def test_a_run_without_any_good_weights_leaves_nothing(
    spoilt: Callable[[float], None], tmp_path: Path
) -> None:
    def act(_: int) -> bool:
        spoilt(np.inf)
        return False

    told = trained(tmp_path / "x.keras", act, **SHORT)
    assert told[-1] == "training gave no finite weights; try a lower --learning-rate"
    assert names(tmp_path) == set()
