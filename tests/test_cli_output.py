"""Where ``chargen generate`` writes to: full and closed outputs, terminals and their colours."""

import contextlib
import math
import os
import re
import shlex
import signal
from pathlib import Path

import pytest
from conftest import Command
from test_cli import good
from test_cli_errors import is_refused

import chargen
from chargen.generation import StopRules


@pytest.mark.parametrize("line", ["--num-samples 3 -n 9", "--json -n 9", "--surprisal -n 9"])
@pytest.mark.parametrize("closed", [">/dev/full", ">&-"])
def test_an_output_that_takes_nothing_is_one_line(
    line: str, closed: str, run: Command, sequence_model: Path
) -> None:
    model = shlex.quote(str(sequence_model))
    is_refused(run.shell(f"chargen generate -m {model} {line} {closed}"), 1, "output")


def test_nothing_is_read_from_stdin(run: Command, sequence_model: Path) -> None:
    model = shlex.quote(str(sequence_model))
    for stdin in ("</dev/null", "<&-"):
        assert good(run.shell(f"chargen generate -m {model} -n 9 --greedy {stdin}"))


# a terminal


COLORS = ((0.0, 244), (1.0, 252), (2.5, 228), (4.5, 214), (7.0, 203))  # bits, the 256 colours
STYLED = re.compile("\x1b\\[38;5;(\\d+)m(.*?)\x1b\\[0m", re.DOTALL)


@pytest.mark.parametrize("model", ["greek_model", "windowed_model"])
def test_surprisal_colors_each_new_character_on_a_terminal(
    model: str, run: Command, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = request.getfixturevalue(model)
    seed = "αβγ" if model == "greek_model" else "The "
    same = ("generate", "-m", path, "--seed", seed, "-n", 50, "--random-seed", 1)
    piped = good(run(*same, "--surprisal")).decode()
    assert piped == good(run(*same)).decode()

    monkeypatch.delenv("NO_COLOR", raising=False)
    status, shown = run.on_terminal(*same, "--surprisal", stream="stdout")
    assert (status, STYLED.sub(r"\2", shown)) == (0, piped)
    assert shown.startswith(seed + "\x1b")
    pieces = chargen.load(path).pieces(seed, rules=StopRules(50), random_seed=1)
    expected = []
    for piece in pieces:
        bits = piece.surprisal / math.log(2)
        color = max(number for number in COLORS if bits >= number[0])[1]
        expected.append((str(color), piece.data.decode()))
    assert STYLED.findall(shown) == expected
    assert len({color for color, _ in expected}) > 1

    monkeypatch.setenv("NO_COLOR", "1")
    assert run.on_terminal(*same, "--surprisal", stream="stdout") == (0, piped)
    assert run.on_terminal(*same, stream="stdout") == (0, piped)


def test_characters_of_several_bytes_are_colored_whole(
    run: Command, byte_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    same = ("generate", "-m", byte_model, "-n", 60, "--random-seed", 1)
    status, shown = run.on_terminal(*same, "--surprisal", stream="stdout")
    piped = good(run(*same)).decode("utf-8", "replace")
    assert status == 0
    assert "".join(text for _, text in STYLED.findall(shown)).rstrip() == piped.rstrip("\n\ufffd ")


def test_ctrl_c_on_a_terminal_ends_the_line_and_the_process(
    run: Command, sequence_model: Path
) -> None:
    ours, theirs = os.openpty()
    process = run.start(
        *("generate", "-m", sequence_model, "-n", "inf", "--random-seed", 4),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        preexec_fn=lambda: os.login_tty(theirs),
    )
    os.close(theirs)
    shown = os.read(ours, 100)
    os.write(ours, b"\x03")
    with contextlib.suppress(OSError):  # the other end is closed
        while data := os.read(ours, 4096):
            shown += data
    os.close(ours)
    assert process.wait(30) == -signal.SIGINT
    text = shown.decode().replace("\r\n", "\n").replace("^C", "")
    assert text.endswith("\n")
    expected = chargen.load(sequence_model).generate(length=len(text), random_seed=4)
    assert expected.startswith(text.rstrip("\n"))
