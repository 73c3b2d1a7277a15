"""What a user can do wrong: each gets one line and its status, and nothing is made or changed.

The mistakes stand in a table, ``errors.tsv``, with the exact line that each gets. They are run in a
folder of good and bad files that ``error_table`` makes: what asks for a shell, and every tenth of
the others, as a process of its own, the rest in this one. Whatever else chargen raises has a row
too, or a reason why it has none.
"""

import ast
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from conftest import Command, Finished
from error_table import Row, listing, make_files, rows, taken

import chargen
from chargen import cli
from chargen.cli import parsing

LIMIT = 10.0  # seconds: none of these may start TensorFlow, which takes several on its own

FAILED, USAGE, TEXT, MODEL = 1, 2, 3, 4

ROWS = rows()
SHELL = re.compile(r"^(?!chargen )|[<>|&;$*]")  # what is more than words
AS_PROCESSES = [row for row in ROWS if SHELL.search(row.command)]
WORDS = [row for row in ROWS if not SHELL.search(row.command)]
AS_PROCESSES += WORDS[::10]


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


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory, trained: Callable[..., Path], byte_model: Path
) -> Iterator[Path]:
    """Good and bad files to name on a command line; this is the working folder meanwhile."""
    path = tmp_path_factory.mktemp("errors")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        patch.delenv("CHARGEN_MODEL", raising=False)
        patch.delenv("CHARGEN_DEBUG", raising=False)
        make_files(path, trained, byte_model)
        with taken(path):
            yield path


def each(chosen: list[Row]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("row", chosen, ids=[row.command for row in chosen])


@each(AS_PROCESSES)
def test_a_mistake_is_the_line_of_its_row(row: Row, folder: Path) -> None:
    before = listing(folder)
    finished = Command(folder).shell(row.command)
    is_refused(finished, row.status)
    assert row.is_line(finished.lines[0]), finished.lines[0]
    assert listing(folder) == before


@each(WORDS)
def test_a_mistake_is_the_line_of_its_row_in_this_process(
    row: Row,
    folder: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def start(*arguments: object, **options: object) -> None:
        raise AssertionError("TensorFlow is asked for")

    monkeypatch.setattr(chargen.training, "_started", start)
    before = listing(folder)
    with open(os.devnull) as nothing, pytest.raises(SystemExit) as caught:
        monkeypatch.setattr("sys.stdin", nothing)
        cli.main(shlex.split(row.command)[1:])
    written = capfd.readouterr()
    assert caught.value.code == row.status, written.err
    assert written.out == ""
    assert row.is_line(written.err.removesuffix("\n")), written.err
    assert listing(folder) == before


def test_no_row_stands_twice() -> None:
    commands = [row.command for row in ROWS]
    assert len(set(commands)) == len(commands)


# Everything that is raised has a row


ROOT = Path(chargen.__file__).parent
KINDS = {"UsageError", "TextError", "RunError", "ModelFileError"}
REASONS = {"Damaged", "Foreign", "ValueError"}  # parts of a line about a bad file
FEWEST_LETTERS = 8  # of a message that says something of its own

# Where no row can be, why; the key is a part of the message.
WITHOUT_A_ROW = {
    # The command line lets nobody come there.
    "name a corpus, or give its text": "the Python API alone",
    "resume needs the output": "the Python API alone",
    "length None never ends": "the Python API alone",
    "exists; force=True overwrites it": "the Python API alone",
    "--deterministic X: expected True or False": "the Python API alone",
    "--distance X: expected a whole number of 0 or more": "the command line says it first",
    "the text: holds X": "the command line says it first, with the name of the file",
    "a byte vocabulary holds the 256 bytes": "the Python API alone",
    "stands for no bytes": "the Python API alone: no command line holds such a surrogate",
    # What only some machines have, or lack.
    "training needs TensorFlow": "TensorFlow is installed; tests/test_training_parts.py",
    "--tensorboard needs TensorBoard": "it may be installed; tests/test_run_logs.py",
    "a picture in a file needs Matplotlib": "it is installed; tests/test_cli_plot.py",
    "cannot read this folder": "the tests may be run by root; tests/test_sources.py",
    # A disk that is full or broken, and numbers that are not finite.
    "cannot hold the encoded corpus": "a full disk; tests/test_spool.py",
    "what stood there is": "a full disk; tests/test_faults.py",
    "the trained model cannot be kept": "a full disk; tests/test_archive.py, tests/test_hdf5.py",
    "the loss stayed not finite": "a long run; tests/test_train.py",
    "training gave no finite weights": "a long run; tests/test_train.py",
    # Found only when TensorFlow runs, or in weights that another HDF5 library has written.
    "not that of its own architecture": "starts TensorFlow; tests/test_resume.py",
    "logits that are not finite": "a broken library; tests/test_cli_verify.py",
    "its weights are not HDF5": "tests/test_hdf5.py",
    "its weights have no dataset": "tests/test_hdf5.py",
    "its dataset X is X of shape": "tests/test_hdf5.py",
    "its weights have a dataset": "tests/test_hdf5.py",
    "its list of tensors is not that": "read_archive says it first; tests/test_hdf5.py",
}
PASSED_ON = "X: X"  # another error's message, with a name before it


def messages() -> Iterator[tuple[str, str]]:
    """Where an error is raised, and its message, with X for each part that is not constant."""
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call) or ast.unparse(node.func) not in KINDS:
                continue
            where = f"{path.relative_to(ROOT)}:{node.lineno}"
            yield where, shown(node.args[0])


def shown(node: ast.expr) -> str:
    """A message as it is written, with X for what is put in."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(map(shown, node.values))
    return "X"


def is_matched(message: str) -> bool:
    pattern = ".*".join(map(re.escape, message.split("X")))
    return any(re.search(pattern, row.line) for row in ROWS)


@pytest.mark.parametrize(("where", "message"), list(messages()))
def test_what_is_raised_has_a_row(where: str, message: str) -> None:
    if len(re.findall("[a-wyz]", message)) < FEWEST_LETTERS:
        assert message.startswith("X")
        return
    reasons = [reason for part, reason in WITHOUT_A_ROW.items() if part in message]
    assert is_matched(message) != bool(reasons), (where, message, reasons)


# Every command and every option


def commands(
    group: click.Group = cli.cli, words: tuple[str, ...] = ("chargen",)
) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield " ".join((*words, name)), command
        if isinstance(command, click.Group):
            yield from commands(command, (*words, name))


COMMANDS = dict(commands())


def test_every_command_and_value_says_in_our_words_what_is_wrong() -> None:
    ours = (parsing.File, parsing.Number, parsing.OneOf, parsing.WholeNumber)
    for name, command in COMMANDS.items():
        assert isinstance(command, parsing.Command), name
        for param in command.params:
            is_free = isinstance(param.type, type(click.STRING) | type(click.BOOL))
            assert is_free or isinstance(param.type, ours), (name, param.name)


@pytest.mark.parametrize("name", [name for name in COMMANDS if name.count(" ") == 1])
def test_every_command_refuses_an_option_that_it_does_not_have(name: str) -> None:
    line = f"chargen: --bogus: no such option; see {name} --help"
    assert line in [row.line for row in ROWS if row.command.startswith(f"{name} ")]


@pytest.mark.parametrize("name", [name for name in COMMANDS if name.count(" ") == 1])
def test_every_option_with_a_value_is_named_in_a_line(name: str) -> None:
    lines = [row.line for row in ROWS if row.command.startswith((name, f"{name} "))]
    below = [command for words, command in COMMANDS.items() if f"{words} ".startswith(f"{name} ")]
    unnamed = {
        tuple(param.opts)
        for command in below
        for param in command.params
        if not getattr(param, "is_flag", False)
        and not any(
            re.search(rf"(?<![\w-]){word}(?![\w-])", line)
            for line in lines
            for word in [*param.opts, param.metavar or ""]
            if word
        )
    }
    assert unnamed == set()


# What a table cannot hold


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write everywhere")
def test_a_file_or_folder_without_permission(run: Command, tmp_path: Path) -> None:
    (tmp_path / "good.txt").write_text("some text")
    (tmp_path / "good.txt").chmod(0)
    is_refused(run("train", "good.txt"), FAILED, "good.txt", "Permission denied")
    (tmp_path / "closed").mkdir(0o500)
    is_refused(run("train", "x.txt", "-o", "closed/new.keras"), FAILED, "Permission denied")


def test_a_name_that_is_too_long(run: Command) -> None:
    name = "a" * 300
    for line in (f"train x -o {name}", f"generate -m {name}", f"plot curve -m x -o {name}.png"):
        is_refused(run(*line.split()), FAILED, name, "File name too long")
    is_refused(run("train", name), FAILED, name, "no such file")


def test_debug_shows_the_traceback_and_the_line(run: Command, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").touch()
    finished = run("train", "empty.txt", env={"CHARGEN_DEBUG": "1"})
    assert finished.status == TEXT
    assert "Traceback" in finished.stderr
    assert finished.lines[-1].startswith("chargen: empty.txt")
    assert run("train", "empty.txt", env={"CHARGEN_DEBUG": "0"}).lines == finished.lines[-1:]


def test_no_file_takes_the_place_of_a_closed_stream(run: Command) -> None:
    code = """
import os
from chargen.cli import main
try:
    main(["info", "-m", "none.keras"])
finally:
    os.write(1, str(os.open("new", os.O_CREAT | os.O_WRONLY)).encode())
"""
    closed = ("bash", "-c", 'exec "$@" 2>&- <&-', "bash", sys.executable, "-c")
    finished = run(code, words=closed)
    assert (finished.status, finished.stderr) == (MODEL, "")
    assert int(finished.stdout) > 2


@pytest.mark.parametrize("name", ["two\nlines", "a\rb", "red\x1b[31m", "bell\x07", "up\x9b1A"])
def test_what_came_cannot_break_the_line_or_the_terminal(name: str, run: Command) -> None:
    is_refused(run("info", "-m", name), MODEL)
    status, shown = run.on_terminal("info", "-m", name, stream="stderr")
    assert status == MODEL
    assert shown.removesuffix("\n").isprintable()
