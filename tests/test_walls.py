"""Who may know whom: the imports of every module, read from its source and seen at work."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from conftest import PANGRAMS

import chargen

ROOT = Path(chargen.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
NAMES = {path: path.relative_to(ROOT.parent).with_suffix("").as_posix() for path in FILES}
PUBLIC = [path for path in FILES if "\n__all__ = " in path.read_text("utf-8")]

# Each room may import the rooms of the rows above its own, and itself where it is a folder.
ORDER = (
    {"errors"},
    {"config"},
    {"vocabulary", "files", "hdf5", "container", "blas"},
    {"permutation", "reading", "features", "signs"},
    {"corpus", "figures"},
    {"records"},
    {"cells", "windows", "engine", "sampling", "archive", "ngrams", "compressors"},
    {"passes"},
    {"evaluation"},
    {"generation", "inspection"},
    {"model", "plots"},
    {"report"},
    {"training"},
    {"cli"},
)
RANK = {room: rank for rank, row in enumerate(ORDER) for room in row}
FOLDERS = {"report", "training", "cli"}
HEAVY = {"tensorflow", "keras", "h5py"}
TERMINAL = {"click", "rich"}

TELL = """
import atexit, json, sys
atexit.register(lambda: print(json.dumps(list(sys.modules)), file=sys.stderr))
"""


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def every(*files: Path) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("path", files, ids=[NAMES[path] for path in files])


def outside(*rooms: str) -> list[Path]:
    return [path for path in FILES if room_of(path) not in rooms]


def imported(path: Path) -> Iterator[str]:
    """Dotted names of all imports, lazy ones too, but for those under TYPE_CHECKING."""
    waiting: list[ast.AST] = [ast.parse(path.read_text("utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting.extend(node.orelse)
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        waiting.extend(ast.iter_child_nodes(node))


def packages(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imported(path)}


def called(path: Path) -> set[str]:
    """Names that are called or raised, as they are written."""
    tree = ast.parse(path.read_text("utf-8"))
    calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    raised = {
        ast.unparse(node.exc) for node in ast.walk(tree) if isinstance(node, ast.Raise) and node.exc
    }
    return calls | raised


def attributes(path: Path) -> set[str]:
    tree = ast.parse(path.read_text("utf-8"))
    return {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}


def loaded_by(code: str, *arguments: object, folder: Path) -> set[str]:
    """Top-level packages in sys.modules when a process with these arguments ends well."""
    words = [sys.executable, "-c", TELL + code, *map(str, arguments)]
    ended = subprocess.run(words, capture_output=True, text=True, cwd=folder, check=True)
    return {name.partition(".")[0] for name in json.loads(ended.stderr)}


def loaded_by_command(*arguments: object, folder: Path) -> set[str]:
    code = "import runpy; runpy.run_module('chargen', run_name='__main__')"
    return loaded_by(code, *arguments, folder=folder)


def test_every_room_has_its_place_in_the_order() -> None:
    assert {room_of(path) for path in FILES} == set(RANK) | {"__init__", "__main__"}


@every(*outside("training"))
def test_only_training_imports_tensorflow(path: Path) -> None:
    assert not packages(path) & HEAVY


def test_training_does_import_tensorflow() -> None:
    inside = set(FILES) - set(outside("training"))
    assert set().union(*map(packages, inside)) >= {"tensorflow", "keras"}


@every(*outside("cli"))
def test_only_the_command_line_prints_or_exits(path: Path) -> None:
    assert not packages(path) & TERMINAL
    forbidden = {"print", "sys.exit", "exit", "quit", "os._exit", "SystemExit", "input"}
    assert not {name.partition("(")[0] for name in called(path)} & forbidden
    assert not {"stdout", "print_exc"} & attributes(path)


@every(*FILES)
def test_nothing_pickles_or_evaluates_text(path: Path) -> None:
    assert not packages(path) & {"pickle", "marshal", "shelve", "dill"}
    assert not called(path) & {"eval", "exec", "compile"}


@every(*FILES)
def test_only_one_file_turns_an_error_into_a_status(path: Path) -> None:
    assert ("status" in attributes(path)) == (NAMES[path] == "chargen/cli/__init__")


@every(*outside("__init__", "__main__"))
def test_imports_run_one_way(path: Path) -> None:
    room = room_of(path)
    ours = {name.split(".")[1] for name in imported(path) if name.startswith("chargen.")}
    others = {name for name in ours if name in RANK} - ({room} & FOLDERS)
    assert {name for name in others if RANK[name] >= RANK[room]} == set()


@every(*FILES)
def test_every_module_says_what_it_is(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text("utf-8")))
    assert docstring is not None
    assert len(docstring.splitlines()[0]) > 20


@every(*PUBLIC)
def test_every_public_name_exists(path: Path) -> None:
    module = import_module(NAMES[path].removesuffix("/__init__").replace("/", "."))
    names = module.__all__
    assert [name for name in names if not hasattr(module, name)] == []
    assert len(set(names)) == len(names)


def test_every_name_of_the_package_resolves() -> None:
    expected = {"train", "load", "Model", "Vocabulary", "Evaluation", "ChargenError"}
    assert expected <= set(chargen.__all__) == set(dir(chargen))
    assert all(getattr(chargen, name) is not None for name in chargen.__all__)
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = chargen.no_such_name


@pytest.mark.parametrize(
    "arguments", [["--help"], ["train", "--help"], ["--version"]], ids=" ".join
)
def test_help_is_light(arguments: list[str], tmp_path: Path) -> None:
    loaded = loaded_by_command(*arguments, folder=tmp_path)
    assert "click" in loaded
    assert not loaded & {*HEAVY, "numpy", "rich"}


def test_reading_a_model_needs_no_tensorflow(sequence_model: Path, tmp_path: Path) -> None:
    for arguments in (["generate", "-n", "5"], ["evaluate", PANGRAMS], ["info"]):
        loaded = loaded_by_command(*arguments, "-m", sequence_model, folder=tmp_path)
        assert "numpy" in loaded
        assert not loaded & {*HEAVY, "rich"}


def test_importing_the_package_loads_no_numpy(tmp_path: Path) -> None:
    loaded = loaded_by("import chargen", folder=tmp_path)
    assert "chargen" in loaded
    assert not loaded & {*HEAVY, *TERMINAL, "numpy"}


def test_the_python_api_loads_no_tensorflow(sequence_model: Path, tmp_path: Path) -> None:
    code = "import chargen; chargen.load(sys.argv[1]).generate(length=3); chargen.train"
    loaded = loaded_by(code, sequence_model, folder=tmp_path)
    assert "numpy" in loaded
    assert not loaded & {*HEAVY, *TERMINAL}


def test_a_refused_training_loads_no_tensorflow(tmp_path: Path) -> None:
    code = """
import chargen
try:
    chargen.train(text="")
except chargen.TextError:
    print("refused")
"""
    assert not loaded_by(code, folder=tmp_path) & {*HEAVY, *TERMINAL}
