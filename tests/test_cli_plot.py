"""``chargen plot`` as a process, in files and in the terminal, and the terminal's own pictures."""

import inspect
import math
import re
import shlex
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from conftest import GREEK, PANGRAMS, Command
from rich.cells import cell_len
from test_cli import good
from test_cli_errors import FAILED, MODEL, TEXT, USAGE, is_refused
from test_walls import loaded_by_command

import chargen
from chargen import plots
from chargen.cli import drawings
from chargen.cli.canvas import Curve, Row, bars_over_text, chart, scatter
from chargen.cli.plot import command
from chargen.evaluation import surprisal_bits
from chargen.features import text_features
from chargen.inspection import activations, find_units, gradient_norms

TEXT_FILE = ("--text", PANGRAMS)
KINDS: dict[str, tuple[Any, ...]] = {
    "curve": (),
    "surprisal": (*TEXT_FILE, "-n", 900),
    "unit": ("--unit", 3, *TEXT_FILE, "-n", 90),
    "units": (*TEXT_FILE, "-n", 800),
    "embedding": (),
    "memory": (*TEXT_FILE, "-n", 300, "--distance", 20),
}
STYLE = re.compile("\x1b\\[[0-9;]*m")

every_kind = pytest.mark.parametrize("kind", KINDS)


def plot(run: Command, kind: str, model: Path, *options: Any, **changes: Any) -> str:
    return good(run("plot", kind, "-m", model, *KINDS[kind], *options, **changes)).decode("utf-8")


# files


@every_kind
def test_every_kind_is_written_as_png_and_svg(
    kind: str, run: Command, sequence_model: Path, tmp_path: Path
) -> None:
    name = "kind.PNG" if kind in ("curve", "unit") else "kind.svg"
    assert plot(run, kind, sequence_model, "-o", name) == ""
    data = (tmp_path / name).read_bytes()
    assert data.startswith(b"\x89PNG") or ElementTree.fromstring(data).tag.endswith("svg")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_picture_that_exists_is_overwritten_only_with_force(
    run: Command, sequence_model: Path, tmp_path: Path
) -> None:
    path = tmp_path / "curve.svg"
    path.write_text("mine")
    same = ("plot", "curve", "-m", sequence_model, "-o", "curve.svg")
    is_refused(run(*same), USAGE, "curve.svg", "exists", "--force")
    assert path.read_text() == "mine"
    assert good(run(*same, "--force")) == b""
    assert path.read_bytes().startswith(b"<?xml")


@pytest.mark.parametrize("name", ["curve.pdf", "curve", "png", ".svg"])
def test_another_suffix_is_refused(
    name: str, run: Command, sequence_model: Path, tmp_path: Path
) -> None:
    refused = run("plot", "curve", "-m", sequence_model, "-o", name)
    is_refused(refused, USAGE, name, ".png", ".svg", "-o/--output")
    assert not list(tmp_path.iterdir())


def test_no_window_is_opened_and_none_must_be_there(
    run: Command, sequence_model: Path, tmp_path: Path
) -> None:
    same = ("plot", "curve", "-m", sequence_model, "-o")
    assert good(run(*same, "one.svg")) == b""
    assert good(run(*same, "two.svg", env={"MPLBACKEND": "nonsense"})) == b""
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()


def test_a_place_where_nothing_can_be_written(run: Command, sequence_model: Path) -> None:
    refused = run("plot", "curve", "-m", sequence_model, "-o", "nowhere/curve.svg")
    is_refused(refused, FAILED, "nowhere/curve.svg")


def test_without_matplotlib_a_line_says_what_to_install_and_the_terminal_still_draws(
    run: Command, sequence_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "absent").mkdir()
    (tmp_path / "absent" / "matplotlib.py").write_text("raise ImportError('no such thing')")
    absent = {"env": {"PYTHONPATH": f"{tmp_path}/absent:{Path(chargen.__file__).parent.parent}"}}
    refused = run("plot", "curve", "-m", sequence_model, "-o", "c.svg", **absent)
    is_refused(refused, FAILED, "Matplotlib", "pip install 'chargen[plot]'")
    assert plot(run, "curve", sequence_model, **absent) == plot(run, "curve", sequence_model)


def test_the_terminal_needs_neither_matplotlib_nor_tensorflow(
    sequence_model: Path, tmp_path: Path
) -> None:
    arguments = ("plot", "memory", "-m", sequence_model, *KINDS["memory"])
    loaded = loaded_by_command(*arguments, folder=tmp_path)
    assert "numpy" in loaded
    assert not loaded & {"matplotlib", "tensorflow", "keras"}
    in_file = loaded_by_command(*arguments, "-o", "memory.svg", folder=tmp_path)
    assert "matplotlib" in in_file
    assert not in_file & {"tensorflow", "keras"}


# the terminal


@every_kind
def test_a_pipe_gets_the_terminals_picture_without_its_colors(
    kind: str, run: Command, sequence_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("COLUMNS", "72")
    piped = plot(run, kind, sequence_model)
    arguments = ("plot", kind, "-m", sequence_model, *KINDS[kind])
    status, shown = run.on_terminal(*arguments, stream="stdout")
    assert status == 0
    assert "\x1b" not in piped
    assert STYLE.sub("", shown) == piped
    assert bool(STYLE.search(shown)) == (kind in ("curve", "units", "embedding", "memory"))
    if kind == "units":
        monkeypatch.setenv("NO_COLOR", "1")
        assert run.on_terminal(*arguments, stream="stdout") == (0, piped)


@pytest.mark.parametrize("columns", [40, 100])
def test_a_picture_is_as_wide_as_the_terminal(
    columns: int, run: Command, sequence_model: Path
) -> None:
    drawn = plot(run, "surprisal", sequence_model, env={"COLUMNS": str(columns)})
    assert max(map(len, drawn.splitlines()[2:])) == columns
    spelled = plot(run, "unit", sequence_model, "-n", 400, env={"COLUMNS": str(columns)})
    assert {len(row) for row in spelled.splitlines()[3:-2:2]} == {columns}


def test_the_terminal_tells_the_numbers_of_the_library(run: Command, sequence_model: Path) -> None:
    model, text = chargen.load(sequence_model), PANGRAMS.read_text("utf-8")[:800]
    tokens = model.vocabulary.encode(text)
    found = activations(model.config, model.tensors, tokens)
    table = plot(run, "units", sequence_model, "--top", 1).splitlines()[2:]
    rows = [re.fullmatch(r"(\D+?) +(\d+) +([+-]\d\.\d\d)  █*", row) for row in table]
    assert [(row[1], int(row[2]), row[3]) for row in rows if row] == [
        (match.feature, match.unit, f"{match.correlation:+.2f}")
        for match in find_units(found, text_features(text), 1)
    ]
    assert len(table) == len([row for row in rows if row])

    shown = plot(run, "unit", sequence_model, "-n", 90, env={"COLUMNS": "100"}).splitlines()
    unit = found[:90, 3]
    assert f"▁ is {unit.min():.2f}, █ is {unit.max():.2f}" in shown[1]
    assert shown[3] == text[:90].replace("\n", "↵")
    assert shown[2].index("█") == unit.argmax()
    assert shown[2].index("▁") <= unit.argmin()

    shown = plot(run, "surprisal", sequence_model, "-n", 90, env={"COLUMNS": "100"}).splitlines()
    bits = surprisal_bits(model.engine, tokens[:90])[1:]
    assert f"▁ is {bits.min():.2f}, █ is {bits.max():.2f}" in shown[1]
    assert shown[2].startswith(" ")
    assert shown[2].index("█") == 1 + bits.argmax()


# models


@pytest.mark.parametrize("kind", ["curve", "memory"])
def test_several_models_come_into_one_picture(
    kind: str, run: Command, sequence_model: Path, windowed_model: Path, lines_model: Path
) -> None:
    models = ("-m", windowed_model, "-m", lines_model)
    skip = ("--unknown", "skip") if kind == "memory" else ()
    drawn = plot(run, kind, sequence_model, *models, *skip)
    for path in (sequence_model, windowed_model, lines_model):
        assert re.search(rf" {path.stem}\b.*$", drawn.partition("\n")[2], re.MULTILINE)
    twice = run("plot", kind, "-m", sequence_model, "-m", sequence_model, *KINDS[kind])
    is_refused(twice, USAGE, "twice", "-m/--model")


def test_models_of_one_name_are_told_apart_by_their_paths(
    run: Command, sequence_model: Path, lines_model: Path, tmp_path: Path
) -> None:
    for folder, path in (("a:b", sequence_model), ("b", lines_model)):
        (tmp_path / folder).mkdir()
        shutil.copy(path, tmp_path / folder / "m.keras")
    both = good(run("plot", "curve", "-m", "a:b/m.keras", "-m", "b/m.keras")).decode()
    assert "a:b/m.keras training" in both
    assert " b/m.keras training" in both
    assert "Training of m\n" in good(run("plot", "curve", "-m", "b/m.keras")).decode()
    one = good(run("plot", "curve", env={"CHARGEN_MODEL": "a:b/m.keras"})).decode()
    assert one.startswith("Training of m\n")


@pytest.mark.parametrize("kind", ["curve", "surprisal"])
def test_the_model_is_the_option_then_the_variable_then_the_folders(
    kind: str, run: Command, sequence_model: Path, tmp_path: Path
) -> None:
    expected = plot(run, kind, sequence_model)
    unnamed = ("plot", kind, *KINDS[kind])
    variable = {"CHARGEN_MODEL": str(sequence_model)}
    assert good(run(*unnamed, env=variable)).decode() == expected
    is_refused(run(*unnamed), MODEL, "chargen.keras")


@pytest.mark.parametrize(
    ("model", "kind"),
    [*(("byte_model", kind) for kind in KINDS), ("windowed_model", "unit")],
)
def test_every_kind_of_model_can_be_drawn(
    kind: str, model: str, run: Command, request: pytest.FixtureRequest
) -> None:
    drawn = plot(run, kind, request.getfixturevalue(model))
    assert len(drawn.splitlines()) > 3
    if kind in ("curve", "memory"):
        assert {"curve": "bits per byte", "memory": "k bytes back"}[kind] in drawn


def test_a_model_of_windows_ends_at_its_window(run: Command, windowed_model: Path) -> None:
    drawn = plot(run, "memory", windowed_model)
    assert drawn.splitlines()[-1].split() == ["0", "9"]


# texts


def test_the_text_is_a_file_or_stdin_and_its_beginning_alone_is_read(
    run: Command, sequence_model: Path, windowed_model: Path, tmp_path: Path
) -> None:
    data = PANGRAMS.read_bytes()[:300]
    (tmp_path / "t.txt").write_bytes(data + "♞".encode() * 9)
    same = ("plot", "surprisal", "-m", sequence_model, "-n", 300, "--text")
    by_name = good(run(*same, "t.txt")).decode()
    by_pipe = good(run(*same, "-", stdin=data)).decode()
    assert by_pipe == by_name.replace("t.txt", "standard input")
    both = ("plot", "memory", "-m", sequence_model, "-m", windowed_model, "--distance", 5)
    by_pipe = good(run(*both, "--text", "-", stdin=data)).decode()
    by_name = good(run(*both, "--text", "t.txt", "-n", 300)).decode()
    assert by_pipe == by_name.replace("t.txt", "standard input")


def test_a_text_in_this_folder_is_called_by_what_was_typed(
    run: Command, sequence_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "t.txt").write_text("The quick brown fox")
    drawn = good(run("plot", "surprisal", "-m", sequence_model, "--text", ".")).decode()
    assert drawn.startswith(f"Surprisal along ., by {sequence_model.stem}\n")


def test_an_unknown_character_is_named_or_skipped(
    run: Command, sequence_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "t.txt").write_text("The ♞quick brown fox", "utf-8")
    same = ("plot", "surprisal", "-m", sequence_model, "--text", "t.txt")
    is_refused(run(*same), TEXT, "t.txt", "'♞' (U+265E)", "character 5", "--unknown")
    skipped = good(run(*same, "--unknown", "skip")).decode()
    assert skipped.splitlines()[3] == "The quick brown fox"


def test_bytes_are_shown_as_the_characters_that_they_are_parts_of(
    run: Command, byte_model: Path
) -> None:
    same = ("plot", "surprisal", "-m", byte_model, "--text", "-")
    shown = good(run(*same, stdin="αb😀".encode() + b"\xff\x1b")).decode().splitlines()
    assert shown[3] == "ααb😀😀😀😀\ufffd\\x1b"
    assert cell_len(shown[2]) == cell_len(shown[3])


def test_a_name_cannot_break_the_picture(run: Command, greek_model: Path, tmp_path: Path) -> None:
    shutil.copy(greek_model, tmp_path / "red\x1b[31m\n.keras")
    (tmp_path / "t\n\x1b.txt").write_text(GREEK)
    same = ("-m", "red\x1b[31m\n.keras", "--text", "t\n\x1b.txt", "-n", 150)
    drawn = good(run("plot", "memory", *same, "--distance", 9)).decode()
    assert "\x1b" not in drawn
    assert "\\x1b[31m\\n" in drawn.splitlines()[0]
    assert len(drawn.splitlines()) == 20
    assert good(run("plot", "memory", *same, "-o", "t.png", "--distance", 9)) == b""


# what is wrong


@pytest.mark.parametrize(
    ("line", "status", "words"),
    [
        ("surprisal", USAGE, ["--text", "chargen plot surprisal --help"]),
        ("unit --text t.txt", USAGE, ["--unit"]),
        ("unit --text t.txt --unit 32", USAGE, ["unit 32", "from 0 to 31", "--unit"]),
        ("unit --text t.txt --unit -1", USAGE, ["from 0 to 31"]),
        ("unit --text t.txt --unit 1 --layer 2", USAGE, ["layer 2", "from 1 to 1", "--layer"]),
        ("units --text t.txt --top 0", USAGE, ["--top"]),
        ("units --text t.txt --length 0", USAGE, ["--length"]),
        ("memory --text t.txt --distance 0", USAGE, ["--distance"]),
        ("memory --text t.txt --distance 5000", TEXT, ["5,002", "--distance"]),
        ("surprisal --text none.txt", FAILED, ["none.txt", "no such file"]),
        ("surprisal --text -", TEXT, ["standard input", "0 known", "at least 2"]),
        ("units --text t.txt --encoding nonsense", USAGE, ["nonsense", "--encoding"]),
        ("curve -m none.keras", MODEL, ["none.keras"]),
        ("embedding t.txt", USAGE, ["t.txt"]),
        ("picture", USAGE, ["picture", "curve"]),
    ],
)
def test_a_mistake_is_one_line(
    line: str, status: int, words: list[str], run: Command, sequence_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "t.txt").write_text("The quick brown fox\n" * 20)
    model = {"CHARGEN_MODEL": str(sequence_model)}
    is_refused(run("plot", *shlex.split(line), env=model), status, *words)
    assert [path.name for path in tmp_path.iterdir()] == ["t.txt"]


def test_only_an_lstm_has_a_cell_state(
    run: Command, sequence_model: Path, lines_model: Path
) -> None:
    h = plot(run, "unit", sequence_model)
    c = plot(run, "unit", sequence_model, "--cell-state")
    assert ("h of unit 3" in h, "c of unit 3" in c) == (True, True)
    assert h.splitlines()[2] != c.splitlines()[2]
    line = ("plot", "units", "-m", lines_model, *TEXT_FILE, "--unknown", "skip", "--cell-state")
    is_refused(run(*line), USAGE, "GRU", "--cell-state")


def test_help_tells_the_meaning_of_every_kind_and_option(run: Command) -> None:
    assert isinstance(command, click.Group)
    shown = good(run("plot", "--help")).decode()
    places = [shown.index(f"\n  {kind} ") for kind in KINDS]
    assert places == sorted(places)
    assert set(command.commands) == set(KINDS)
    assert good(run("plot", "unit", "-h")).decode().startswith("Usage: chargen plot unit ")
    assert run("plot").status == USAGE
    for kind, one in command.commands.items():
        told = "".join(one.get_help(click.Context(one, info_name=kind)).split())
        for option in (option for option in one.params if isinstance(option, click.Option)):
            assert "".join((option.help or "missing help").split()) in told, option.name
            assert all(spelling in told for spelling in option.opts)


def test_help_and_code_name_the_same_numbers() -> None:
    told = {kind: " ".join((one.help or "").split()) for kind, one in command.commands.items()}
    assert f"up to {plots.LONGEST_SPELLED} characters" in told["unit"]
    assert f"up to {plots.LONGEST_SPELLED} characters" in told["surprisal"]
    positions = inspect.signature(gradient_norms).parameters["positions"].default
    assert f"over {positions} places" in told["memory"]


def test_help_is_light(tmp_path: Path) -> None:
    loaded = loaded_by_command("plot", "memory", "--help", folder=tmp_path)
    assert not loaded & {"numpy", "rich", "matplotlib", "tensorflow"}


def test_a_terminals_picture_takes_what_its_namesake_takes() -> None:
    assert set(plots.__all__) - set(drawings.__all__) == {"LONGEST_SPELLED", "average_width"}
    for name in drawings.__all__:
        theirs = dict(inspect.signature(getattr(plots, name)).parameters)
        del theirs["look"]
        ours = dict(inspect.signature(getattr(drawings, name)).parameters)
        assert ours == theirs


# the canvas


def plain(rows: list[Row]) -> list[str]:
    return ["".join(text for text, _ in row) for row in rows]


def dots_of(rows: list[str]) -> set[tuple[int, int]]:
    """Where there are dots, (row, column), from the left of the axis."""
    bits = ((0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (2, 1), (3, 0), (3, 1))
    found = set()
    for row, text in enumerate(rows):
        for column, cell in enumerate(re.split("[│┤]", text)[1]):
            if 0x2800 < ord(cell) < 0x2900:
                mask = ord(cell) - 0x2800
                found |= {
                    (4 * row + down, 2 * column + right)
                    for bit, (down, right) in enumerate(bits)
                    if mask >> bit & 1
                }
    return found


@pytest.mark.parametrize("log", [False, True])
def test_a_curve_goes_through_its_points(log: bool) -> None:
    rng = np.random.default_rng(0)
    xs = np.sort(rng.uniform(5, 900, 30))
    ys = 10 ** rng.uniform(-5, 2, 30) if log else rng.normal(size=30)
    rows = plain(chart([Curve("", xs.tolist(), ys.tolist())], 60, 12, log=log))
    assert len(rows) == 14
    dots = dots_of(rows[:12])
    width = rows[12].count("─")
    assert len(rows[12]) == 60
    heights = np.log10(ys) if log else ys
    for x, y in zip(xs, heights, strict=True):
        column = round((x - xs[0]) / (xs[-1] - xs[0]) * (2 * width - 1))
        row = round((heights.max() - y) / np.ptp(heights) * 47)
        assert (row, column) in dots
    assert {column for _, column in dots} == set(range(2 * width))
    assert float(rows[13].split()[0].replace(",", "")) == pytest.approx(xs[0], rel=1e-4)
    assert float(rows[13].split()[1].replace(",", "")) == pytest.approx(xs[-1], rel=1e-4)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (2.29, 4.03), (-0.07, 0.43), (3, 2900)])
@pytest.mark.parametrize("log", [False, True])
def test_the_axis_has_round_numbers_where_they_belong(low: float, high: float, log: bool) -> None:
    ys = [10**low, 10 ** min(high, 30)] if log else [low, high]
    bottom, top = (math.log10(y) if log else y for y in ys)
    rows = plain(chart([Curve("", [0, 1], ys)], 40, 16, log=log))[:16]
    labels = {row: text.split("┤")[0].strip() for row, text in enumerate(rows) if "┤" in text}
    assert len(labels) >= 3
    for row, label in labels.items():
        value = math.log10(float(label)) if log else float(label)
        assert bottom - 1e-6 <= value <= top + 1e-6
        assert abs((top - value) / (top - bottom) * 15 - row) <= 0.5 + 1e-3


def test_a_gap_and_a_point_alone() -> None:
    rows = plain(chart([Curve("", range(5), [1, 1, math.nan, 2, 0])], 40, 8, log=True))
    width = rows[8].count("─")
    columns = {column for _, column in dots_of(rows[:8])}
    assert columns == set(range(round((2 * width - 1) / 3) + 1)) | {2 * width - 1}
    (lonely,) = dots_of(plain(chart([Curve("", [3], [7])], 40, 8))[:8])
    assert lonely[0] in (15, 16)
    assert plain(chart([Curve("", [1, 2], [0, math.nan])], 40, 8, log=True)) == ["nothing to draw"]


def test_each_curve_has_its_color_and_its_name_at_its_end() -> None:
    curves = [Curve("low", [0, 1], [0, 0], 1), Curve("up", [0, 1], [0, 9], 2)]
    curves += [Curve("also low", [0, 1], [0, 0], 3), Curve("x" * 99, [0, 1], [5, 5], 4)]
    rows = chart(curves, 80, 10)
    names = {row[-1]: number for number, row in enumerate(rows) if row[-1][1] is not None}
    assert names[("up", 2)] == 0
    assert {names[("low", 1)], names[("also low", 3)]} == {8, 9}
    assert any(name.startswith("xxx") and len(name) == 24 for name, _ in names)
    assert max(map(len, plain(rows))) <= 80
    assert {color for _, color in rows[0][1:]} <= {None, 2}


def test_labels_stand_at_their_points_and_never_on_each_other() -> None:
    points = [(0.0, 0.0), (10.0, 5.0), (5.0, 2.5), *[(5.0, 2.5)] * 20]
    labels = ["a", "\\x1b", "一", *"bcdefghijklmnopqrstu"]
    rows = scatter(points, labels, [None] * len(labels), 41, 11)
    text = plain(rows)
    assert text[10] == "a"
    assert text[0].endswith("\\x1b")
    assert cell_len(text[0]) == 41
    assert text[5][19 : 19 + 3].find("一") >= 0
    assert sorted("".join(text).replace(" ", "")) == sorted("".join(labels))
    crowd = scatter([(0.0, 0.0)] * 999, ["z"] * 999, [5] * 999, 20, 6)
    assert 20 < "".join(plain(crowd)).count("z") < 999
    assert {color for row in crowd for letter, color in row if "z" in letter} == {5}


def test_bars_stand_over_their_characters() -> None:
    text = "ab\n一c😀 \x07def"
    values = [math.nan, *np.linspace(0, 7, len(text) - 1)]
    rows = plain(bars_over_text(values, text, 10))
    assert "".join(rows[1::2]) == "ab↵一c😀 \\x07def"
    for over, under in zip(rows[::2], rows[1::2], strict=True):
        assert cell_len(over) == cell_len(under) <= 10
    assert "".join(rows[::2])[:4] == " ▁▂▃"
    assert rows[-2][-1] == "█"


def test_a_mark_of_no_width_stands_on_a_circle_of_its_own() -> None:
    points = [(0.0, 0.0), (10.0, 0.0), (5.0, 0.0), (5.0, 0.0)]
    rows = plain(scatter(points, ["a", "\u0301", "\u0947", "न"], [None] * 4, 21, 3))
    assert rows[1].startswith("a") and rows[1].endswith("◌\u0301")
    assert sorted("".join(rows).replace(" ", "")) == sorted("a◌\u0301◌\u0947न")
    over, under = plain(bars_over_text([0.0, 1.0, 2.0], "ne\u0301", 10))
    assert under == "ne◌\u0301"
    assert [over[0], over[2]] == ["▁", "█"]
