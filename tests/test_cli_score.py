"""``chargen score``, a filter, and ``chargen completion``, as real processes."""

import json
import os
import select
import shlex
import signal
from pathlib import Path
from typing import Any

import pytest
from conftest import Command
from test_cli import good
from test_cli_errors import USAGE, is_refused
from test_walls import HEAVY, loaded_by_command

import chargen

NAMES = ["Oxford", "", "a", "Xyzzy", "New York", "", "Kingston upon Hull"]
BIG = "The quick brown fox\n" * 60_000


def table(output: bytes) -> list[list[str]]:
    lines = output.decode("utf-8").split("\n")
    assert lines.pop() == ""
    return [line.split("\t") for line in lines]


def bits_of(path: Path, *lines: str | bytes) -> list[float]:
    return [score.bits_per_char for score in chargen.load(path).score(lines)]


# score


@pytest.mark.parametrize("model", ["lines_model", "windowed_model", "byte_model"])
def test_a_line_out_for_a_line_in(
    model: str, run: Command, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    path = request.getfixturevalue(model)
    found = good(run("score", "-m", path, stdin="\n".join(NAMES).encode() + b"\n"))
    assert [line for _, line in table(found)] == NAMES
    expected = bits_of(path, *NAMES)
    assert [float(bits) for bits, _ in table(found)] == pytest.approx(expected, abs=1e-4)
    assert all(len(bits.partition(".")[2]) == 4 for bits, _ in table(found))

    (tmp_path / "names.txt").write_text("\n".join(NAMES))  # without the last line break
    assert good(run("score", "-m", path, "names.txt")) == found


def test_json_has_the_line_and_its_bits(run: Command, lines_model: Path) -> None:
    data = "\n".join(NAMES).encode() + b"\nna\xefve\n"
    lines = good(run("score", "-m", lines_model, "--json", stdin=data)).decode().splitlines()
    found = [json.loads(line) for line in lines]
    assert [record["line"] for record in found] == [*NAMES, "na\ufffdve"]
    expected = bits_of(lines_model, *NAMES, "na\udcefve")
    assert [record["bits_per_char"] for record in found] == pytest.approx(expected, rel=1e-5)
    assert {frozenset(record) for record in found} == {frozenset({"line", "bits_per_char"})}


def test_several_models_name_the_likelier_of_them(
    run: Command, sequence_model: Path, greek_model: Path
) -> None:
    lines = ["The quick brown fox", "αβγδε ζηθικ", "jig, hop and quarrel", "😀 λμνξο"]
    same: dict[str, Any] = {"stdin": "\n".join(lines).encode(), "env": {"LC_ALL": "C"}}
    models = ("-m", sequence_model, "--model", greek_model)
    both = [bits_of(path, *lines) for path in (sequence_model, greek_model)]
    best = list(map(min, zip(*both, strict=True)))
    found = table(good(run("score", *models, **same)))
    assert [(name, line) for name, _, line in found] == list(
        zip(["sequence", "greek"] * 2, lines, strict=True)
    )
    assert [float(bits) for _, bits, _ in found] == pytest.approx(best, abs=1e-4)

    told = good(run("score", *models, "--json", **same)).decode().splitlines()
    for line, record, *bits in zip(lines, map(json.loads, told), *both, strict=True):
        assert record == {
            "line": line,
            "bits_per_char": pytest.approx(min(bits), rel=1e-5),
            "model": "sequence" if bits[0] < bits[1] else "greek",
            "models": {
                "sequence": pytest.approx(bits[0], rel=1e-5),
                "greek": pytest.approx(bits[1], rel=1e-5),
            },
        }


def test_models_of_one_name_are_told_apart_by_their_paths(
    run: Command, sequence_model: Path, greek_model: Path, tmp_path: Path
) -> None:
    for folder, source in (("a", sequence_model), ("b", greek_model)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "m.keras").symlink_to(source)
    models = ("-m", "a/m.keras", "-m", "b/m.keras")
    found = good(run("score", *models, stdin="αβγδε\n".encode()))
    assert table(found)[0][0] == "b/m.keras"


def test_unknown_characters_cost_as_much_as_any_of_unicode(run: Command, lines_model: Path) -> None:
    found = table(good(run("score", "-m", lines_model, stdin="☃\n\n☃☃\n".encode())))
    one, none, two = (float(bits) for bits, _ in found)
    assert (2 * one - none) == pytest.approx(20.0875, abs=1e-3)
    assert (3 * two - none) == pytest.approx(2 * 20.0875, abs=1e-3)


def test_a_carriage_return_is_kept_and_not_scored(run: Command, lines_model: Path) -> None:
    found = good(run("score", "-m", lines_model, stdin=b"Oxford\r\nOxford\n"))
    first, second = found.split(b"\n")[:2]
    assert first == second + b"\r"


def test_bytes_come_out_as_they_came_in(run: Command, byte_model: Path) -> None:
    data = b"\xff\xfe\n\x00\t\xe2\x98\n"
    found = good(run("score", "-m", byte_model, stdin=data, env={"LC_ALL": "C"}))
    lines = data.split(b"\n")[:2]
    assert [line.split(b"\t", 1)[1] for line in found.split(b"\n")[:2]] == lines
    bits = [float(line.split(b"\t")[0]) for line in found.split(b"\n")[:2]]
    assert bits == pytest.approx(bits_of(byte_model, *lines), abs=1e-4)


def test_nothing_in_is_nothing_out(run: Command, lines_model: Path) -> None:
    assert good(run("score", "-m", lines_model)) == b""
    assert table(good(run("score", "-m", lines_model, stdin=b"\n")))[0][1] == ""


def test_lines_longer_than_a_block_and_many_of_them(run: Command, lines_model: Path) -> None:
    long = "Upper Slaughter " * 4200  # a read takes 64 KiB
    lines = [long, *[f"Hull {number}" for number in range(3000)]]
    found = table(good(run("score", "-m", lines_model, stdin="\n".join(lines).encode())))
    assert [line for _, line in found] == lines
    few = [0, 1, 2, 1500, 3000]
    expected = [*bits_of(lines_model, long), *bits_of(lines_model, *(lines[n] for n in few[1:]))]
    assert [float(found[number][0]) for number in few] == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize("options", ["", "--json"])
def test_a_reader_that_leaves_is_no_error(
    options: str, run: Command, lines_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "big.txt").write_text(BIG)
    score = f"chargen score {options} -m {shlex.quote(str(lines_model))}"
    finished = run.shell(f"{score} big.txt | head -n 1")
    assert good(finished).count(b"\n") == 1
    assert finished.seconds < 10
    endless = run.shell(f"yes Oxford | {score} | head -n 1; echo ${{PIPESTATUS[1]}}")
    assert good(endless).split(b"\n")[1:] == [b"0", b""]


def test_a_line_is_answered_before_the_next_is_asked_for(run: Command, lines_model: Path) -> None:
    pipes = {"stdin": -1}  # subprocess.PIPE
    with run.start("score", "-m", lines_model, **pipes) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for name in (b"Oxford", b"Hull", b""):
            process.stdin.write(name + b"\n")
            process.stdin.flush()
            assert select.select([process.stdout], [], [], 20)[0], "no answer"
            answer = os.read(process.stdout.fileno(), 1000)
            assert answer.endswith(b"\t" + name + b"\n")
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=20)
    assert (process.returncode, rest, errors.strip()) == (-signal.SIGINT, b"", b"")


def test_what_score_refuses(run: Command, lines_model: Path, tmp_path: Path) -> None:
    model = shlex.quote(str(lines_model))
    is_refused(run("score", "-m", lines_model, "missing.txt"), 1, "missing.txt")
    is_refused(run("score", "-m", lines_model, tmp_path), 1, str(tmp_path), "cannot be read")
    is_refused(run("score", "-m", lines_model, "-m", lines_model), USAGE, "twice", "-m/--model")
    is_refused(run("score"), 4, "chargen.keras", "-m/--model")
    is_refused(run.shell(f"chargen score -m {model} <&-"), 1, "standard input is closed")
    for closed in (">/dev/full", ">&-"):
        is_refused(run.shell(f"echo Hull | chargen score -m {model} {closed}"), 1, "output")


def test_the_variable_names_the_model(run: Command, lines_model: Path) -> None:
    found = run("score", stdin=b"Hull\n", env={"CHARGEN_MODEL": str(lines_model)})
    assert good(found) == good(run("score", "-m", lines_model, stdin=b"Hull\n"))


# completion

COMPLETE = """
eval "$(chargen completion bash)"
complete -p chargen
for line in "$@"; do
  COMP_WORDS=($line); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMPREPLY=()
  _chargen_completion chargen
  echo "${COMPREPLY[@]}"
done
"""


def test_bash_completes_commands_and_options(run: Command) -> None:
    lines = ("chargen gen", "chargen ", "chargen generate --rand", "chargen train --cell l")
    words = ("bash", "--norc", "-c", COMPLETE, "bash")
    told, one, every, option, choice = good(run(*lines, words=words)).decode().splitlines()
    assert "chargen" in told.split()
    assert one.split() == ["generate"]
    assert option.split() == ["--random-seed"]
    assert choice.split() == ["lstm"]
    assert every == ""  # no word has begun


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_its_script(shell: str, run: Command, tmp_path: Path) -> None:
    script = good(run("completion", shell)).decode()
    assert f"_CHARGEN_COMPLETE={shell}_complete" in script
    assert script.endswith("\n")


def test_completion_is_light(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for shell in ("bash", "zsh"):
        loaded = loaded_by_command("completion", shell, folder=tmp_path)
        assert "click" in loaded
        assert not loaded & {*HEAVY, "numpy", "rich"}
    for words in ("chargen gen", "chargen generate --rand"):
        monkeypatch.setenv("_CHARGEN_COMPLETE", "zsh_complete")
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
        loaded = loaded_by_command(folder=tmp_path)
        assert "click" in loaded
        assert not loaded & {*HEAVY, "numpy", "rich"}


def test_an_unknown_shell_or_an_output_that_takes_nothing(run: Command) -> None:
    is_refused(run("completion", "tcsh"), USAGE, "tcsh", "bash")
    is_refused(run("completion"), USAGE, "bash", "zsh", "fish")
    for closed in (">/dev/full", ">&-"):
        is_refused(run.shell(f"chargen completion bash {closed}"), 1, "output")
