"""What ``chargen report`` tells: its numbers against slow twins, the text that it is about, and the
command."""

import json
import math
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import PANGRAMS, Command
from pages import (
    FABLE,
    FACTS,
    HISTORY,
    LIMIT,
    Node,
    check_structure,
    page_of,
    random_model,
    read,
    tables_of,
)
from test_cli import good
from test_cli_errors import FAILED, MODEL, TEXT, USAGE, is_refused
from test_evaluation import slow_expectation
from test_walls import loaded_by_command

import chargen
from chargen.evaluation import baselines, surprisal_bits
from chargen.features import text_features
from chargen.inspection import activations, find_units, gradient_norms
from chargen.report import own_corpus, own_subject, report, subject
from chargen.report.coloring import by_activation, clusters_of
from chargen.report.memory import reach
from chargen.report.units import _stretch
from chargen.vocabulary import Vocabulary


@pytest.fixture(scope="module")
def fable_page() -> str:
    return page_of(random_model(FABLE), FABLE)


@pytest.fixture(scope="module")
def fable(fable_page: str) -> Node:
    return read(fable_page)


# the text in colours


def test_the_text_is_all_there(fable: Node) -> None:
    assert fable.one("pre", id="text").text == FABLE


@pytest.mark.parametrize("cell", ["lstm", "rnn"])
def test_places_tell_what_a_plain_loop_finds(cell: str) -> None:
    model = random_model(FABLE, cell)
    spans = [*read(page_of(model, FABLE)).one("pre", id="text").all("span")]
    tokens = model.vocabulary.encode(FABLE)
    assert len(spans) == tokens.size
    assert spans[0].attributes == {"title": "nothing came before: T"}
    for place in (1, 2, 40, 41, 77, 300):
        expected = slow_expectation(model.engine, tokens[:place], len(model.vocabulary))
        bits = -math.log2(dict(expected)[tokens[place]])
        told, *guesses = str(spans[place].attributes["title"]).split("\n")
        assert told == f"{bits:.2f} bits: {spelled_out(FABLE[place])}"
        assert [guess.split(" % ")[1] for guess in guesses] == [
            spelled_out(chr(model.vocabulary.characters[index])) for index, _ in expected[:3]
        ]
        assert [float(guess.split(" %")[0]) for guess in guesses] == pytest.approx(
            [100 * share for _, share in expected[:3]], abs=0.5
        )
        level = f"s{sum(bits >= least for least in (1, 2.5, 4.5, 7))}"
        assert ({level} - {"s0"}) == {c for c in spans[place].classes if c != "n"}


def spelled_out(character: str) -> str:
    return {"\n": "↵", " ": "␣"}.get(character, character)


CLUSTERS = {
    "plain": (["a", "b", "\n"], "char"),
    "marks": (["e\u0301", "u\u0308\u0304", "a"], "char"),
    "joined": (["👩\u200d👧", "b"], "char"),
    "greek": (["α", "β", "\n", "x"], "byte"),
    "emoji": (["👩", "a"], "byte"),
}


@pytest.mark.parametrize("name", CLUSTERS)
def test_what_belongs_together_is_shown_together(name: str) -> None:
    parts, kind = CLUSTERS[name]
    text = "".join(parts)
    vocabulary = Vocabulary.of_bytes() if kind == "byte" else Vocabulary.from_text(text)
    found = clusters_of(vocabulary, vocabulary.encode(text))
    assert [cluster.text for cluster in found] == parts
    assert [cluster.end for cluster in found][:-1] == [cluster.start for cluster in found][1:]
    assert (found[0].start, found[-1].end) == (0, vocabulary.encode(text).size)


def test_bytes_of_no_character_are_told_apart() -> None:
    vocabulary = Vocabulary.of_bytes()
    found = clusters_of(vocabulary, np.frombuffer(b"\xb1a\xce\xff\xce\xb1\x80\x1b", np.uint8))
    assert [c.text for c in found] == ["\\xb1", "a", "\\xce", "\\xff", "α", "\\x80", "\x1b"]
    assert [c.form for c in found] == ["x", "", "x", "x", "", "x", "x"]


def test_marks_without_end_are_cut() -> None:
    text = "a" + "\u0301" * 100
    vocabulary = Vocabulary.from_text(text)
    sizes = [c.end - c.start for c in clusters_of(vocabulary, vocabulary.encode(text))]
    assert sum(sizes) == 101
    assert max(sizes) == 32


def test_activations_are_colored_against_the_largest() -> None:
    text = "abcdefgh"
    vocabulary = Vocabulary.from_text(text)
    clusters = clusters_of(vocabulary, vocabulary.encode(text))
    values = np.array([0.0, 0.09, 0.11, 0.29, 0.31, 0.5, -0.2, -0.4])
    pre = read(by_activation(clusters, values)).one("pre")
    assert pre.text == text
    assert [(span.text, span.attributes["class"]) for span in pre.all("span")] == [
        *[("cd", "high1"), ("ef", "high2"), ("g", "low1"), ("h", "low2")]
    ]
    assert "span" not in by_activation(clusters, np.zeros(8))


# the numbers of the page


def test_the_figures_are_those_of_evaluation(fable: Node) -> None:
    model = random_model(FABLE)
    found = model.evaluate(FABLE)
    tiles = dict(zip((n.text for n in fable.all("dt")), (n.text for n in fable.all("dd"))))  # noqa: B905
    assert tiles["bits per character"] == f"{found.bits_per_char:.4f}"
    assert tiles["perplexity"] == f"{found.perplexity:.3f}"
    assert tiles["parameters"] == f"{model.config.num_parameters:,}"
    ranking = tables_of(fable)["Bits per character, the best first"][1:]
    assert {name: bits for name, bits, _ in ranking} == {
        "this model": f"{found.bits_per_char:.4f}",
        "uniform": f"{math.log2(len(model.vocabulary)):.4f}",
    }


def test_training_text_brings_the_rivals() -> None:
    model = random_model(FABLE)
    training = model.vocabulary.encode(FABLE[::-1]).astype(np.uint32)
    page = read(page_of(model, FABLE, training=training))
    rows = tables_of(page)["Bits per character, the best first"][1:]
    expected = baselines(model.vocabulary.encode(FABLE), model.vocabulary, training)
    expected["this model"] = model.evaluate(FABLE).bits_per_char
    assert [name for name, _, _ in rows] == sorted(expected, key=lambda name: expected[name])
    assert [bits for _, bits, _ in rows] == [f"{expected[name]:.4f}" for name, _, _ in rows]
    widths = [float(str(one.attributes["width"])[:-1]) for one in page.all("rect")]
    assert widths == pytest.approx(
        [100 * expected[name] / max(expected.values()) for name, _, _ in rows], abs=0.06
    )
    assert page.one("svg", **{"class": "own"})


def test_the_curve_has_its_table(fable: Node) -> None:
    rows = tables_of(fable)["The curve"][1:]
    assert [[float(cell) for cell in row] for row in rows] == [
        pytest.approx(
            [p["step"], p["bits_per_char"], p["loss"] / math.log(2), p["learning_rate"]], rel=1e-4
        )
        for p in HISTORY
    ]


def test_the_surprises_are_the_largest_surprisals(fable: Node) -> None:
    model = random_model(FABLE)
    bits = surprisal_bits(model.engine, model.vocabulary.encode(FABLE))
    rows = tables_of(fable)["The most surprising places, the most first"][1:]
    assert [row[3] for row in rows] == [f"{b:.2f}" for b in sorted(bits[1:], reverse=True)[:12]]
    for place, before, came, told, _ in rows:
        at = int(place) - 1
        assert told == f"{bits[at]:.2f}"
        assert (spelled_out(FABLE[at]), FABLE[:at].replace("\n", "↵")[-24:]) == (came, before)


@pytest.mark.parametrize("record", [{}, {"objective": "last", "sequence_length": 7}])
def test_units_and_memory_are_those_of_inspection(record: dict[str, Any]) -> None:
    model = random_model(FABLE, **record)
    page = read(page_of(model, FABLE))
    tables = tables_of(page)
    tokens = model.vocabulary.encode(FABLE)
    where: tuple[Any, ...] = (model.config, model.tensors, tokens)
    matches = find_units(activations(*where, window=model.window), text_features(FABLE))
    signed = [f"{match.correlation:+.2f}".replace("-", "−") for match in matches]
    assert tables["The units that follow each most closely"][1:] == [
        [match.feature, str(match.unit), told] for match, told in zip(matches, signed, strict=True)
    ]
    heads = [head.text for head in page.all("h3") if head.text.startswith("Unit ")]
    best = sorted(zip(matches[::3], signed[::3], strict=True), key=lambda m: -abs(m[0].correlation))
    assert heads == [f"Unit {m.unit}: {m.feature} ({told})" for m, told in best[: len(heads)]]
    assert 1 <= len(heads) <= 8
    norms = gradient_norms(*where, distance=100, window=model.window)
    rows = tables["How much the past moves the loss"][1:]
    assert [int(k) for k, _ in rows] == list(range(norms.size))
    told_norms = [float(norm.replace("−", "-")) for _, norm in rows]
    assert told_norms == pytest.approx(norms.tolist(), rel=6e-3)


def test_a_unit_is_shown_where_what_it_follows_varies() -> None:
    text = "plain\n" * 100 + "PLAIN\nplain\n" * 20 + "plain\n" * 100
    vocabulary = Vocabulary.from_text(text)
    clusters = clusters_of(vocabulary, vocabulary.encode(text))
    shown = _stretch(clusters, text_features(text)["capital"])
    assert len(shown) == 240
    assert re.fullmatch("(plain\n|PLAIN\n)+", joined := "".join(c.text for c in shown))
    assert joined.count("PLAIN") == 20
    chinese = "一二三四五六七八" * 60 + "X九" * 20 + "一" * 500
    vocabulary = Vocabulary.from_text(chinese)
    clusters = clusters_of(vocabulary, vocabulary.encode(chinese))
    shown = _stretch(clusters, text_features(chinese)["capital"])
    assert "X九" * 20 in "".join(cluster.text for cluster in shown)
    assert _stretch(clusters[:5], text_features(chinese[:5])["capital"]) == clusters[:5]


def slow_reach(norms: list[float], part: float) -> int:
    total = math.fsum(norms)
    for count in range(1, len(norms) + 1):
        if math.fsum(norms[:count]) >= part * total:
            return count
    raise AssertionError


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_how_far_back_half_lies_is_that_of_a_plain_loop(part: float) -> None:
    rng = np.random.default_rng(1)
    for size in (1, 2, 3, 100):
        norms = rng.random(size) * 0.9 ** np.arange(size)
        assert reach(norms, part) == slow_reach(norms.tolist(), part)
    assert reach(np.array([1.0, 1.0]), 0.5) == 1
    assert reach(np.zeros(3), 0.5) == 1


# which text


def test_the_held_out_part_of_its_corpus_is_the_text(sequence_model: Path) -> None:
    model = chargen.load(sequence_model)
    corpus = own_corpus(model)
    assert corpus is not None
    found = own_subject(model, corpus)
    assert found.tokens.tolist() == model.held_out_part([PANGRAMS]).tolist()
    assert "held-out part" in found.name


def own_model(tmp_path: Path, text: str, **record: Any) -> chargen.Model:
    """One that says that it was trained on a file of ``text``."""
    path = tmp_path / "own.txt"
    path.write_text(text)
    model = random_model(text, corpus=[str(path)], **record)
    read_again = chargen.corpus.read_corpus([path], val_fraction=record.get("val_fraction"))
    model.training["corpus_sha256"] = read_again.sha256()
    return model


def test_a_corpus_of_which_nothing_was_held_out_is_the_text(tmp_path: Path) -> None:
    model = own_model(tmp_path, FABLE, val_fraction=0)
    found = own_subject(model, own_corpus(model))
    assert model.vocabulary.decode(found.tokens) == FABLE
    assert "has learned from it" in found.origin


def test_a_corpus_that_is_not_as_it_was_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = own_model(tmp_path, FABLE)
    path = tmp_path / "own.txt"
    assert own_corpus(model) is not None
    monkeypatch.setattr(subject, "_LARGEST_CORPUS", len(FABLE.encode()) - 1)
    assert own_corpus(model) is None
    monkeypatch.undo()
    path.write_text(FABLE.replace("wolf", "lamb"))
    assert own_corpus(model) is None
    path.unlink()
    assert own_corpus(model) is None
    for names in (None, ["-"], ["/dev/zero"], [str(tmp_path)], ["a\0b"]):
        model.training["corpus"] = names
        assert own_corpus(model) is None
    found = own_subject(model, None)
    assert found.tokens.size == 3000
    assert found.tokens.tolist() == own_subject(model, None).tokens.tolist()
    assert "wrote it" in found.origin


# the command

REPORT = ("report", "--text", "text.txt")


def test_the_page_is_written_and_its_commands_work(
    run: Command, sequence_model: Path, tmp_path: Path
) -> None:
    text = PANGRAMS.read_text()[:2000]
    (tmp_path / "text.txt").write_text(text)
    assert good(run(*REPORT, "-m", sequence_model)) == b""
    data = (tmp_path / "report.html").read_bytes()
    assert len(data) < LIMIT
    page = read(data.decode())
    check_structure(page)
    assert page.one("pre", id="text").text == text
    info = json.loads(good(run("info", "-m", sequence_model, "--json")))
    repeat, *commands = (p.text for p in page.all("p", **{"class": "command"}))
    assert repeat == info["command"]
    samples = [one.text for one in page.all("pre", **{"class": "text plain"})]
    assert len(commands) == len(samples) == 3
    for command, sample in zip(commands, samples, strict=True):
        program, *words = shlex.split(command)
        assert program == "chargen"
        written = good(run(*words)).decode()
        assert written == sample + "\n" * (not sample.endswith("\n"))
    assert good(run(*REPORT, "-m", sequence_model, "-o", "-")) == data
    assert [path.name for path in tmp_path.iterdir()] != []


def test_alone_it_measures_the_held_out_part_against_all_that_learned_from_the_rest(
    run: Command, sequence_model: Path
) -> None:
    page = read(good(run("report", "-m", sequence_model, "-o", "-")).decode())
    figures = ("evaluate", PANGRAMS, "--held-out", "--json", "-m", sequence_model)
    found = json.loads(good(run(*figures, "--train-text", PANGRAMS)))
    rows = tables_of(page)["Bits per character, the best first"][1:]
    expected = {**found["baselines"], "this model": found["bits_per_char"]}
    assert {name: bits for name, bits, _ in rows} == {
        name: f"{bits:.4f}" for name, bits in expected.items()
    }
    named = run("report", "-m", sequence_model, "-o", "-", "--train-text", PANGRAMS)
    assert read(good(named).decode()).text == page.text


def test_a_page_that_exists_is_overwritten_only_with_force(
    run: Command, sequence_model: Path, tmp_path: Path
) -> None:
    path = tmp_path / "report.html"
    path.write_text("mine")
    (tmp_path / "text.txt").write_text("Some text.")
    same = (*REPORT, "-m", sequence_model)
    is_refused(run(*same), USAGE, "report.html", "exists", "--force")
    assert path.read_text() == "mine"
    assert good(run(*same, "--force")) == b""
    assert path.read_text().startswith("<!doctype html>")


def test_without_its_corpus_it_shows_what_the_model_writes_and_says_so(
    run: Command, greek_model: Path
) -> None:
    ended = run("report", "-m", greek_model, "-o", "-")
    assert ended.status == 0
    assert len(ended.lines) == 1
    assert "--text" in ended.stderr
    assert "wrote it" in read(ended.text).one("header").text


@pytest.mark.parametrize("model", ["windowed_model", "byte_model", "greek_model", "lines_model"])
def test_every_kind_of_model_has_a_page(
    model: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    loaded = chargen.load(request.getfixturevalue(model))
    found = own_subject(loaded, own_corpus(loaded))
    made = report(loaded, found, facts=FACTS, repeat=None, generate="chargen generate")
    page = read(made)
    check_structure(page)
    assert len(made.encode()) < LIMIT
    unit = "byte" if model == "byte_model" else "character"
    assert f"bits per {unit}" in [term.text for term in page.all("dt")]
    assert ("windows of 10 characters" in page.text) == (model == "windowed_model")


BAD = [
    ("--text - --train-text -", USAGE, ("'-'", "twice")),
    ("--text missing.txt", FAILED, ("missing.txt",)),
    ("--text empty.txt", TEXT, ("at least 2",)),
    ("--text snow.txt", TEXT, ("☃", "--unknown skip")),
    ("--text text.txt -o nowhere/page.html", FAILED, ("nowhere",)),
    ("--text text.txt --train-text empty.txt", TEXT, ("--train-text",)),
    ("--text text.txt -m none.keras", MODEL, ("none.keras",)),
]


@pytest.mark.parametrize(("words", "status", "told"), BAD)
def test_mistakes(
    words: str,
    status: int,
    told: tuple[str, ...],
    run: Command,
    sequence_model: Path,
    tmp_path: Path,
) -> None:
    (tmp_path / "text.txt").write_text("Some text.\n")
    (tmp_path / "snow.txt").write_text("Some snow ☃.\n")
    (tmp_path / "empty.txt").write_text("")
    model = () if "-m" in words else ("-m", sequence_model)
    is_refused(run("report", *model, *words.split()), status, *told)
    assert not (tmp_path / "report.html").exists()


def test_training_text_without_a_text_to_compare_on_is_refused(
    run: Command, greek_model: Path
) -> None:
    is_refused(run("report", "-m", greek_model, "--train-text", PANGRAMS), USAGE, "--text")


def test_skipped_characters_are_counted(run: Command, sequence_model: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("Some ☃☃ snow.\n")
    page = good(run(*REPORT, "-m", sequence_model, "--unknown", "skip", "-o", "-")).decode()
    assert "less 2 that it does not know" in read(page).one("header").text


def test_it_needs_neither_tensorflow_nor_matplotlib(sequence_model: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("Some text.\n")
    loaded = loaded_by_command(*REPORT, "-m", sequence_model, folder=tmp_path)
    assert "numpy" in loaded
    assert not loaded & {"tensorflow", "keras", "matplotlib", "rich"}
