"""The real command in a process of its own, and a few small models, each trained once a session."""

import contextlib
import fcntl
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

# Two workers share the processors: threads of OpenBLAS that wait for one another would burn them.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

CORPORA = Path(__file__).parent.parent / "corpora"
PANGRAMS = CORPORA / "pangrams.txt"
GREEK = "αβγδε ζηθικ 😀 λμνξο πρστυ\n" * 40
MODULE = (sys.executable, "-m", "chargen")
SCRIPT = (str(Path(sys.executable).parent / "chargen"),)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in a background job of a shell
    signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass(frozen=True)
class Finished:
    """A process that ended. ``status`` is negative where a signal ended it."""

    status: int
    stdout: bytes
    stderr: str
    seconds: float

    @property
    def text(self) -> str:
        return self.stdout.decode("utf-8")

    @property
    def lines(self) -> list[str]:
        return self.stderr.splitlines()


class Command:
    """``chargen`` as a process in ``folder``, by ``python -m`` or by its console script."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(
        self,
        *arguments: Any,
        stdin: bytes = b"",
        env: dict[str, str] | None = None,
        words: tuple[str, ...] = MODULE,
    ) -> Finished:
        began = time.monotonic()
        ended = subprocess.run(
            [*words, *self._words(arguments)],
            input=stdin,
            capture_output=True,
            cwd=self.folder,
            env=self._environment(env),
            timeout=120,
            check=False,
        )
        took = time.monotonic() - began
        return Finished(ended.returncode, ended.stdout, ended.stderr.decode("utf-8"), took)

    def start(self, *arguments: Any, **changes: Any) -> subprocess.Popen[bytes]:
        """The process while it runs, its stdout and stderr in pipes."""
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(
            [*MODULE, *self._words(arguments)],
            cwd=self.folder,
            env=self._environment(None),
            **{"stdin": subprocess.DEVNULL, **pipes, **changes},
        )

    def on_terminal(self, *arguments: Any, stream: str) -> tuple[int, str]:
        """The status, and what a terminal in the place of ``stream`` is sent."""
        ours, theirs = pty.openpty()
        process = self.start(*arguments, **{stream: theirs})
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # the other end is closed
            while data := os.read(ours, 4096):
                shown += data
        os.close(ours)
        process.communicate(timeout=60)
        return process.returncode, shown.decode("utf-8").replace("\r\n", "\n")

    def shell(self, line: str) -> Finished:
        """A line of bash; a pipe in it ends with the status of the first part that failed."""
        return self(line, words=("bash", "-o", "pipefail", "-c"))

    @staticmethod
    def _words(arguments: tuple[Any, ...]) -> list[Any]:
        return [word if isinstance(word, bytes) else str(word) for word in arguments]

    @staticmethod
    def _environment(changes: dict[str, str] | None) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("CHARGEN")}
        path = f"{Path(SCRIPT[0]).parent}:{kept['PATH']}"
        return {**kept, "PATH": path, "TERM": "xterm", **(changes or {})}


@pytest.fixture
def run(tmp_path: Path) -> Command:
    """Runs ``chargen`` in a folder of the test's own."""
    return Command(tmp_path)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Trains a model, unless this worker or another already has, and gives its path."""
    base = tmp_path_factory.getbasetemp()
    folder = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def train(name: str, **options: Any) -> Path:
        path = folder / f"{name}.keras"
        with open(folder / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                import chargen

                chargen.train(output=path, **options)
        return path

    return train


SEQUENCE = {
    "cell": "lstm",
    "units": 32,
    "embedding_dim": 16,
    "learning_rate": 0.0123456789,
    "steps": 100,
    "random_seed": 1,
}
WINDOWED = {
    "cell": "rnn",
    "units": 16,
    "embedding_dim": 8,
    "objective": "last",
    "sequence_length": 10,
    "batch_size": 32,
    "steps": 60,
}


@pytest.fixture(scope="session")
def sequence_model(trained: Callable[..., Path]) -> Path:
    """An LSTM that carries its state, of ``pangrams.txt``."""
    return trained("sequence", corpus=PANGRAMS, **SEQUENCE)


@pytest.fixture(scope="session")
def windowed_model(trained: Callable[..., Path]) -> Path:
    """A SimpleRNN that rolls a window of 10 characters, of ``pangrams.txt``."""
    return trained("windowed", corpus=PANGRAMS, **WINDOWED)


@pytest.fixture(scope="session")
def byte_model(trained: Callable[..., Path]) -> Path:
    """A GRU on the bytes of Greek text."""
    enough = {"steps": 150, "batch_size": 8, "learning_rate": 0.03}  # to write whole characters
    return trained("bytes", text=GREEK, tokens="byte", cell="gru", units=24, **enough)


@pytest.fixture(scope="session")
def greek_model(trained: Callable[..., Path]) -> Path:
    """A SimpleRNN on the characters of the same text."""
    return trained("greek", text=GREEK, cell="rnn", units=16, steps=30)


@pytest.fixture(scope="session")
def lines_model(trained: Callable[..., Path]) -> Path:
    """A GRU on the lines of ``places.txt``."""
    places = CORPORA / "places.txt"
    return trained("lines", corpus=places, lines=True, cell="gru", units=32, steps=60)
