"""The table ``errors.tsv``, every error of every command, and the files that it names.

A row is a command line of bash, the status it ends with, and the line that it writes to stderr.
What differs between runs or machines stands there as a word in capitals: `PLACEHOLDERS`.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from conftest import PANGRAMS
from model_files import (
    CONFIG,
    METADATA,
    MISSING,
    STATE,
    TENSORS,
    WEIGHTS,
    members_of,
    packed,
    put,
    with_json,
)

from chargen.corpus import read_corpus
from chargen.files import claimed

TABLE = Path(__file__).with_name("errors.tsv")
BAR = r"\|"  # in a cell of a table in Markdown
COLUMNS = ("command line", "status", "line on stderr")

PLACEHOLDERS = {
    "PID": r"\d+",  # the number of a process
    "SECONDS": r"[\dhms.]+",  # how long a run took
    "BYTE": r"\d+",  # a place in the weights, which is up to the HDF5 library
}

TEXTS = {
    "good.txt": PANGRAMS.read_bytes()[:2000],
    "short.txt": b"The quick brown fox.\n",
    "empty.txt": b"",
    "one.txt": b"x",
    "breaks.txt": b"\n\n\n",
    "latin.txt": b"first line\nsecond line\na caf\xe9 here\n",
    "snowman.txt": "The dog ☃ and the fox, ☃ and ♞.".encode(),
    "chinese.txt": "漢字".encode(),
    "cut.gz": b"\x1f\x8b\x08\x00\x00\x00",
    "picture.svg": b"<svg/>",
    "page.html": b"<html>",
}
RUN = {  # of run.keras
    "units": 8,
    "embedding_dim": 4,
    "steps": 6,
    "batch_size": 4,
    "sequence_length": 16,
}


class Row(NamedTuple):
    """A row of the table."""

    command: str
    status: int
    line: str

    def is_line(self, line: str) -> bool:
        """Whether ``line`` is the row's own, whatever stands for a placeholder."""
        pattern = re.escape(self.line)
        for word, meaning in PLACEHOLDERS.items():
            pattern = re.sub(rf"\b{word}\b", lambda _, meaning=meaning: meaning, pattern)
        return re.fullmatch(pattern, line) is not None


def rows() -> list[Row]:
    """The table."""
    head, *lines = TABLE.read_text("utf-8").splitlines()
    if tuple(head.split("\t")) != COLUMNS:
        raise ValueError(f"{TABLE}: its first line is {head!r}")
    return [
        Row(command, int(status), line)
        for command, status, line in (line.split("\t") for line in lines)
    ]


def markdown() -> str:
    """The table for the README, folded."""
    shown = []
    for row in rows():
        cells = (f"`{row.command}`", str(row.status), f"`{row.line}`")
        shown.append(f"| {' | '.join(cell.replace('|', BAR) for cell in cells)} |")
    return "\n".join(
        [
            "<details>",
            f"<summary>The table: {len(shown)} errors</summary>",
            "",
            f"| {' | '.join(COLUMNS)} |",
            "|---|---|---|",
            *shown,
            "",
            "</details>",
        ]
    )


def make_files(folder: Path, trained: Callable[..., Path], byte_model: Path) -> None:
    """Good and bad files in ``folder``, which must be the working one: a corpus is recorded by the
    name that it was given."""
    for name, data in TEXTS.items():
        (folder / name).write_bytes(data)
    (folder / "hollow").mkdir()
    for name in ("loop.txt", "loop.keras", "state-loop.keras.resume"):
        (folder / name).symlink_to(name)
    run = trained("errors", corpus="good.txt", **RUN)
    shutil.copy(run, "run.keras")
    shutil.copy(f"{run}.resume", "run.keras.resume")
    shutil.copy(byte_model, "bytes.keras")
    _spoil_models(folder)
    _spoil_states(folder)


def _spoil_models(folder: Path) -> None:
    good = (folder / "run.keras").read_bytes()
    members = members_of(good)
    middle = len(good) // 2
    files = {
        "model": good,
        "empty": b"",
        "text": b"this is no model at all, but a text\n" * 20,
        "half": good[:middle],
        "flipped": good[:middle] + bytes([good[middle] ^ 0x10]) + good[middle + 1 :],
        "swapped": packed({**members, WEIGHTS: _with_last_bit(members[WEIGHTS])}.items()),
        "fourth": packed({**members, "extra": b"one member too many"}.items()),
        **{name: with_json(members, METADATA, change) for name, change in METADATAS.items()},
        **{name: with_json(members, CONFIG, change) for name, change in CONFIGS.items()},
    }
    plain = {**members, METADATA: b'{"keras_version": ""}', CONFIG: b'{"class_name": "Model"}'}
    files["keras"] = packed(plain.items())
    for name, data in files.items():
        (folder / f"{name}.keras").write_bytes(data)


def _with_last_bit(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def _spoil_states(folder: Path) -> None:
    state = (folder / "run.keras.resume").read_bytes()
    members = members_of(state)
    files = {
        "text": b"no state either\n" * 20,
        "half": state[: len(state) // 2],
        "swapped": packed({**members, TENSORS: _with_last_bit(members[TENSORS])}.items()),
        **{name: with_json(members, STATE, change) for name, change in STATES.items()},
    }
    for name, data in files.items():
        shutil.copy(folder / "run.keras", folder / f"state-{name}.keras")
        (folder / f"state-{name}.keras.resume").write_bytes(data)
    shutil.copy(folder / "run.keras", folder / "state-folder.keras")
    (folder / "state-folder.keras.resume").mkdir()
    shutil.copy(folder / "run.keras", folder / "state-loop.keras")


def ours(*keys_and_value: Any) -> Callable[[Any], None]:
    return put("chargen", *keys_and_value)


def _without_held_out_text(metadata: Any) -> None:
    whole = read_corpus(["good.txt"], val_fraction=0.0)
    metadata["chargen"]["training"] |= {
        "val_fraction": 0.0,
        "corpus_sha256": whole.sha256(),
        "held_out": None,
    }


def _without_line_break(metadata: Any) -> None:
    characters = metadata["chargen"]["vocabulary"]["characters"]
    characters[characters.index("\n")] = "\v"


def _shifted(metadata: Any) -> None:
    metadata["chargen"]["tensors"]["embedding"]["offset"] -= 4


METADATAS = {  # of models: what is said of each is in the table
    "whole": _without_held_out_text,
    "lineless": _without_line_break,
    "shifted": _shifted,
    "resaved": put("chargen", MISSING),
    "future": ours("format", 2),
    "units": ours("model", "units", 0),
    "entries": ours("model", "colour", "red"),
    "words": ours("vocabulary", "kind", "word"),
    "twice": ours("vocabulary", "characters", ["a", "a"]),
    "surrogate": ours("vocabulary", "characters", ["a", "\ud800"]),
    "speechless": ours("vocabulary", "characters", []),
    "length": ours("training", "steps", None),
    "lacking": ours("training", "lines", MISSING),
    "more": ours("training", "colour", "red"),
    "corpus": ours("training", "corpus", [1]),
    "hash": ours("training", "corpus_sha256", ""),
    "fraction": ours("training", "val_fraction", 1.5),
    "counts": ours("training", "characters", -1),
    "figures": ours("training", "held_out", {}),
    "skipped": ours("training", "held_out", "skipped", -1),
    "history": ours("history", [{}]),
    "unwritten": ours("history", []),
}
CONFIGS = {
    "layers": put("config", "layers", []),
    "lambda": put("config", "layers", 1, "class_name", "Lambda"),
    "other": put("config", "layers", 1, "config", "output_dim", 5),
}
STATES = {
    "future": put("format", 2),
    "beyond": put("run", "step", 99),
    "other": put("origin", "corpus_sha256", "0" * 64),
    "more": put("origin", "colour", "red"),
}


@contextlib.contextmanager
def taken(folder: Path) -> Iterator[None]:
    """A living run holds ``locked.keras``, the lock of ``stuck.keras`` is a folder, and there is a
    named pipe."""
    os.mkfifo(folder / "pipe")
    with claimed(folder / "stuck.keras"):
        [lock] = folder.glob(".stuck.keras.*.lock")
    lock.mkdir()
    with claimed(folder / "locked.keras"):
        yield


def listing(folder: Path) -> dict[str, tuple[int, ...]]:
    """Everything below a folder but itself, and whether it was changed."""
    found = {path: path.lstat() for path in folder.rglob("*")}
    return {
        str(path.relative_to(folder)): (stat.st_ino, stat.st_mode, stat.st_size, stat.st_mtime_ns)
        for path, stat in found.items()
        if not path.is_dir()
    }
