"""What ``chargen evaluate`` shows beside the figure: rivals, a table of characters, colours."""

import json
import math
import re
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from conftest import CORPORA, GREEK, PANGRAMS, Command
from model_files import HISTORY, RECORD
from networks import random_tensors, small_config, stock_network
from test_cli import good
from test_cli_errors import is_refused
from test_cli_output import COLORS, STYLED

import chargen
from chargen.archive import write_archive
from chargen.evaluation import baselines
from chargen.vocabulary import Vocabulary

PLACES = CORPORA / "places.txt"
ALPHABET = "\t\n\r \"'\\\x00\x1b\x85abcéΩ\u2028\u202e\ufeff😀"
ODD = 'a\tb\nc\\ "é"\x1b\x00Ω\r\n\x85\u2028\u202e\ufeff😀\n'


@pytest.fixture(scope="session")
def odd_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Untrained models of odd characters and of bytes, by kind."""
    from chargen.training.export import export

    folder = tmp_path_factory.mktemp("odd")
    paths = {}
    for vocabulary in (Vocabulary.from_text(ALPHABET), Vocabulary.of_bytes()):
        kind = vocabulary.kind
        config = small_config("gru", vocabulary_size=len(vocabulary))
        network = stock_network(config, random_tensors(config, scale=1.0))
        paths[kind] = folder / f"{kind}.keras"
        archive = export(network, config, vocabulary, {**RECORD, "tokens": kind}, HISTORY)
        write_archive(paths[kind], archive)
    return paths


# rivals


def figures(run: Command, *arguments: object, **options: bytes) -> dict[str, object]:
    return json.loads(good(run("evaluate", *arguments, "--json", **options)))


def test_uniform_is_always_among_the_figures(run: Command, sequence_model: Path) -> None:
    found = figures(run, "-m", sequence_model, PANGRAMS)
    size = len(chargen.load(sequence_model).vocabulary)
    assert found["baselines"] == {"uniform": math.log2(size)}
    shown = good(run("evaluate", "-m", sequence_model, PANGRAMS)).decode()
    assert f"uniform{math.log2(size):17.4f}" in shown


def test_the_training_text_makes_rivals_of_the_characters_scored(
    run: Command, sequence_model: Path, tmp_path: Path
) -> None:
    """Several files, a folder, and characters that the model lacks, which are skipped."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "b.txt").write_text("Pack my box ♞ with five.\n")
    (tmp_path / "a.txt").write_text("The quick brown fox.\n" * 30)
    text = "The lazy dog, the quick fox.\n"
    (tmp_path / "text.txt").write_text(text)
    model = chargen.load(sequence_model)
    training = ("The quick brown fox.\n" * 30) + "Pack my box  with five.\n"
    expected = model.baselines(text, training)
    same = ("-m", sequence_model, "text.txt", "--train-text", "a.txt", "--train-text", "folder")
    found = figures(run, *same)
    assert found["baselines"] == pytest.approx(expected)
    assert found["bits_per_char"] == pytest.approx(model.evaluate(text).bits_per_char)

    shown = good(run("evaluate", *same)).decode()
    ranking = {**expected, "this model": found["bits_per_char"]}
    rows = re.findall(r"^([> ]) (\S+(?: \S+)?) +(\d+\.\d{4})$", shown, re.MULTILINE)
    assert [(name, bits) for _, name, bits in rows] == [
        (name, f"{bits:.4f}") for name, bits in sorted(ranking.items(), key=lambda item: item[1])
    ]
    assert [name for mark, name, _ in rows if mark == ">"] == ["this model"]


@pytest.mark.parametrize(
    ("model", "corpus"), [("sequence_model", PANGRAMS), ("lines_model", PLACES)]
)
def test_a_corpus_named_again_is_the_part_that_was_trained_on(
    model: str, corpus: Path, run: Command, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    path = request.getfixturevalue(model)
    (tmp_path / "link.txt").symlink_to(corpus)
    (tmp_path / "more.txt").write_text("the quick\n" * 10)
    loaded = chargen.load(path)
    own = loaded.own_corpus([corpus])
    more = loaded.vocabulary.encode("the quick\n" * 10)
    for names, training in [
        (("link.txt",), own.training_part),
        ((corpus, "more.txt"), np.concatenate([own.training_part, more])),
        (("more.txt",), more),
    ]:
        options = [word for name in names for word in ("--train-text", name)]
        found = figures(run, "-m", path, corpus, "--held-out", *options)
        expected = baselines(own.held_out_part, loaded.vocabulary, training)
        assert found["baselines"] == pytest.approx(expected)
        assert found["characters"] == own.held_out_size - 1


def test_a_text_named_again_without_held_out_is_all_of_it(
    run: Command, sequence_model: Path
) -> None:
    found = figures(run, "-m", sequence_model, PANGRAMS, "--train-text", PANGRAMS)["baselines"]
    text = PANGRAMS.read_text()
    assert found == pytest.approx(chargen.load(sequence_model).baselines(text, text))
    assert found["6-gram"] < 1


def test_rivals_of_bytes_from_stdin(run: Command, byte_model: Path, tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text(GREEK)
    data = GREEK[:99].encode() + b"\xff\xce"
    found = figures(run, "-m", byte_model, "-", "--train-text", "train.txt", stdin=data)
    expected = chargen.load(byte_model).baselines(data, GREEK)
    assert found["baselines"] == pytest.approx(expected)
    swapped = figures(run, "-m", byte_model, "train.txt", "--train-text", "-", stdin=data)
    assert swapped["baselines"] == pytest.approx(chargen.load(byte_model).baselines(GREEK, data))
    shown = good(run("evaluate", "-m", byte_model, "-", stdin=data)).decode()
    assert re.search(rf"^bits per byte .*^bytes +{len(data) - 1}\n", shown, re.M | re.S)
    assert "character" not in shown


def test_both_texts_are_read_by_the_encoding(
    run: Command, odd_models: dict[str, Path], tmp_path: Path
) -> None:
    for name, text in (("text.txt", "é é\n"), ("train.txt", "aéa éa\n")):
        (tmp_path / name).write_text(text, "latin-1")
    model = odd_models["char"]
    same = ("-m", model, "text.txt", "--train-text", "train.txt")
    found = figures(run, *same, "--encoding", "latin-1")
    assert found["baselines"] == pytest.approx(chargen.load(model).baselines("é é\n", "aéa éa\n"))
    is_refused(run("evaluate", *same), 3, "0xe9", "--encoding")


REFUSED = [
    ("--per-char --json", 2, "--per-char", "--json"),
    ("--color --json", 2, "--color", "--json"),
    ("--per-char --color", 2, "--per-char", "--color"),
    ("--per-char --train-text text.txt", 2, "--per-char", "--train-text"),
    ("--color --train-text text.txt", 2, "--color", "--train-text"),
    ("--train-text missing.txt", 1, "missing.txt"),
    ("--train-text none.txt", 3, "no character", "--train-text"),
    ("--train-text text.txt --train-text snow.txt --unknown error", 0),
]


@pytest.mark.parametrize(("line", "status", "told"), [(a, b, c) for a, b, *c in REFUSED])
def test_what_does_not_go_together(
    line: str, status: int, told: list[str], run: Command, odd_models: dict[str, Path]
) -> None:
    (run.folder / "text.txt").write_text("abc\n")
    (run.folder / "none.txt").write_text("☃")
    (run.folder / "snow.txt").write_text("a☃")
    ended = run("evaluate", "-m", odd_models["char"], "text.txt", *line.split())
    if status:
        is_refused(ended, status, *told)
    else:
        good(ended)


def test_stdin_is_read_only_once(run: Command, odd_models: dict[str, Path]) -> None:
    same = ("evaluate", "-m", odd_models["char"])
    is_refused(run(*same, "-", "--train-text", "-", stdin=b"abc"), 2, "'-'", "twice")


# a line for each character


def table(run: Command, *arguments: object, **options: bytes) -> list[list[str]]:
    written = good(run("evaluate", *arguments, "--per-char", **options)).decode()
    head, *rows, last = written.split("\n")
    assert (head, last) == ("character\tbits", "")
    return [row.split("\t") for row in rows]


def test_each_character_has_a_line_and_its_surprisal(
    run: Command, odd_models: dict[str, Path]
) -> None:
    path = odd_models["char"]
    rows = table(run, "-m", path, "-", stdin=ODD.encode())
    names, bits = zip(*rows, strict=True)
    read = [json.loads('"{}"'.format(name.replace('"', '\\"'))) for name in names]
    assert "".join(read) == ODD.removeprefix("\ufeff")
    for name in (
        "\\t",
        "\\n",
        "\\r",
        "\\\\",
        "\\u0000",
        "\\u001b",
        "\\u0085",
        "\\u2028",
        "\\u202e",
    ):
        assert name in names
    assert {'"', "é", "Ω", "😀", " "} <= set(names)
    assert bits[0] == ""
    expected = chargen.load(path).surprisal_bits(ODD)[1:]
    assert list(bits[1:]) == [f"{value:.4f}" for value in expected]


def test_the_table_is_that_of_the_held_out_part(run: Command, sequence_model: Path) -> None:
    rows = table(run, "-m", sequence_model, PANGRAMS, "--held-out")
    found = figures(run, "-m", sequence_model, PANGRAMS, "--held-out")
    bits = [float(value) for _, value in rows[1:]]
    assert len(bits) == found["characters"]
    assert sum(bits) / len(bits) == pytest.approx(found["bits_per_char"], abs=1e-4)


def test_rows_of_a_byte_model_are_bytes(run: Command, odd_models: dict[str, Path]) -> None:
    data = "aé\t\x1b\n".encode() + b"\xff\\"
    names = [name for name, _ in table(run, "-m", odd_models["byte"], "-", stdin=data)]
    assert names == ["a", "\\xc3", "\\xa9", "\\t", "\\u001b", "\\n", "\\xff", "\\\\"]


def test_skipped_characters_have_no_line(run: Command, odd_models: dict[str, Path]) -> None:
    same = ("-m", odd_models["char"], "-", "--unknown", "skip")
    names = [name for name, _ in table(run, *same, stdin="a☃b☃☃c".encode())]
    assert names == ["a", "b", "c"]


@pytest.mark.parametrize("form", ("--per-char", "--color", "--per-char --held-out"))
def test_a_reader_that_leaves_ends_it_well(
    form: str, run: Command, sequence_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "text.txt").write_text(PANGRAMS.read_text() * (1 if "held" in form else 30))
    name = PANGRAMS if "held" in form else "text.txt"
    ended = run.shell(f"chargen evaluate -m {sequence_model} {name} {form} | head -n 3")
    assert (ended.status, ended.stderr) == (0, "")
    assert ended.stdout.count(b"\n") == 3


# colours


def runs_of(text: str, bits: np.ndarray) -> list[tuple[str, str]]:
    """Colours and texts of the runs of one colour; the first character and line ends have none."""
    colors = [max(pair for pair in COLORS if value >= pair[0])[1] for value in bits[1:].tolist()]
    of_each = [
        (None if number == 0 or character == "\n" else str(color), character)
        for number, (color, character) in enumerate(zip([0, *colors], text, strict=True))
    ]
    runs = [
        (color, "".join(c for _, c in of)) for color, of in groupby(of_each, lambda one: one[0])
    ]
    return [(color, shown) for color, shown in runs if color is not None]


@pytest.mark.parametrize("window", (False, True))
def test_characters_are_colored_by_their_surprisal_on_a_terminal(
    window: bool, run: Command, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE"):
        monkeypatch.delenv(name, raising=False)
    path = request.getfixturevalue("windowed_model" if window else "greek_model")
    text = PANGRAMS.read_text()[:300] if window else GREEK[:100]
    (run.folder / "text.txt").write_text(text)
    same = ("evaluate", "-m", path, "text.txt", "--color")
    ended = text if text.endswith("\n") else f"{text}\n"
    expected = runs_of(text, chargen.load(path).surprisal_bits(text))
    assert len({color for color, _ in expected}) > 1

    assert good(run(*same)).decode() == ended
    status, shown = run.on_terminal(*same, stream="stdout")
    assert (status, STYLED.sub(r"\2", shown)) == (0, ended)
    assert STYLED.findall(shown) == expected
    for name in ("FORCE_COLOR", "CLICOLOR_FORCE"):
        assert good(run(*same, env={name: "1"})).decode() == shown
    for env in ({"FORCE_COLOR": "0"}, {"CLICOLOR_FORCE": "1", "NO_COLOR": "1"}):
        assert good(run(*same, env=env)).decode() == ended
    monkeypatch.setenv("NO_COLOR", "1")
    assert run.on_terminal(*same, stream="stdout") == (0, ended)


def test_forced_colors_are_those_of_generate_too(
    run: Command, greek_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    same = ("generate", "-m", greek_model, "-n", 30, "--random-seed", 1)
    forced = {"FORCE_COLOR": "1"}
    plain = good(run(*same, env=forced)).decode()
    colored = good(run(*same, "--surprisal", env=forced)).decode()
    assert STYLED.search(plain) is None
    assert STYLED.sub(r"\2", colored) == plain


@pytest.mark.parametrize("forced", ("0", "1"))
@pytest.mark.parametrize("kind", ("char", "byte"))
def test_shown_text_is_safe_for_a_terminal(
    forced: str, kind: str, run: Command, odd_models: dict[str, Path]
) -> None:
    same = ("evaluate", "-m", odd_models[kind], "-", "--color")
    shown = good(run(*same, stdin=ODD.encode(), env={"FORCE_COLOR": forced})).decode()
    text = STYLED.sub(r"\2", shown)
    assert bool(STYLED.search(shown)) == (forced == "1")
    expected = re.sub("[\x00\x1b\x85\u202e]", "\ufffd", ODD.replace("\r", ""))
    assert text == expected


def test_bytes_of_a_character_are_colored_by_their_sum(run: Command, byte_model: Path) -> None:
    text = GREEK[:40] + "ψ€😀 abc\n"
    data = text.encode()
    env = {"FORCE_COLOR": "1"}
    shown = good(run("evaluate", "-m", byte_model, "-", "--color", stdin=data, env=env)).decode()
    of_bytes = chargen.load(byte_model).surprisal_bits(data).tolist()
    sums, start = [], 0
    for character in text:
        end = start + len(character.encode())
        sums.append(math.fsum(value for value in of_bytes[start:end] if not math.isnan(value)))
        start = end
    assert STYLED.findall(shown) == runs_of(text, np.array(sums))

    broken = b"\xce\xce\xb1\xff\xb1 a\xe2\x82"
    shown = good(run("evaluate", "-m", byte_model, "-", "--color", stdin=broken, env=env)).decode()
    assert STYLED.sub(r"\2", shown).rstrip("\n\ufffd") == broken.decode("utf-8", "replace").rstrip(
        "\ufffd"
    )


# texts that are short, dull or strange


@pytest.mark.parametrize("text", ("abc", "ab", "a" * 3000, "\n\n\n"))
def test_short_and_dull_texts_have_all_their_figures(
    text: str, run: Command, odd_models: dict[str, Path]
) -> None:
    (run.folder / "train.txt").write_text("aabbcc\n")
    same = ("-m", odd_models["char"], "-")
    found = figures(run, *same, "--train-text", "train.txt", stdin=text.encode())
    assert found["characters"] == len(text) - 1
    assert len(found["baselines"]) == 10
    assert all(math.isfinite(value) for value in found["baselines"].values())
    assert len(table(run, *same, stdin=text.encode())) == len(text)
    colored = good(run("evaluate", *same, "--color", stdin=text.encode())).decode()
    assert colored.rstrip("\n") == text.rstrip("\n")


@pytest.mark.parametrize("form", ("--per-char", "--color", "--train-text train.txt"))
@pytest.mark.parametrize("text", ("", "a"))
def test_less_than_two_characters_are_refused(
    form: str, text: str, run: Command, odd_models: dict[str, Path]
) -> None:
    (run.folder / "train.txt").write_text("abc")
    ended = run("evaluate", "-m", odd_models["char"], "-", *form.split(), stdin=text.encode())
    is_refused(ended, 3, f"holds {len(text)} known", "at least 2")
