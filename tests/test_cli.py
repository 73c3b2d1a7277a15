"""``generate``, ``evaluate``, ``info`` and the help, as real processes."""

import dataclasses
import gzip
import json
import shlex
import shutil
import signal
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import pytest
from conftest import CORPORA, GREEK, MODULE, PANGRAMS, SCRIPT, Command, Finished

import chargen
from chargen.archive import read_archive, write_archive

COMMANDS = ("train", "generate", "evaluate", "score", "info", "plot", "report", "completion")
FOREVER = 10**8

every_command = pytest.mark.parametrize("name", COMMANDS)


def good(finished: Finished) -> bytes:
    """What a run wrote that ended well and had nothing to say beside it."""
    assert (finished.status, finished.stderr) == (0, "")
    return finished.stdout


def characters(run: Command, *arguments: Any) -> str:
    return good(run("generate", *arguments)).decode("utf-8")


# generate


@pytest.mark.parametrize("words", [MODULE, SCRIPT], ids=["module", "script"])
def test_generate_writes_the_seed_and_so_many_characters(
    words: tuple[str, ...], run: Command, sequence_model: Path
) -> None:
    arguments = ["generate", "-m", sequence_model, "--seed", "The quick ", "-n", 137]
    text = good(run(*arguments, words=words)).decode("utf-8")
    assert text.startswith("The quick ")
    new = text.removeprefix("The quick ")
    assert len(new) == 137 + (new[136] != "\n")
    assert new.endswith("\n")


def test_the_default_length_is_500(run: Command, sequence_model: Path) -> None:
    text = characters(run, "-m", sequence_model)
    assert len(text) == 500 + (text[499] != "\n")


@pytest.mark.parametrize("length", [20, 100])
def test_the_last_line_is_ended_only_if_it_is_not(
    length: int, run: Command, lines_model: Path
) -> None:
    endless = chargen.load(lines_model).generate(length=300, random_seed=1)
    ends = [place + 1 for place, character in enumerate(endless) if character == "\n"]
    broken = next(end for end in ends if end > length)
    for n, ending in ((broken, ""), (broken - 1, "\n")):
        text = characters(run, "-m", lines_model, "-n", n, "--random-seed", 1)
        assert text == endless[:n] + ending


def test_no_echo_leaves_the_seed_out(run: Command, sequence_model: Path) -> None:
    same = ("-m", sequence_model, "-p", "The quick ", "-n", 30, "--random-seed", 3)
    assert "The quick " + characters(run, *same, "--no-echo") == characters(run, *same)


def test_length_0_writes_the_seed_alone(run: Command, sequence_model: Path) -> None:
    zero = ("-m", sequence_model, "-n", 0)
    assert characters(run, *zero, "--seed", "The dog") == "The dog\n"
    assert characters(run, *zero, "--seed", "The dog\n") == "The dog\n"
    assert characters(run, *zero, "--seed", "The dog", "--no-echo") == ""
    assert characters(run, *zero) == ""


def test_without_a_seed_the_model_starts_after_a_line_break(
    run: Command, sequence_model: Path
) -> None:
    same = ("-m", sequence_model, "-n", 60, "--greedy")
    assert characters(run, *same) == characters(run, *same, "--seed", "\n", "--no-echo")


def test_the_random_seed_fixes_the_text(run: Command, sequence_model: Path) -> None:
    same = ("-m", sequence_model, "--seed", "A ", "-n", 80)
    texts = [characters(run, *same, "--random-seed", seed) for seed in (5, 5, 6)]
    assert texts[0] == texts[1] != texts[2]
    in_python = chargen.load(sequence_model).generate("A ", length=80, random_seed=5)
    assert texts[0] == f"A {in_python}" + "\n" * (in_python[-1] != "\n")
    assert characters(run, *same) != characters(run, *same)


@pytest.mark.parametrize("model", ["sequence_model", "windowed_model"])
def test_greedy_is_temperature_0(model: str, run: Command, request: pytest.FixtureRequest) -> None:
    same = ("-m", request.getfixturevalue(model), "--seed", "The quick ", "-n", 60)
    greedy = characters(run, *same, "--greedy")
    assert greedy == characters(run, *same, "--greedy")
    assert greedy == characters(run, *same, "--temperature", 0, "--random-seed", 9)
    assert greedy != characters(run, *same, "--temperature", 2, "--random-seed", 9)


def test_the_temperature_is_08_by_default(run: Command, sequence_model: Path) -> None:
    same = ("-m", sequence_model, "-n", 80, "--random-seed", 2)
    assert characters(run, *same) == characters(run, *same, "--temperature", 0.8)


def test_the_model_is_the_option_then_the_variable_then_the_folders(
    run: Command, sequence_model: Path, windowed_model: Path, tmp_path: Path
) -> None:
    same = ("generate", "--seed", "The quick ", "-n", 60, "--greedy")
    by_option = good(run(*same, "-m", sequence_model))
    other = {"CHARGEN_MODEL": str(windowed_model)}
    by_variable = good(run(*same, env=other))
    assert by_option != by_variable
    assert good(run(*same, "--model", sequence_model, env=other)) == by_option
    shutil.copy(sequence_model, tmp_path / "chargen.keras")
    assert good(run(*same)) == by_option
    assert good(run(*same, env=other)) == by_variable


def test_unknown_skip_leaves_characters_out(run: Command, sequence_model: Path) -> None:
    same = ("-m", sequence_model, "-n", 40, "--greedy", "--no-echo")
    skipped = characters(run, *same, "--unknown", "skip", "--seed", "The ♞qui€ck ")
    assert skipped == characters(run, *same, "--seed", "The quick ")


@pytest.mark.parametrize("seed", [b"", b"\xff\xfe\x80", "κ😀".encode(), b"a\r\x1b"])
def test_a_byte_model_takes_any_seed_and_writes_bytes(
    seed: bytes, run: Command, byte_model: Path
) -> None:
    written = good(run("generate", "-m", byte_model, "-n", 50, b"--seed=" + seed))
    assert written.startswith(seed)
    new = written.removeprefix(seed)
    assert len(new) == 50 + (new[49:50] != b"\n")


def test_a_byte_model_writes_broken_utf_8_as_it_is(run: Command, byte_model: Path) -> None:
    same = ("generate", "-m", byte_model, "-n", 200, "--temperature", 5, "--random-seed", 1)
    written = good(run(*same))
    assert written == good(run(*same))
    with pytest.raises(UnicodeDecodeError):
        written.decode("utf-8")


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_text_is_utf_8_in_every_locale(locale: str, run: Command, greek_model: Path) -> None:
    arguments = ["generate", "-m", greek_model, "--seed", "κ 😀", "-n", 60]
    text = good(run(*arguments, env={"LC_ALL": locale})).decode("utf-8")
    assert text.startswith("κ 😀")
    assert set(text) <= set(GREEK)
    assert len(text) in (63, 64)


@pytest.mark.parametrize("model", ["greek_model", "byte_model"])
def test_a_terminal_shows_what_a_pipe_gets(
    model: str, run: Command, request: pytest.FixtureRequest
) -> None:
    path = request.getfixturevalue(model)
    same = ("generate", "-m", path, "--seed", "αβγδε ", "-n", 40, "--greedy")
    piped = good(run(*same)).decode("utf-8")
    assert run.on_terminal(*same, stream="stdout") == (0, piped)


def test_a_reader_that_leaves_is_no_error(run: Command, sequence_model: Path) -> None:
    model = shlex.quote(str(sequence_model))
    finished = run.shell(f"chargen generate -m {model} -n {FOREVER} | head -c 10")
    assert len(good(finished)) == 10


@pytest.mark.parametrize("line", ["generate -n 50", "info", "info --json", f"evaluate {PANGRAMS}"])
@pytest.mark.parametrize("closed", [">/dev/full", ">&-"])
def test_an_output_that_takes_nothing_is_one_line(
    line: str, closed: str, run: Command, sequence_model: Path
) -> None:
    finished = run.shell(f"chargen {line} -m {shlex.quote(str(sequence_model))} {closed}")
    assert finished.status == 1
    assert len(finished.lines) == 1
    assert finished.stderr.startswith("chargen: ")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_generate_dies_of_the_signal(
    number: signal.Signals, run: Command, sequence_model: Path
) -> None:
    process = run.start("generate", "-m", sequence_model, "-n", FOREVER, "--random-seed", 4)
    assert process.stdout is not None
    begun = process.stdout.read(64)
    process.send_signal(number)
    rest, errors = process.communicate(timeout=30)
    assert process.returncode == -number
    assert errors.strip() == b""
    text = (begun + rest).decode("utf-8")
    expected = chargen.load(sequence_model).generate(length=len(text), random_seed=4)
    if number == signal.SIGINT:  # all that was made is kept, and its line is ended
        assert text[-1] == "\n"
        text = text[:-1]
    assert expected.startswith(text)


# evaluate


def test_evaluate_reads_a_file_stdin_and_gzip_alike(
    run: Command, sequence_model: Path, tmp_path: Path
) -> None:
    data = PANGRAMS.read_bytes()[:3000]
    (tmp_path / "text.txt").write_bytes(data)
    (tmp_path / "text.txt.gz").write_bytes(gzip.compress(data))
    same = ("evaluate", "-m", sequence_model, "--json")
    outputs = [good(run(*same, name)) for name in ("text.txt", "text.txt.gz")]
    outputs += [good(run(*same, "-", stdin=piped)) for piped in (data, gzip.compress(data))]
    assert len(set(outputs)) == 1
    found = json.loads(outputs[0])
    assert found["characters"] == len(data) - 1
    assert found["nats_per_char"] == pytest.approx(found["bits_per_char"] * 0.6931471805599453)
    assert found["perplexity"] == pytest.approx(2 ** found["bits_per_char"])
    assert 0 < found["accuracy"] < 1
    expected = chargen.load(sequence_model).evaluate(data.decode())
    assert found["bits_per_char"] == pytest.approx(expected.bits_per_char, abs=1e-9)


def test_evaluate_for_people_shows_the_same_figures(run: Command, sequence_model: Path) -> None:
    same = ("evaluate", "-m", sequence_model, PANGRAMS)
    found = json.loads(good(run(*same, "--json")))
    shown = good(run(*same)).decode()
    for figure in (f"{found['bits_per_char']:.4f}", f"{found['characters']:,}"):
        assert figure in shown


def test_evaluate_tells_how_many_unknown_characters_it_skipped(
    run: Command, sequence_model: Path
) -> None:
    same = ("evaluate", "-m", sequence_model, "-", "--unknown", "skip")
    data = "The♞ quick€ dog♞.".encode()
    assert json.loads(good(run(*same, "--json", stdin=data)))["skipped"] == 3
    assert "skipped as unknown  3" in good(run(*same, stdin=data)).decode()


@pytest.mark.parametrize(
    ("model", "corpus"),
    [
        ("sequence_model", PANGRAMS),
        ("windowed_model", PANGRAMS),
        ("lines_model", CORPORA / "places.txt"),
    ],
)
def test_the_held_out_figure_of_training_comes_out_again(
    model: str, corpus: Path, run: Command, request: pytest.FixtureRequest
) -> None:
    path = request.getfixturevalue(model)
    found = json.loads(good(run("evaluate", "-m", path, corpus, "--held-out", "--json")))
    trained = json.loads(good(run("info", "-m", path, "--json")))["training"]["held_out"]
    assert found["bits_per_char"] == pytest.approx(trained["bits_per_char"], abs=1e-4)
    assert found["characters"] == trained["characters"]


# info


def test_info_says_what_the_model_is(run: Command, sequence_model: Path) -> None:
    shown = good(run("info", "-m", sequence_model)).decode("utf-8")
    told = json.loads(good(run("info", "-m", sequence_model, "--json")))
    assert told["parameters"] == chargen.load(sequence_model).config.num_parameters
    assert told["model"]["units"] == 32
    assert told["vocabulary"]["characters"] == sorted(set(PANGRAMS.read_text("utf-8")))
    held_out = told["training"]["held_out"]["bits_per_char"]
    for fact in ("LSTM", f"{told['parameters']:,}", f"{held_out:.4f}", told["command"], "▁"):
        assert fact in shown


@pytest.mark.parametrize("model", ["windowed_model", "byte_model", "lines_model", "greek_model"])
def test_info_knows_every_kind_of_model(
    model: str, run: Command, request: pytest.FixtureRequest
) -> None:
    path = request.getfixturevalue(model)
    told = json.loads(good(run("info", "-m", path, "--json")))
    shown = good(run("info", "-m", path)).decode("utf-8")
    assert str(path) in shown
    assert told["model"]["cell"].upper() in shown
    named = told["training"]["corpus"] is not None
    assert (told["command"] is not None) == named == ("chargen train" in shown)


def test_the_command_of_info_repeats_the_run(
    run: Command, sequence_model: Path, tmp_path: Path
) -> None:
    command = json.loads(good(run("info", "-m", sequence_model, "--json")))["command"]
    assert run.shell(command).status == 0
    assert (tmp_path / "chargen.keras").read_bytes() == sequence_model.read_bytes()


@pytest.mark.parametrize("name", ["--odd name.txt", "it's 100%.txt", "-"])
def test_the_command_of_info_names_an_odd_corpus(
    name: str, run: Command, sequence_model: Path, tmp_path: Path
) -> None:
    archive = read_archive(sequence_model)
    metadata = json.loads(archive.members["metadata.json"])
    metadata["chargen"]["training"]["corpus"] = [name]
    members = {**archive.members, "metadata.json": json.dumps(metadata).encode()}
    write_archive(tmp_path / "odd.keras", dataclasses.replace(archive, members=members))
    command = json.loads(good(run("info", "-m", "odd.keras", "--json")))["command"]
    words = shlex.split(command)
    assert words[:2] == ["chargen", "train"]
    context = import_module("chargen.cli.train").command.make_context("train", words[2:])
    assert context.params["corpus"] == (name,)
    assert context.params["units"] == 32


# help


@every_command
def test_help_tells_the_meaning_of_every_option(name: str, run: Command) -> None:
    shown = good(run(name, "--help")).decode("utf-8")
    assert shown == good(run(name, "-h")).decode("utf-8")
    told = "".join(shown.split())
    options = [
        parameter
        for parameter in import_module(f"chargen.cli.{name}").command.params
        if isinstance(parameter, click.Option)
    ]
    assert options or name in ("completion", "plot")
    for option in options:
        assert len(option.help or "") > 10, option.name
        assert "".join((option.help or "").split()) in told
        for spelling in option.opts:
            assert spelling in shown


def test_help_lists_the_commands(run: Command) -> None:
    shown = good(run("--help")).decode("utf-8")
    assert shown == good(run("-h")).decode("utf-8")
    assert all(f"\n  {name} " in shown for name in COMMANDS)


def test_chargen_alone_shows_the_help_and_is_wrong_usage(run: Command) -> None:
    finished = run()
    assert (finished.status, finished.stdout) == (2, b"")
    assert finished.stderr == good(run("--help")).decode("utf-8")


@pytest.mark.parametrize("words", [MODULE, SCRIPT], ids=["module", "script"])
def test_version(words: tuple[str, ...], run: Command) -> None:
    for option in ("--version", "-V"):
        assert good(run(option, words=words)) == f"chargen {chargen.__version__}\n".encode()
