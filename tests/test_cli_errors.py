"""What a user can do wrong: each gets one line and its status, and nothing is made or changed."""

import os
import shutil
import zipfile
from pathlib import Path

import pytest
from conftest import PANGRAMS, Command, Finished

LIMIT = 10.0  # seconds: none of these may start TensorFlow, which takes several on its own

FAILED, USAGE, TEXT, MODEL = 1, 2, 3, 4


def is_refused(finished: Finished, status: int, *words: str) -> None:
    assert finished.status == status, finished.stderr
    assert finished.stdout == b""
    assert finished.stderr.startswith("chargen: ")
    assert finished.stderr.endswith("\n")
    assert len(finished.lines) == 1
    assert "Traceback" not in finished.stderr
    for word in words:
        assert word in finished.stderr
    assert finished.seconds < LIMIT


def contents(folder: Path) -> dict[str, tuple[int, bytes | None]]:
    """Everything below a folder, by name: when it was changed, and what it holds."""
    return {
        str(path.relative_to(folder)): (
            path.stat().st_mtime_ns,
            path.read_bytes() if path.is_file() else None,
        )
        for path in [folder, *folder.rglob("*")]
    }


def rezipped(source: Path, target: Path, **changes: bytes) -> None:
    """A copy of a model file with members changed or added."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        members = {name: old.read(name) for name in old.namelist()}
        for name, data in {**members, **changes}.items():
            new.writestr(name, data)


@pytest.fixture
def folder(tmp_path: Path, sequence_model: Path, byte_model: Path) -> Path:
    """Good and bad files to name on a command line."""
    files = {
        "good.txt": PANGRAMS.read_bytes()[:2000],
        "empty.txt": b"",
        "one.txt": b"x",
        "breaks.txt": b"\n\n\n",
        "latin.txt": b"first line\nsecond line\na caf\xe9 here\n",
        "snowman.txt": "The dog ☃ and the fox.".encode(),
        "cut.gz": b"\x1f\x8b\x08\x00\x00\x00",
        "empty.keras": b"",
        "text.keras": b"this is no model at all, but a text\n" * 20,
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "hollow").mkdir()
    shutil.copy(sequence_model, tmp_path / "model.keras")
    shutil.copy(byte_model, tmp_path / "bytes.keras")
    model = sequence_model.read_bytes()
    (tmp_path / "half.keras").write_bytes(model[: len(model) // 2])
    middle = len(model) // 2
    flipped = model[:middle] + bytes([model[middle] ^ 0x10]) + model[middle + 1 :]
    (tmp_path / "flipped.keras").write_bytes(flipped)
    with zipfile.ZipFile(sequence_model) as archive:
        weights = archive.read("model.weights.h5")
    other = {"model.weights.h5": weights[:-8] + bytes(8)}
    rezipped(sequence_model, tmp_path / "swapped.keras", **other)
    rezipped(sequence_model, tmp_path / "fourth.keras", extra=b"one member too many")
    rezipped(
        sequence_model, tmp_path / "keras.keras", **{"metadata.json": b'{"keras_version": ""}'}
    )
    return tmp_path


CASES = [
    # a corpus that cannot be read, or used
    ("train missing.txt", FAILED, "missing.txt", "no such file"),
    ("train good.txt missing.txt", FAILED, "missing.txt"),
    ("train 'none*.txt'", FAILED, "none*.txt", "no file matches"),
    ("train good.txt/below", FAILED, "good.txt/below"),
    ("train cut.gz", FAILED, "cut.gz", "gzip"),
    ("train empty.txt", TEXT, "empty.txt", "no text"),
    ("train -", TEXT, "standard input", "no text"),
    ("train hollow", TEXT, "hollow", "no files"),
    ("train one.txt", TEXT, "one.txt", "1 character", "at least 2"),
    ("train breaks.txt --lines", TEXT, "breaks.txt", "empty lines"),
    ("train latin.txt", TEXT, "latin.txt", "0xe9", "offset 28", "line 3", "--encoding"),
    ("train good.txt latin.txt", TEXT, "latin.txt", "offset 28"),
    ("train - -", USAGE, "'-'", "twice"),
    ("train - good.txt -", USAGE, "'-'", "twice"),
    ("train", USAGE, "CORPUS", "chargen train --help"),
    ("train good.txt --encoding nonsense", USAGE, "nonsense", "--encoding"),
    ("train good.txt --encoding base64", USAGE, "base64", "--encoding"),
    # an output that cannot be written
    ("train good.txt -o model.keras", USAGE, "model.keras", "exists", "--force"),
    ("train good.txt -o hollow", USAGE, "hollow", "exists"),
    ("train good.txt -o hollow --force", FAILED, "hollow", "folder"),
    ("train good.txt -o nowhere/new.keras", FAILED, "nowhere", "no model can be written here"),
    ("train good.txt -o good.txt/new.keras", FAILED, "good.txt", "no model can be written here"),
    ("train good.txt -o ''", FAILED, "-o/--output"),
    # options that exclude each other, or are none
    ("train good.txt --budget 1m --epochs 1", USAGE, "--budget", "--epochs"),
    ("train good.txt --budget 1m --steps 1", USAGE, "--budget", "--steps"),
    ("train good.txt --epochs 1 --steps 1", USAGE, "--epochs", "--steps"),
    ("generate -m model.keras --greedy --temperature 0.5", USAGE, "--greedy", "--temperature"),
    ("train good.txt --bogus", USAGE, "--bogus", "--help"),
    ("generate --bogus", USAGE, "--bogus"),
    ("generate good.txt", USAGE, "good.txt"),
    ("evaluate -m model.keras", USAGE, "FILE"),
    ("evaluate -m model.keras good.txt one.txt", USAGE, "one.txt"),
    ("bogus", USAGE, "bogus", "--help"),
    ("--bogus", USAGE, "--bogus"),
    ("train good.txt --cell tanh", USAGE, "tanh", "--cell", "lstm"),
    ("train good.txt --objective first", USAGE, "first", "--objective"),
    ("train good.txt --tokens word", USAGE, "word", "--tokens"),
    ("generate -m model.keras --unknown maybe", USAGE, "maybe", "--unknown"),
    # a model to start from
    ("train good.txt --init none.keras", MODEL, "none.keras"),
    ("train good.txt --init text.keras", MODEL, "text.keras"),
    ("train good.txt --init model.keras --units 99", USAGE, "units 99", "model.keras", "32"),
    ("train good.txt --init model.keras --cell gru", USAGE, "gru", "lstm"),
    ("train good.txt --init model.keras --layers 2", USAGE, "2", "--init"),
    ("train good.txt --init model.keras --embedding-dim 8", USAGE, "8", "16"),
    ("train good.txt --init model.keras -o model.keras", USAGE, "model.keras", "exists"),
    ("train good.txt --init bytes.keras", USAGE, "--init", "--tokens"),
    # a model that is none
    ("generate", MODEL, "chargen.keras", "chargen train", "-m/--model"),
    ("info -m none.keras", MODEL, "none.keras", "-m/--model"),
    ("evaluate -m none.keras good.txt", MODEL, "none.keras"),
    ("generate -m hollow", MODEL, "hollow", "folder"),
    ("generate -m empty.keras", MODEL, "empty.keras", "not a chargen model"),
    ("info -m text.keras", MODEL, "text.keras", "not a chargen model"),
    ("evaluate -m half.keras good.txt", MODEL, "half.keras"),
    ("generate -m flipped.keras", MODEL, "flipped.keras", "damaged"),
    ("info -m swapped.keras", MODEL, "swapped.keras", "checksum"),
    ("info -m fourth.keras", MODEL, "fourth.keras", "members"),
    ("info -m keras.keras", MODEL, "keras.keras", "not a chargen model"),
    # text that the model cannot read
    ("generate -m model.keras --seed café", TEXT, "'é' (U+00E9)", "character 4", "--unknown"),
    ("generate -m model.keras --seed '☃ é'", TEXT, "'☃' (U+2603)", "1 other"),
    ("generate -m model.keras --seed $'a\\xffb'", TEXT, "character 2", "never saw"),
    ("evaluate -m model.keras snowman.txt", TEXT, "'☃' (U+2603)", "character 9", "--unknown"),
    ("evaluate -m model.keras empty.txt", TEXT, "0", "at least 2"),
    ("evaluate -m model.keras one.txt", TEXT, "1", "at least 2"),
    ("evaluate -m model.keras missing.txt", FAILED, "missing.txt"),
    ("evaluate -m model.keras latin.txt", TEXT, "0xe9", "offset 28", "line 3"),
    ("evaluate -m model.keras good.txt --encoding nonsense", USAGE, "nonsense"),
    ("evaluate -m model.keras good.txt --held-out", TEXT, "not the corpus", "--held-out"),
]

OUT_OF_RANGE = {
    "train good.txt": {
        "--units": ("0", "16385", "1.5", ""),
        "--layers": ("0", "17"),
        "--embedding-dim": ("0", "16385"),
        "--dropout": ("-0.1", "0.96", "nan"),
        "--batch-size": ("0", "65537"),
        "--sequence-length": ("0", "65537"),
        "--stride": ("0", "x"),
        "--learning-rate": ("0", "11", "nan"),
        "--epochs": ("0", "-1"),
        "--steps": ("0", "1.5"),
        "--patience": ("0", "-1"),
        "--validate-every": ("0", "-1"),
        "--random-seed": ("-1", "9223372036854775808"),
        "--val-fraction": ("-0.1", "1", "nan"),
        "--budget": ("0s", "-3m", "soon", "3 weeks", "", "99999h"),
    },
    "generate -m model.keras": {
        "--length": ("-1", "x", "99999999999999999999"),
        "--temperature": ("-0.1", "101", "nan"),
        "--top-k": ("-1", "1114113", "x"),
        "--top-p": ("-0.1", "1.1", "nan"),
        "--min-p": ("-0.1", "1.1", "nan"),
        "--repetition-penalty": ("0", "101", "nan"),
        "--repetition-window": ("0", "1000001"),
        "--lines": ("-1", "x"),
        "--num-samples": ("0", "-1", "x"),
        "--random-seed": ("-1", "x"),
    },
}
RANGES = [
    (line, option, value)
    for line, options in OUT_OF_RANGE.items()
    for option, values in options.items()
    for value in values
]


@pytest.mark.parametrize(("line", "status", "words"), [(c[0], c[1], c[2:]) for c in CASES])
def test_a_mistake_is_one_line(
    line: str, status: int, words: tuple[str, ...], run: Command, folder: Path
) -> None:
    before = contents(folder)
    is_refused(run.shell(f"chargen {line}"), status, *words)
    assert contents(folder) == before


@pytest.mark.parametrize(("line", "option", "value"), RANGES)
def test_a_number_out_of_range_names_its_option(
    line: str, option: str, value: str, run: Command, folder: Path
) -> None:
    before = contents(folder)
    is_refused(run(*line.split(), f"{option}={value}"), USAGE, option)
    assert contents(folder) == before


def test_every_number_of_the_command_line_has_been_out_of_range() -> None:
    import click

    from chargen.cli import generate, train
    from chargen.cli.options import AUTO, LENGTH

    for command, tried in zip((train, generate), OUT_OF_RANGE.values(), strict=True):
        numeric = {
            f"--{max(option.opts, key=len).removeprefix('--')}"
            for option in command.command.params
            if option.type in (click.INT, click.FLOAT, AUTO, LENGTH) or option.name == "budget"
        }
        assert numeric == set(tried)


def test_a_corpus_that_cannot_be_read(run: Command) -> None:
    is_refused(run("train", "/proc/self/mem"), FAILED, "/proc/self/mem", "cannot be read")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write everywhere")
def test_a_file_or_folder_without_permission(run: Command, folder: Path) -> None:
    (folder / "good.txt").chmod(0)
    is_refused(run("train", "good.txt"), FAILED, "good.txt", "Permission denied")
    (folder / "hollow").chmod(0o500)
    is_refused(run("train", "one.txt", "-o", "hollow/new.keras"), FAILED, "hollow")


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_a_closed_stdin(command: str, run: Command, folder: Path) -> None:
    model = "-m model.keras" if command == "evaluate" else ""
    assert (folder / "model.keras").exists()
    is_refused(run.shell(f"chargen {command} {model} - <&-"), FAILED, "standard input is closed")


def test_debug_shows_the_traceback_and_the_line(run: Command, folder: Path) -> None:
    finished = run("train", "empty.txt", env={"CHARGEN_DEBUG": "1"})
    assert finished.status == TEXT
    assert "Traceback" in finished.stderr
    assert finished.lines[-1].startswith("chargen: empty.txt")
    assert run("train", "empty.txt", env={"CHARGEN_DEBUG": "0"}).lines == finished.lines[-1:]


@pytest.mark.parametrize("name", ["two\nlines", "a\rb", "red\x1b[31m", "bell\x07", "up\x9b1A"])
def test_what_came_cannot_break_the_line_or_the_terminal(name: str, run: Command) -> None:
    is_refused(run("info", "-m", name), MODEL)
    status, shown = run.on_terminal("info", "-m", name, stream="stderr")
    assert status == MODEL
    assert shown.removesuffix("\n").isprintable()
