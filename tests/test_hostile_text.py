"""Text that is not trusted, through real processes: in a pipe it goes out as it is, on a terminal
it is made safe, nothing crashes and nothing is changed in silence."""

import io
import json
import os
import re
import shlex
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from conftest import Command
from hypothesis import given
from hypothesis import strategies as st
from model_files import HISTORY, RECORD
from networks import random_tensors, small_config, stock_network
from test_cli import good
from test_cli_errors import FAILED, MODEL, TEXT, USAGE, is_refused
from test_cli_output import STYLED
from test_spool import memory_of, needs_proc

import chargen
from chargen.archive import write_archive
from chargen.cli.consoles import json_line, one_line, shell_word, terminal_safe
from chargen.cli.progress import display
from chargen.config import TrainingConfig
from chargen.training.events import Note, Planned, Progress, Sample, Saved, Validated
from chargen.vocabulary import Vocabulary

KINDS = {
    "escape sequences": "red \x1b[31m, a title \x1b]0;owned\x07, all gone \x1b[2J\x1bc\x7f\b",
    "C1 controls": "\x9b31m \x85 \x90 \x9d0;owned\x9c",
    "overrides": "\u202egnp.exe\u202c \u202a\u202b\u202d \u2066x\u2069\u2067\u2068",
    "NUL": "a\0b",
    "byte order mark": "a\ufeffb",
    "line ends": "one\r\ntwo\rthree\x0b\x0c\x1c\u2028\u2029\n\n\t",
    "combining": "e\u0301 é u\u0308\u0304 क्षि",
    "joined": "👨\u200d👩\u200d👧\u200d👦 👍🏽 🇫🇷 🏴\U000e0067\U000e0062\U000e007f ❤\ufe0f",
    "right to left": "שלום עולם, السلام عليكم \u200f\u061c",
    "wide and rare": "日本語 𝔘𐎀 \U0010ffff\ufffe\ue000\ufffd",
    "markup": "[bold red]x[/] :smile: %s {0} $HOME `ls` \\x1b",
}
HOSTILE = "".join(f"{name}: {text}\n" for name, text in KINDS.items())
CURSOR = re.compile(r"\x1b\[[0-9;?]*[A-Zhlm]|\r")  # what Rich moves and colours with
EMBEDDINGS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
# No UTF-8, an escape, a line end, a C1 control, an override, an emoji's name, signs of the shell.
ODD_NAME = os.fsdecode(b"no \xe9 \x1b[31m\n\xc2\x9bA\xe2\x80\xae:smile: it's \\ $HOME.txt")


def is_obeyed(character: str) -> bool:
    """By the Unicode database: a control but for tab and line feed, or what turns text about."""
    is_control = unicodedata.category(character) == "Cc" and character not in "\t\n"
    return is_control or unicodedata.bidirectional(character) in EMBEDDINGS


def shown(text: str) -> str:
    """What a terminal is sent in the place of ``text``."""
    return "".join("\ufffd" if is_obeyed(c) else c for c in text.replace("\r", ""))


def untrained(path: Path, text: str, corpus: str = "some.txt") -> Path:
    """A model of random weights for the characters of ``text``, as Keras gives it away."""
    vocabulary = Vocabulary.from_text(text)
    config = small_config("rnn", vocabulary_size=len(vocabulary))
    network = stock_network(config, random_tensors(config))
    from chargen.training.export import export

    record = {**RECORD, "corpus": [corpus]}
    write_archive(path, export(network, config, vocabulary, record, HISTORY))
    return path


@pytest.fixture(scope="session")
def hostile_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of two hundred characters, most of which nobody wants on a terminal."""
    return untrained(tmp_path_factory.mktemp("models") / "hostile.keras", HOSTILE)


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    path = tmp_path / "hostile.txt"
    path.write_bytes(HOSTILE.encode())
    return path


# generate


def test_a_pipe_gets_the_characters_as_they_are(run: Command, hostile_model: Path) -> None:
    same = ("generate", "-m", hostile_model, "-n", 300, "--temperature", 3, "--random-seed", 1)
    new = chargen.load(hostile_model).generate(
        HOSTILE[:-1], length=300, temperature=3, random_seed=1
    )
    assert {"\x1b", "\u202e", "\x9b", "\u200d", "\u0301", "\0", "\r"} <= set(new + HOSTILE)
    assert sum(map(is_obeyed, new)) > 20
    expected = HOSTILE[:-1] + new + "\n" * (new[-1] != "\n")
    piped = {"stdin": HOSTILE.encode(), "env": {"LC_ALL": "C"}}
    assert good(run(*same, "--seed-file", "-", **piped)) == expected.encode()
    seed = HOSTILE.replace("\0", "")
    echoed = good(run(*same[:3], "-n", 0, "--seed", seed, env={"LC_ALL": "C"}))
    assert echoed == seed.encode()


@pytest.mark.parametrize("options", [(), ("--num-samples", 2, "--delimiter", "\x1b[0m\u202e")])
def test_generate_is_safe_on_a_terminal(
    options: tuple[Any, ...], run: Command, hostile_model: Path, text_file: Path
) -> None:
    same = ("generate", "-m", hostile_model, "--seed-file", text_file, "--random-seed", 1)
    same = (*same, "-n", 300, "--temperature", 3, *options)
    piped = good(run(*same)).decode()
    assert run.on_terminal(*same, stream="stdout") == (0, shown(piped))


def test_colors_are_the_only_escapes_on_a_terminal(
    run: Command, hostile_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    same = ("generate", "-m", hostile_model, "-n", 200, "--temperature", 3, "--random-seed", 1)
    piped = good(run(*same)).decode()
    status, colored = run.on_terminal(*same, "--surprisal", stream="stdout")
    assert (status, STYLED.sub(r"\2", colored)) == (0, shown(piped))


def test_a_byte_model_is_safe_on_a_terminal(run: Command, byte_model: Path, tmp_path: Path) -> None:
    (tmp_path / "seed").write_bytes(b"\xff\xc2" + HOSTILE.encode() + b"\xf0\x9f")
    same = ("generate", "-m", byte_model, "--seed-file", "seed", "-n", 100, "--random-seed", 1)
    piped = good(run(*same))
    assert piped.startswith(b"\xff\xc2" + HOSTILE.encode() + b"\xf0\x9f")
    expected = shown(piped.decode("utf-8", "replace"))
    assert run.on_terminal(*same, stream="stdout") == (0, expected)


def test_json_says_the_same_in_a_pipe_and_on_a_terminal(
    run: Command, hostile_model: Path, text_file: Path
) -> None:
    generate = ("generate", "--seed-file", text_file, "-n", 99, "--random-seed", 1)
    for command in (generate, ("score", text_file)):
        same = (*command, "--json", "-m", hostile_model)
        piped = good(run(*same)).decode()
        assert {"\x9b", "\u202e", "\ufeff", "\u200d", "ש"} <= set(piped)
        status, told = run.on_terminal(*same, stream="stdout")
        assert status == 0
        assert not any(map(is_obeyed, told))
        found, expected = (
            [json.loads(line) for line in text.split("\n")[:-1]] for text in (told, piped)
        )
        assert found == expected
    assert [record["line"] for record in expected] == HOSTILE.split("\n")[:-1]


# score, evaluate


def test_score_gives_lines_back_as_they_came(
    run: Command, hostile_model: Path, text_file: Path
) -> None:
    data = HOSTILE.encode() + b"\xff\xfe \xed\xa0\x80 \xc3\n\xe2\x82"
    found = good(run("score", "-m", hostile_model, stdin=data, env={"LC_ALL": "C"}))
    assert [line.partition(b"\t")[2] for line in found.split(b"\n")[:-1]] == data.split(b"\n")
    piped = good(run("score", "-m", hostile_model, text_file)).decode()
    on_terminal = run.on_terminal("score", "-m", hostile_model, text_file, stream="stdout")
    assert on_terminal == (0, shown(piped))


def test_score_takes_models_of_any_name(run: Command, hostile_model: Path, tmp_path: Path) -> None:
    name = os.fsencode(ODD_NAME.replace("\n", "\t\n"))
    os.symlink(hostile_model, os.fsencode(tmp_path) + b"/" + name + b".keras")
    models = (b"-m", name + b".keras", "-m", hostile_model)
    line = "שלום".encode()
    (row,) = good(run("score", *models, stdin=line)).decode().splitlines()
    told, _, back = row.split("\t")
    assert back.encode() == line
    assert told == one_line(os.fsdecode(name))
    assert not any(map(is_obeyed, told))
    (record,) = map(json.loads, good(run("score", *models, "--json", stdin=line)).splitlines())
    assert record["model"] == os.fsdecode(name)


def test_a_byte_order_mark_at_the_head_is_no_text(
    run: Command, hostile_model: Path, text_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "marked.txt").write_bytes(b"\xef\xbb\xbf" + HOSTILE.encode())
    for command in ("evaluate", "score"):
        plain = good(run(command, "-m", hostile_model, text_file))
        marked = good(run(command, "-m", hostile_model, "marked.txt"))
        shows_mark = command == "score"  # which gives each line back as it came
        assert marked.replace(b"\xef\xbb\xbf", b"", shows_mark) == plain
    figures = json.loads(good(run("evaluate", "-m", hostile_model, "marked.txt", "--json")))
    assert figures["characters"] == len(HOSTILE) - 1  # nothing was merged, split or lost


# names


def test_info_shows_a_name_of_any_kind_on_one_line(run: Command, tmp_path: Path) -> None:
    corpus = f"folder/{ODD_NAME}"
    odd = untrained(tmp_path / f"{ODD_NAME}.keras", "abc", corpus)
    piped = good(run("info", "-m", odd)).decode()
    assert run.on_terminal("info", "-m", odd, stream="stdout") == (0, piped)
    assert not any(map(is_obeyed, piped))
    assert all(re.match("[a-z ]{13} ", line) for line in piped.split("\n")[:-1])

    told = json.loads(good(run("info", "-m", odd, "--json")))
    assert (told["path"], told["training"]["corpus"]) == (str(odd), [corpus])
    assert f"repeat        {told['command']}\n" in piped
    words = good(run.shell(f"printf '%s\\0' {told['command']}")).split(b"\0")
    assert words[:2] == [b"chargen", b"train"]
    assert words[-2:] == [os.fsencode(corpus), b""]


def test_info_is_safe_on_a_terminal(run: Command, hostile_model: Path) -> None:
    piped = good(run("info", "-m", hostile_model)).decode()
    assert run.on_terminal("info", "-m", hostile_model, stream="stdout") == (0, piped)
    piped = good(run("info", "-m", hostile_model, "--json")).decode()
    status, told = run.on_terminal("info", "-m", hostile_model, "--json", stream="stdout")
    assert status == 0
    assert not any(map(is_obeyed, told))
    assert json.loads(told) == json.loads(piped)
    assert json.loads(piped)["vocabulary"]["characters"] == sorted(set(HOSTILE))


def test_a_run_on_odd_names_is_told_safely_and_keeps_crlf(run: Command, tmp_path: Path) -> None:
    (tmp_path / ODD_NAME).write_bytes(b"ab\r\n" * 300)
    output = f"{ODD_NAME}.keras"
    options = ("--steps", 80, "--cell", "rnn", "--units", 16, "-o", output)
    status, sent = run.on_terminal("train", ODD_NAME, *options, stream="stderr")
    assert status == 0
    assert f"{one_line(output)}, " in sent
    assert f"Next: chargen generate -m {shell_word(output)}" in sent
    assert not any(map(is_obeyed, CURSOR.sub("", sent)))

    generate = ("generate", "-m", output, "--greedy")
    assert good(run(*generate, "-n", 12)) == b"ab\r\n" * 3
    assert good(run(*generate, "--lines", 2)) == b"ab\r\n" * 2
    assert good(run(*generate, "--seed", "ab\r\na", "-n", 3)) == b"ab\r\nab\r\n"
    assert run.on_terminal(*generate, "-n", 12, stream="stdout") == (0, "ab\n" * 3)


class Screen(io.TextIOWrapper):
    def __init__(self, *, is_terminal: bool) -> None:
        super().__init__(io.BytesIO(), "utf-8")
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal


@pytest.mark.parametrize("is_terminal", [False, True])
def test_samples_and_notes_are_shown_as_they_are(
    is_terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = Screen(is_terminal=is_terminal)
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr("chargen.cli.progress._SAMPLE_INTERVAL", 0.0)
    monkeypatch.setenv("TERM", "xterm")
    with display(("corpus.txt",), quiet=False) as listener:
        listener(Sample(HOSTILE))
        listener(Note(f"{ODD_NAME} is odd"))
        listener(Saved(f"{ODD_NAME}.keras", 3, False, None, "character"))
    screen.flush()
    sent = screen.buffer.getvalue().decode()  # type: ignore[attr-defined]
    rest = CURSOR.sub("", sent)
    assert not any(map(is_obeyed, rest))
    for whole in ("markup", "joined", "right to left", "wide and rare", "combining"):
        assert shown(KINDS[whole]) in rest
    assert f"{one_line(ODD_NAME)} is odd\n" in rest
    assert f"{one_line(ODD_NAME)}.keras. Next: " in rest


@pytest.mark.parametrize("unit", ["character", "byte"])
def test_a_run_is_told_in_what_it_counts(unit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", screen := Screen(is_terminal=False))
    with display(("corpus.txt",), quiet=False) as listener:
        listener(Planned(small_config("gru"), TrainingConfig(steps=9), 900, 99, unit, 9))
        listener(Progress(9, 9, 0.5, 1234.0, 0.0))
        listener(Validated(9, 9, 0.5, 1.25, True))
        listener(Saved("model.keras", 9, False, 1.25, unit))
    plan, step, last = screen.buffer.getvalue().decode().splitlines()  # type: ignore[attr-defined]
    assert plan.startswith(f"900 {unit}s to learn from, 99 held out,")
    assert step.endswith(f"held out 1.2500 bits per {unit} (best)  1,234 {unit}s/s")
    assert last.startswith(f"model.keras, 1.2500 bits per {unit} on the held-out text.")


# errors


def test_no_error_brings_what_a_terminal_obeys(run: Command, hostile_model: Path) -> None:
    bad = "x\x1b[31m\x1b]0;owned\x07\u202e\x9b1A\n\r\x85\u2028"
    for status, *words in (
        (MODEL, "info", "-m", bad),
        (MODEL, "score", "-m", bad),
        (FAILED, "train", bad),
        (FAILED, "generate", "-m", hostile_model, "--seed-file", bad),
        (FAILED, "score", "-m", hostile_model, bad),
        (FAILED, "evaluate", "-m", hostile_model, bad),
        (TEXT, "generate", "-m", hostile_model, "--seed", f"{bad}☃"),
        (USAGE, "generate", "--temperature", bad),
        (USAGE, "generate", "-n", bad),
        (USAGE, "generate", f"--{bad}"),
        (USAGE, "generate", "-e", "--stop", f"\\{bad[1:]}"),
        (USAGE, "train", "x", "--encoding", bad),
        (USAGE, "completion", bad),
        (USAGE, bad),
    ):
        finished = run(*words)
        is_refused(finished, status)
        assert not any(map(is_obeyed, finished.stderr)), words
        assert "\u2028" not in finished.stderr
        assert shown(bad) not in finished.stderr


def test_arguments_that_are_no_utf_8(run: Command, hostile_model: Path, byte_model: Path) -> None:
    same = ("generate", "-m", hostile_model, "-n", 9, "--random-seed", 1)
    is_refused(run(*same, b"--seed=e\xff"), TEXT, "ff", "at character 2", "--unknown")
    skipped = good(run(*same, b"--seed=e\xff", "--unknown", "skip"))
    new = chargen.load(hostile_model).generate("e", length=9, random_seed=1)
    assert skipped.startswith(b"e\xff" + new.encode())
    options = (b"--ban=\xff\xfe", b"--stop=\xff", b"--delimiter=\xff\xfe", "--num-samples", 2)
    texts = good(run(*same, *options, "--temperature", 3)).split(b"\xff\xfe")
    assert [len(text.decode()) for text in texts[:1]] == [9]
    assert len(texts) == 2
    only = good(run("generate", "-m", byte_model, "-n", 9, b"--only=\xff\xfe", b"--ban=\xff"))
    assert only == b"\xfe" * 9 + b"\n"
    missing = run("train", b"caf\xe9.txt")
    is_refused(missing, FAILED, "caf\\", "e9.txt")


# size


def test_sixty_thousand_characters(run: Command, tmp_path: Path) -> None:
    points = [*range(0x20, 0xD800), *range(0x1F000, 0x1F000 + 60_000 - (0xD800 - 0x20))]
    text = "".join(map(chr, points))
    model = untrained(tmp_path / "wide.keras", text)
    (tmp_path / "few.txt").write_text(text[::2000], "utf-8", newline="")
    generate = ("generate", "-n", 5, "--random-seed", 1, "-m", model)
    for words in ((), ("--top-p", 0.9)):
        finished = run(*generate, *words)
        assert len(good(finished).decode().removesuffix("\n")) == 5
        assert finished.seconds < 30
    told = json.loads(good(run("info", "--json", "-m", model)))
    assert told["vocabulary"]["characters"] == list(text)
    figures = json.loads(good(run("evaluate", "few.txt", "--json", "-m", model)))
    assert figures["characters"] == len(text[::2000]) - 1
    assert len(good(run("score", "few.txt", "-m", model)).decode().split("\t")) == 2


@needs_proc
def test_a_corpus_of_one_long_line_stays_out_of_memory(tmp_path: Path) -> None:
    for lines in ("", "lines"):
        (tmp_path / lines).mkdir(exist_ok=True)
        size, grown, at_most = memory_of(tmp_path / lines, "one long line ", 40, lines)
        assert size > 39_000_000
        assert grown < 60
        assert at_most < 300


@needs_proc
def test_a_long_line_is_scored_in_memory_of_its_own_size(
    run: Command, hostile_model: Path, tmp_path: Path
) -> None:
    def peak(size: int) -> int:
        """The most bytes that scoring a line of ``size`` characters takes."""
        (tmp_path / "line").write_bytes(b"one long line " * (size // 14))
        process = run.start("score", "-m", hostile_model, "line", stdout=-3)  # DEVNULL
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        process.communicate()
        assert process.returncode == 0
        return used.ru_maxrss * 1024

    assert peak(8_000_000) - peak(14) < 9 * 8_000_000


# the functions that make safe

any_text = st.text(st.characters() | st.sampled_from([*HOSTILE, "\ud800", "\udcff"]), max_size=30)


@given(any_text)
def test_terminal_safe_changes_what_a_terminal_obeys_and_nothing_else(text: str) -> None:
    assert terminal_safe(text) == shown(text)


@given(any_text)
def test_one_line_is_one_safe_line(text: str) -> None:
    line = one_line(text)
    assert not any(is_obeyed(c) or c in "\n\t\u2028\u2029" for c in line)
    line.encode()
    plain = "".join(c for c in text if one_line(c) == c)
    assert one_line(plain) == plain
    assert plain == "".join(
        c
        for c in text
        if not (is_obeyed(c) or c in "\n\t\u2028\u2029" or "\ud800" <= c <= "\udfff")
    )


@given(st.dictionaries(any_text, any_text, max_size=3), st.booleans())
def test_json_line_is_json_of_the_same(record: dict[str, str], is_terminal: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", Screen(is_terminal=is_terminal))
        line = json_line(record).decode()
    assert json.loads(line) == record
    assert line.endswith("}\n")
    assert not (is_terminal and any(map(is_obeyed, line)))


def test_bash_reads_a_shell_word_as_it_was(run: Command) -> None:
    words = [b"", b"plain.txt", b"a b", b"it's", b"-x", b"*", b"~", b"!x", b"\\", b"\\'\n"]
    words += [bytes([byte]) + tail for byte in range(1, 256) for tail in (b"", b"7 'a")]
    words += [text.replace("\0", "").encode() for text in KINDS.values()]
    words += [os.fsencode(ODD_NAME), b"\xed\xa0\x80"]
    line = " ".join(shell_word(os.fsdecode(word)) for word in words)
    assert not any(map(is_obeyed, line))
    assert "\n" not in line
    assert good(run.shell(f"printf '%s\\0' {line}")).split(b"\0")[:-1] == words
    plain = "it's a plain name.txt"
    assert shell_word(plain) == shlex.quote(plain)
