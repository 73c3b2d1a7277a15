"""A long test of what a training run survives: ``make soak``.

    python tests/soak.py [--stops N] [--kills N] [--no-faults]

Real processes are stopped by Ctrl-C at random moments, in one mode after the other, and resumed
until they are done; one run is killed by SIGKILL at random moments, from its start on and amid its
writes, and resumed, over and over; and each call that brings a file to the disk fails once. What
comes out must be equal in bytes to runs that nothing happened to. Ends with 1 where it is not.
"""

from __future__ import annotations

import argparse
import itertools
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import CORPORA, PANGRAMS, Command
from faults import ERRORS, Disk
from interruptions import SMALL, names, outcome, step_of

import chargen
from chargen.archive import read_archive
from chargen.errors import ChargenError
from chargen.training.checkpoint import state_path

FABLES, PLACES = CORPORA / "fables.txt", CORPORA / "places.txt"
MODES: dict[str, tuple[Path, str]] = {
    "lstm": (PANGRAMS, "--cell lstm --units 32 --batch-size 8 --steps 500"),
    "gru, two layers, dropout, two shards": (
        FABLES,
        "--cell gru --layers 2 --dropout 0.3 --units 16 --batch-size 32 --steps 400",
    ),
    "rnn, lines, patience": (
        PLACES,
        "--cell rnn --lines --units 16 --steps 2000 --learning-rate 0.03 --patience 6",
    ),
    "lstm, bfloat16": (
        FABLES,
        "--units 512 --precision bfloat16 --batch-size 16 --steps 24",
    ),
    "rnn, last character": (
        PANGRAMS,
        "--cell rnn --objective last --sequence-length 12 --units 16 --steps 700",
    ),
    "gru, bytes, nothing held out": (
        PLACES,
        "--cell gru --tokens byte --val-fraction 0 --units 16 --epochs 8",
    ),
    "lstm, deterministic": (
        PANGRAMS,
        "--cell lstm --deterministic --dropout 0.2 --units 16 --batch-size 8 --steps 500",
    ),
}
KILLED = (
    PANGRAMS,
    "--cell lstm --units 16 --embedding-dim 8 --batch-size 4 --steps 2500",
)
OUTPUT = "chargen.keras"
LOCK_OR_LITTER = re.compile(r"\..*\.(lock|tmp)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--stops", type=int, default=20, metavar="N")
    parser.add_argument("--kills", type=int, default=100, metavar="N")
    parser.add_argument("--faults", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--random-seed", type=int, default=0, metavar="N")
    options = parser.parse_args()
    draw = random.Random(options.random_seed)
    parts = [stops(options.stops, draw), kills(options.kills, draw)]
    if options.faults:
        parts.append(faults())
    has_failed = False
    for row in itertools.chain(*parts):
        has_failed |= bool(row[-1])
        print(f"{row[0]:<46} {row[1]:>10}   {row[2]:<28} {row[-1] or 'ok'}", flush=True)
    sys.exit(has_failed)


Row = tuple[str, str, str, str]  # what was done, how often, what came of it, what went wrong


def result(output: Path) -> tuple[Any, ...]:
    """What must be equal, however often a run was stopped."""
    archive = read_archive(output)
    record = {name: value for name, value in archive.training.items() if name != "corpus"}
    return archive.members["model.weights.h5"], archive.history, record, archive.vocabulary


def stops(count: int, draw: random.Random) -> Iterator[Row]:
    """Stop runs of every mode by SIGINT at random moments, ``count`` in all, and resume them."""
    done = 0
    for number, (mode, words) in enumerate(MODES.items()):
        share = (count - done) // (len(MODES) - number)
        if not share:
            continue
        with tempfile.TemporaryDirectory() as folder:
            straight = Running(Path(folder, "straight"), words)
            seconds = straight.seconds_of_steps()
            resumed = Running(Path(folder, "resumed"), words)
            steps, failure = [], ""
            while not failure and len(steps) < share:
                status = resumed.stopped_after(draw.uniform(0, 0.8 * seconds / share))
                if status == 0:  # it was done before
                    shutil.rmtree(resumed.folder)
                    resumed = Running(Path(folder, "resumed"), words)
                elif status != -signal.SIGINT:
                    failure = f"ended with {status}"
                else:
                    steps.append(step_of(resumed.output))
            failure = failure or resumed.to_end()
            if not failure and result(resumed.output) != result(straight.output):
                failure = "not the same result"
            done += len(steps)
            at = f"at steps {', '.join(map(str, steps))}"
            yield f"stopped: {mode}", f"{len(steps)}/{share}", at, failure


class Running:
    """A run in a folder of its own, started again and again."""

    def __init__(self, folder: Path, words: tuple[Path, str]) -> None:
        folder.mkdir()
        self.folder, self.output = folder, folder / OUTPUT
        self._command = Command(folder)
        self._words = ("train", words[0], *words[1].split(), "--resume", "--checkpoint-every")

    def start(self, checkpoint_every: str = "0.3s") -> subprocess.Popen[bytes]:
        return self._command.start(*self._words, checkpoint_every, stdout=subprocess.DEVNULL)

    def has_written(self, process: subprocess.Popen[bytes], since: int) -> bool:
        """Wait for a new state, or the end of ``process``."""
        while process.poll() is None:
            state = state_path(self.output)
            if state.exists() and state.stat().st_mtime_ns > since:
                return True
            time.sleep(0.002)
        return False

    def seconds_of_steps(self) -> float:
        """Run to the end, and how long that took from the first checkpoint on."""
        process = self.start("0.05s")
        began = time.monotonic()
        if self.has_written(process, 0):
            began = time.monotonic()
        _, told = process.communicate()
        if process.returncode:
            raise SystemExit(f"a run that nothing happens to failed: {told.decode()}")
        return time.monotonic() - began

    def stopped_after(self, seconds: float) -> int:
        """The status of a run that gets SIGINT so long after its first checkpoint."""
        state = state_path(self.output)
        before = state.stat().st_mtime_ns if state.exists() else 0
        process = self.start("0.05s")
        if self.has_written(process, before):
            time.sleep(seconds)
            process.send_signal(signal.SIGINT)
        process.communicate()
        return process.returncode

    def to_end(self) -> str:
        """What went wrong on the way to the end."""
        process = self.start()
        _, told = process.communicate()
        if process.returncode:
            return f"ended with {process.returncode}: {told.decode().splitlines()[-1]}"
        if names(self.folder) != {OUTPUT, f"{OUTPUT}.resume"}:
            return f"left {names(self.folder)}"
        return ""


def kills(count: int, draw: random.Random) -> Iterator[Row]:
    """Kill runs ``count`` times; each goes on until it is done, and then another begins."""
    if not count:
        return
    survived, finished, failure, moments = 0, 0, "", dict.fromkeys(("start", "write", "steps"), 0)
    with tempfile.TemporaryDirectory() as folder:
        straight = Running(Path(folder, "straight"), KILLED)
        straight.seconds_of_steps()
        while not failure and survived < count:
            run = Running(Path(folder, "killed"), KILLED)
            step, litter = 0, set[str]()
            while not failure:
                moment = draw.choices(list(moments), (2, 3, 5))[0] if survived < count else ""
                killed, litter, failure = kill(run, moment, litter, draw)
                if not killed:
                    break
                survived += 1
                moments[moment] += 1
                step, failure = checked(run, step, failure)
                if survived % 10 == 0:
                    print(f"  {survived} kills, at step {step}", file=sys.stderr, flush=True)
            failure = failure or run.to_end()
            if not failure and result(run.output) != result(straight.output):
                failure = "not the same result"
            finished += not failure
            shutil.rmtree(run.folder)
    survived -= bool(failure)
    amid = ", ".join(f"{number} at {moment}" for moment, number in moments.items())
    yield f"killed: {finished} runs, {amid}", f"{survived}/{count}", "nothing lost", failure


def kill(
    run: Running, moment: str, litter: set[str], draw: random.Random
) -> tuple[bool, set[str], str]:
    """Start the run and kill it at ``moment`` ("": never): whether it was, what it left beside its
    files, and what went wrong."""
    process, failure = run.start(), ""
    assert process.stderr is not None
    if moment == "start":
        time.sleep(draw.uniform(0, 6))
    elif process.stderr.readline():  # it has cleared what the one before it left
        # The lock bears one name, and the new process holds it.
        stays = {name for name in litter & names(run.folder) if not name.endswith(".lock")}
        if stays:
            failure = f"litter stays: {stays}"
        while (line := process.stderr.readline()) and not line.startswith(b"step "):
            pass
        patience = time.monotonic() + draw.uniform(0, 1.5)
        while moment and process.poll() is None and time.monotonic() < patience:
            if moment == "write" and any(name.endswith(".tmp") for name in names(run.folder)):
                break
            time.sleep(0.0005)
    if moment:
        process.kill()
    _, told = process.communicate()
    if process.returncode == 0:
        return False, set(), failure
    if process.returncode != -signal.SIGKILL:
        failure = f"ended with {process.returncode}: {told.decode().splitlines()[-1]}"
    return True, {name for name in names(run.folder) if LOCK_OR_LITTER.fullmatch(name)}, failure


def checked(run: Running, before: int, failure: str) -> tuple[int, str]:
    """The step that a killed run stands at, and what is wrong with its files."""
    step = before
    try:
        if run.output.exists():
            chargen.load(run.output).generate(length=5)
        if state_path(run.output).exists():
            step = step_of(run.output)
    except ChargenError as error:
        return step, str(error)
    odd = {name for name in names(run.folder) if not LOCK_OR_LITTER.fullmatch(name)}
    if odd - {OUTPUT, f"{OUTPUT}.resume"}:
        return step, f"left {odd}"
    if step < before or (before and not run.output.exists()):
        return step, f"it stood at step {before}, and now at {step}"
    return step, failure


def faults() -> Iterator[Row]:
    """Let each call that brings a file to the disk fail once, in a run of its own."""
    options: dict[str, Any] = {**SMALL, "steps": 4, "validate_every": 3, "checkpoint_every": 0}
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        straight = Path(folder, "straight.keras")
        disk = Disk(patch)
        disk.fail(None)
        chargen.train(output=straight, **options)
        wanted, calls = outcome(straight), len(disk.calls)
        ended, failure = 0, ""
        for number, error in zip(range(calls), itertools.cycle(ERRORS), strict=False):
            output = Path(folder, f"{number}.keras")
            failure = failure or after_fault(disk, output, number, error, options, wanted)
            ended += not failure
        yield "a call to the disk failed, each in turn", f"{ended}/{calls}", "old or new", failure


def after_fault(
    disk: Disk, output: Path, number: int, error: int, options: dict[str, Any], wanted: Any
) -> str:
    """What went wrong in a run whose call ``number`` fails, or in the one that goes on from it."""
    disk.fail(number, error)
    try:
        chargen.train(output=output, **options)
    except ChargenError as refused:
        if len(str(refused).splitlines()) != 1:
            return f"call {number}: {refused}"
    if not disk.has_failed:
        return f"call {number} never came"
    disk.fail(None)
    try:
        if output.exists():
            chargen.load(output)
        if state_path(output).exists():
            step_of(output)
        chargen.train(output=output, resume=True, **options)
    except ChargenError as refused:
        return f"call {number}: {refused}"
    left = {name for name in names(output.parent) if LOCK_OR_LITTER.fullmatch(name)}
    return f"call {number}: left {left}" if left else compared(outcome(output), wanted, number)


def compared(found: dict[str, Any], wanted: dict[str, Any], number: int) -> str:
    other = [name for name in wanted if found[name] != wanted[name]]
    return f"call {number}: another {', '.join(other)}" if other else ""


if __name__ == "__main__":
    main()
