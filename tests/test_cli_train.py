"""``chargen train`` as a real process: what it says, what it leaves, and how it ends."""

import json
import re
import shutil
import signal
from pathlib import Path

import pytest
from conftest import PANGRAMS, Command

import chargen

SMALL = ("--cell", "rnn", "--units", 16, "--embedding-dim", 8)
ENDLESS = (*SMALL, "--steps", 1_000_000, "--validate-every", 3)

FORMS = [
    re.compile(form)
    for form in (
        r"[\d,]+ characters to learn from, [\d,]+ held out, [\d,]+ different;"
        r" (RNN|LSTM|GRU) \d+ x \d+, [\d,]+ parameters; batch \d+ x \d+",
        r"step [\d,]+/[\d,]+  loss \d+\.\d{4}  held out \d+\.\d{4} bits per character( \(best\))?"
        r"  [\d,]+ characters/s",
        r"  \| .*",  # a sample of what the model writes
        r"note: .+",
        r"\S+(, \d+\.\d{4} bits per character on the held-out text)?\."
        r" Next: chargen generate( -m \S+)?",
        r"stopped at step [\d,]+; \S+(, \d+\.\d{4} bits per character on the held-out text)?\."
        r" Go on: chargen train .+ --resume",
    )
]


def are_ours(lines: list[str]) -> None:
    """Each line is of a form that chargen writes: nothing of TensorFlow or Keras."""
    assert [line for line in lines if not any(form.fullmatch(line) for form in FORMS)] == []


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def writes_text(model: Path) -> None:
    assert len(chargen.load(model).generate("The ", length=50)) == 50


def test_a_corpus_from_a_pipe(run: Command, tmp_path: Path) -> None:
    finished = run("train", "-", *SMALL, "--steps", 20, stdin=PANGRAMS.read_bytes())
    assert (finished.status, finished.stdout) == (0, b"")
    are_ours(finished.lines)
    assert finished.lines[0].startswith("10,053 characters to learn from, 1,118 held out")
    steps = [line for line in finished.lines if line.startswith("step ")]
    assert steps[0].startswith("step 1/20 ")
    assert steps[-1].startswith("step 20/20 ")
    last = finished.lines[-1]
    assert last.startswith("chargen.keras, ")
    assert last.endswith("Next: chargen generate")
    held_out = chargen.load(tmp_path / "chargen.keras").training["held_out"]["bits_per_char"]
    assert f" {held_out:.4f} bits per character" in last
    assert names(tmp_path) == {"chargen.keras", "chargen.keras.resume"}
    following = run.shell(f"{last.partition('Next: ')[2]} -n 20")
    assert (following.status, following.stderr) == (0, "")


def test_a_terminal_shows_a_bar(run: Command, tmp_path: Path) -> None:
    steps = ("--steps", 400, "-o", "it's new.keras")
    status, shown = run.on_terminal("train", PANGRAMS, *SMALL, *steps, stream="stderr")
    assert status == 0
    for sign in ("starting TensorFlow", "compiling", "━", "0:0", "chars/s", "loss ", "held out"):
        assert sign in shown
    assert "Traceback" not in shown
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)
    last = plain.strip().splitlines()[-1]
    assert last.endswith("""Next: chargen generate -m 'it'"'"'s new.keras'""")
    assert shown.count("\x1b[?25h") >= shown.count("\x1b[?25l") > 0  # the cursor is back
    assert names(tmp_path) == {"it's new.keras", "it's new.keras.resume"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_keeps_what_was_learned(
    number: signal.Signals, run: Command, tmp_path: Path
) -> None:
    process = run.start("train", PANGRAMS, *ENDLESS, "-o", "kept.keras")
    assert process.stderr is not None
    lines = []
    while not lines or not lines[-1].startswith("step 6/"):
        lines.append(process.stderr.readline().decode("utf-8").rstrip("\n"))
        assert lines[-1], f"it ended early: {lines}"
    process.send_signal(number)
    output, rest = process.communicate(timeout=30)
    assert (process.returncode, output) == (-number, b"")
    lines += rest.decode("utf-8").splitlines()
    are_ours(lines)
    assert lines[-1].startswith("stopped at step ")
    assert names(tmp_path) == {"kept.keras", "kept.keras.resume"}
    writes_text(tmp_path / "kept.keras")
    assert run("info", "-m", "kept.keras").status == 0


def test_ctrl_c_before_the_first_step_leaves_nothing(run: Command, tmp_path: Path) -> None:
    process = run.start("train", PANGRAMS, *ENDLESS)
    assert process.stderr is not None
    assert b"characters to learn from" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    output, rest = process.communicate(timeout=60)
    assert (process.returncode, output) == (-signal.SIGINT, b"")
    assert rest.strip() == b""
    assert names(tmp_path) == set()


def test_a_reader_of_stderr_that_leaves_costs_no_model(run: Command, tmp_path: Path) -> None:
    small = " ".join(map(str, (*SMALL, "--steps", 5)))
    finished = run.shell(f"chargen train {PANGRAMS} {small} 2>&1 | head -1")
    assert finished.status == 0
    assert finished.stdout.count(b"\n") == 1
    writes_text(tmp_path / "chargen.keras")


def test_a_budget_is_kept_and_force_overwrites_quietly(
    run: Command, sequence_model: Path, tmp_path: Path
) -> None:
    shutil.copy(sequence_model, tmp_path / "old.keras")
    (tmp_path / "large.txt").write_text(PANGRAMS.read_text("utf-8") * 300)
    for budget in (12, 24):  # a busy machine may need more than the first only to start
        options = ("--budget", f"{budget}s", "--force", "--quiet", "-o", "old.keras")
        finished = run("train", "large.txt", *SMALL, *options)
        assert (finished.status, finished.stdout, finished.stderr) == (0, b"", "")
        if finished.seconds == pytest.approx(budget, abs=0.15 * 12):
            break
    assert finished.seconds == pytest.approx(budget, abs=0.15 * 12)
    assert names(tmp_path) == {"old.keras", "old.keras.resume", "large.txt"}
    writes_text(tmp_path / "old.keras")
    told = json.loads(run("info", "-m", "old.keras", "--json").stdout)
    assert (told["training"]["budget"], told["model"]["units"]) == (None, 16)
    assert told["training"]["steps"] > 20  # a step takes some milliseconds
    assert f"--steps {told['training']['steps']} " in told["command"]


def test_init_goes_on_from_a_model_and_its_vocabulary_grows(
    run: Command, sequence_model: Path, tmp_path: Path
) -> None:
    text = PANGRAMS.read_text("utf-8").replace(" and ", " & ") * 2 + "#"
    (tmp_path / "new.txt").write_text(text)
    brief = ("--steps", 8, "-o", "tuned.keras")
    finished = run("train", "new.txt", "--init", sequence_model, *brief)
    assert finished.status == 0, finished.stderr
    are_ours(finished.lines)
    known, tuned = chargen.load(sequence_model), chargen.load(tmp_path / "tuned.keras")
    old, new = set(known.vocabulary.characters), set(tuned.vocabulary.characters)
    assert new - old == {ord("&"), ord("#")}
    assert old < new
    fresh = chargen.train(text=text, cell="lstm", units=32, embedding_dim=16, steps=8)
    assert tuned.training["held_out"]["characters"] == fresh.training["held_out"]["characters"]
    bits = [model.training["held_out"]["bits_per_char"] for model in (tuned, fresh)]
    assert bits[0] < bits[1] - 0.1
    assert "--init" in json.loads(run("info", "-m", "tuned.keras", "--json").stdout)["command"]
