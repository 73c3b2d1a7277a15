"""The options of ``chargen generate``, as real processes, against the library in this one."""

import json
import math
import shlex
from pathlib import Path
from typing import Any

import pytest
from conftest import GREEK, Command
from test_cli import good
from test_cli_errors import TEXT, USAGE, is_refused

import chargen
from chargen.config import SamplingConfig
from chargen.generation import Generated, StopRules

SAMPLING = SamplingConfig().to_dict()


def samples(path: Path, seed: str = "", **options: Any) -> list[Generated]:
    """What the library makes of the same request."""
    config = SamplingConfig(**{k: options.pop(k) for k in list(options) if k in SAMPLING})
    return list(chargen.load(path).samples(seed, sampling=config, **options))


def records(run: Command, *arguments: Any, **options: Any) -> list[dict[str, Any]]:
    lines = good(run("generate", "--json", *arguments, **options)).decode("utf-8").split("\n")
    assert lines.pop() == ""
    return [json.loads(line) for line in lines]


# the seed


@pytest.mark.parametrize(
    ("data", "seed"),
    [
        (b"The quick ", "The quick "),
        (b"The quick\n", "The quick"),
        (b"The quick\r\n", "The quick"),
        (b"The quick\n\n", "The quick\n"),
        (b"\xef\xbb\xbfThe\nquick\n", "The\nquick"),
        (b"", ""),
    ],
)
def test_a_seed_file_is_read_less_one_line_break(
    data: bytes, seed: str, run: Command, sequence_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "seed.txt").write_bytes(data)
    same = ("-m", sequence_model, "-n", 20, "--greedy")
    (record,) = records(run, *same, "--seed-file", "seed.txt")
    assert record["seed"] == seed
    assert record["text"] == chargen.load(sequence_model).generate(seed, length=20, temperature=0)


def test_a_dash_reads_the_seed_from_stdin(run: Command, greek_model: Path) -> None:
    piped = {"stdin": "κ 😀\n".encode(), "env": {"LC_ALL": "C"}}
    same = ("-m", greek_model, "--seed-file", "-", "-n", 9, "--random-seed", 1)
    text = good(run("generate", *same, **piped)).decode()
    assert text.startswith("κ 😀")
    assert len(text.removesuffix("\n")) == 12


def test_a_seed_file_that_is_missing_or_no_text(
    run: Command, sequence_model: Path, tmp_path: Path
) -> None:
    same = ("generate", "-m", sequence_model, "--seed-file")
    is_refused(run(*same, "missing.txt"), 1, "missing.txt", "no such file")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    is_refused(run(*same, "latin.txt"), TEXT, "latin.txt", "0xe9")
    is_refused(run(*same, "-", stdin="☃".encode()), TEXT, "'☃' (U+2603)", "the seed")


def test_a_byte_model_reads_a_seed_file_as_it_is(run: Command, byte_model: Path) -> None:
    same = ("generate", "-m", byte_model, "-n", 0, "--seed-file", "-")
    assert good(run(*same, stdin=b"\xff\x00\r\n")) == b"\xff\x00\n"


def test_no_echo_leaves_the_seed_of_every_text_out(run: Command, sequence_model: Path) -> None:
    same = ("generate", "-m", sequence_model, "--seed", "A ", "-n", 5, "--num-samples", 3)
    echoed = good(run(*same, "--random-seed", 1)).decode()
    assert echoed.count("A ") >= 3
    texts = samples(sequence_model, "A ", rules=StopRules(5), num_samples=3, random_seed=1)
    assert good(run(*same, "--random-seed", 1, "--no-echo")) == joined([t.data for t in texts])


def joined(texts: list[bytes]) -> bytes:
    """Each text ended by a line break, unless it ends with one."""
    return b"".join(text + b"\n" * (text[-1:] != b"\n") for text in texts)


def test_a_seed_of_digits_gets_a_hint_on_stderr_alone(run: Command, byte_model: Path) -> None:
    same = ("generate", "-m", byte_model, "-n", 5, "--greedy", "--seed")
    finished = run(*same, "42")
    assert (finished.status, len(finished.lines)) == (0, 1)
    assert "--random-seed" in finished.stderr
    assert "42" in finished.stderr
    assert finished.stdout.startswith(b"42")
    assert run(*same, "42a").stderr == ""


# escapes


def test_escapes_are_read_where_they_are_asked_for(run: Command, byte_model: Path) -> None:
    same = ("generate", "-m", byte_model, "-n", 0, "--seed", r"a\n\t\r\0\\n")
    assert good(run(*same, "-e")) == b"a\n\t\r\0\\n\n"
    assert good(run(*same, "--escape", "--num-samples", 2, "--delimiter", r"\0")) == (
        b"a\n\t\r\0\\n\0a\n\t\r\0\\n\n"
    )
    assert good(run(*same)) == rb"a\n\t\r\0\\n" + b"\n"


def test_escapes_in_stop_ban_and_only(run: Command, lines_model: Path) -> None:
    same = ("-m", lines_model, "-n", 300, "--random-seed", 2, "-e")
    (record,) = records(run, *same, "--stop", r"\n")
    assert record["finish_reason"] == "stop"
    assert "\n" not in record["text"]
    (record,) = records(run, *same, "--ban", r"\n")
    assert "\n" not in record["text"]
    (record,) = records(run, *same, "--only", r"\n")
    assert record["text"] == "\n" * 300


@pytest.mark.parametrize("option", ["--seed", "--stop", "--delimiter", "--ban", "--only"])
def test_a_bad_escape_is_refused(option: str, run: Command, sequence_model: Path) -> None:
    bad = r"a\qb" if option == "--seed" else "end\\"
    is_refused(run("generate", "-m", sequence_model, "-e", option, bad), USAGE, "escape", "-e")


# when a text ends


@pytest.mark.parametrize(
    "line",
    [
        "-n inf | head -c 1000",
        "-n inf --surprisal | head -c 1000",
        "--lines 99999999 | head -c 1000",
    ],
)
def test_an_endless_text_ends_with_its_reader(line: str, run: Command, lines_model: Path) -> None:
    finished = run.shell(f"chargen generate -m {shlex.quote(str(lines_model))} {line}")
    assert len(good(finished)) == 1000
    assert finished.seconds < 20


def test_readers_of_many_texts_may_leave(run: Command, sequence_model: Path) -> None:
    model = shlex.quote(str(sequence_model))
    many = f"chargen generate -m {model} -n 40 --num-samples 1000000"
    assert good(run.shell(f"{many} | head -n 3")).count(b"\n") == 3
    assert good(run.shell(f"{many} --json | head -n 1")).count(b"\n") == 1


def test_stop_strings_end_the_text_before_the_first_of_them(
    run: Command, sequence_model: Path
) -> None:
    whole = chargen.load(sequence_model).generate(length=2000, random_seed=4)
    first, second = whole[30:33], whole[50:53]
    end = min(whole.index(first), whole.index(second))
    stop = first if whole.index(first) == end else second
    same = ("generate", "-m", sequence_model, "-n", "inf", "--random-seed", 4)
    same = (*same, "--stop", second, "--stop", "☃☃", "--stop", first)
    assert good(run(*same)) == joined([whole[:end].encode()])
    kept = good(run(*same, "--keep-stop"))
    assert kept == joined([(whole[:end] + stop).encode()])


def test_until_newline_and_lines(run: Command, lines_model: Path) -> None:
    whole = chargen.load(lines_model).generate(length=3000, random_seed=6)
    lines = whole.split("\n")
    same = ("generate", "-m", lines_model, "--random-seed", 6)
    assert good(run(*same, "--until-newline")).decode() == lines[0] + "\n"
    assert good(run(*same, "--lines", 3)).decode() == "\n".join(lines[:3]) + "\n"
    assert good(run(*same, "--lines", 0)) == b""
    assert good(run(*same, "--lines", 3, "-n", 4)).decode() == whole[:4].rstrip("\n") + "\n"


def test_many_names_are_a_line_each(run: Command, lines_model: Path) -> None:
    same = {"num_samples": 12, "random_seed": 3, "rules": StopRules(None, (b"\n",))}
    texts = [sample.data for sample in samples(lines_model, **same)]
    assert all(texts)
    found = good(
        run(
            "generate",
            "-m",
            lines_model,
            "--until-newline",
            "--num-samples",
            12,
            "--random-seed",
            3,
        )
    )
    assert found == b"\n".join(texts) + b"\n"


def test_a_delimiter_stands_between_texts(run: Command, sequence_model: Path) -> None:
    same = {"num_samples": 3, "random_seed": 3, "rules": StopRules(8)}
    texts = [b"The " + sample.data for sample in samples(sequence_model, "The ", **same)]
    arguments = (
        "-m",
        sequence_model,
        "-p",
        "The ",
        "-n",
        8,
        "--num-samples",
        3,
        "--random-seed",
        3,
    )
    found = good(run("generate", *arguments, "-e", "--delimiter", r"\n--\n"))
    assert found == joined([b"\n--\n".join(texts)])
    assert good(run("generate", *arguments, "--delimiter", "")) == joined([b"".join(texts)])


# what is drawn


def test_filters_are_those_of_the_library(run: Command, sequence_model: Path) -> None:
    sampling: dict[str, Any] = {
        "temperature": 1.1,
        "top_k": 9,
        "top_p": 0.9,
        "min_p": 0.03,
        "repetition_penalty": 1.2,
        "repetition_window": 7,
    }
    options = [f"--{name.replace('_', '-')}={value}" for name, value in sampling.items()]
    same = ("-m", sequence_model, "-n", 120, "--random-seed", 5)
    model = chargen.load(sequence_model)
    expected = model.generate(length=120, random_seed=5, **sampling)
    assert records(run, *same, *options)[0]["text"] == expected
    assert good(run("generate", *same, *options)) == joined([expected.encode()])
    assert expected != model.generate(length=120, random_seed=5, temperature=1.1)


def test_ban_and_only(run: Command, greek_model: Path) -> None:
    same = ("-m", greek_model, "-n", 200, "--temperature", 3)
    (record,) = records(run, *same, "--ban", "αβ😀\n☃", env={"LC_ALL": "C"})
    assert not set(record["text"]) & set("αβ😀\n")
    (record,) = records(run, *same, "--only", "αβ☃😀", "--ban", "β")
    assert set(record["text"]) == {"α", "😀"}
    for nothing in (["--only", "☃"], ["--only", "αβ", "--ban", "βα"], ["--ban", GREEK]):
        is_refused(run("generate", *same, *nothing), USAGE, "--only", "--ban")


# JSON


def test_json_tells_all_of_each_text(run: Command, lines_model: Path) -> None:
    same = ("-m", lines_model, "-n", 15, "--lines", 1, "--stop", "x", "--seed", "A")
    found = records(run, *same, "--num-samples", 9, "--random-seed", 30)
    expected = samples(
        lines_model,
        "A",
        rules=StopRules(15, (b"x",), lines=1),
        num_samples=9,
        random_seed=30,
        scored=True,
    )
    for record, sample in zip(found, expected, strict=True):
        assert record == {
            "text": sample.data.decode(),
            "seed": "A",
            "finish_reason": sample.finish_reason,
            "characters": sample.tokens,
            "log_probability": pytest.approx(-(sample.nats or 0)),
            "bits_per_char": pytest.approx(
                -record["log_probability"] / math.log(2) / sample.tokens
            ),
            "random_seed": sample.random_seed,
        }
    assert {"lines", "length"} <= {record["finish_reason"] for record in found}
    (again,) = records(run, *same, "--random-seed", 34)
    assert {**again, "log_probability": 0, "bits_per_char": 0} == {
        **found[4],
        "log_probability": 0,
        "bits_per_char": 0,
    }


def test_json_of_no_text_and_of_bytes(run: Command, byte_model: Path) -> None:
    (record,) = records(run, "-m", byte_model, "-n", 0)
    assert (record["text"], record["characters"], record["bits_per_char"]) == ("", 0, None)
    assert record["log_probability"] == 0
    (record,) = records(run, "-m", byte_model, "-n", 40, "--temperature", 9, b"--seed=\xff")
    assert record["seed"] == "\ufffd"
    assert "\ufffd" in record["text"]
    assert record["characters"] == 40


# refusals


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--seed", "a", "--seed-file", "-"], ["--seed-file"]),
        (["--until-newline", "--lines", "2"], ["--until-newline", "--lines"]),
        (["--until-newline", "--keep-stop"], ["--until-newline", "--keep-stop"]),
        (["--greedy", "--temperature", "0"], ["--greedy", "--temperature"]),
        (["--num-samples", "2", "-n", "inf"], ["-n"]),
        (["--json", "-n", "inf"], ["-n"]),
        (["--stop", ""], ["--stop"]),
        (["-n", "infinite"], ["--length", "inf"]),
    ],
)
def test_options_that_cannot_be_together(
    options: list[str], words: list[str], run: Command, sequence_model: Path
) -> None:
    is_refused(run("generate", "-m", sequence_model, *options), USAGE, *words)


def test_lines_of_a_model_that_never_saw_a_line_break(run: Command, tmp_path: Path) -> None:
    path = tmp_path / "flat.keras"
    chargen.train(text="abc " * 200, cell="rnn", units=4, steps=2, output=path)
    for option in (["--lines", "2"], ["--until-newline"]):
        is_refused(run("generate", "-m", path, *option), USAGE, "line break", "-n")
    assert len(good(run("generate", "-m", path, "--lines", 2, "-n", 5))) == 6
