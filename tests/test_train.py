"""``chargen.train`` in this process: what it learns, repeats, keeps and tells."""

import json
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import CORPORA, PANGRAMS, SEQUENCE

import chargen
from chargen.archive import read_archive
from chargen.evaluation import surprisal_blocks
from chargen.training.events import (
    Event,
    Note,
    Planned,
    Progress,
    Sample,
    Saved,
    Stage,
    Validated,
)

SMALL = {"units": 16, "embedding_dim": 8}


def of_kind(events: list[Event], kind: type) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def tensors(path: Path) -> dict[str, Any]:
    return read_archive(path).tensors


def losses(model: chargen.Model) -> list[float]:
    return [point["loss"] for point in model.history]


def is_sound(model: chargen.Model, text: str) -> None:
    """It writes characters of its text, and every figure of it is a number."""
    new = model.generate(length=40, random_seed=1)
    assert len(new) == 40
    assert set(new) <= set(text)
    assert math.isfinite(model.evaluate(text).bits_per_char)
    assert all(math.isfinite(loss) for loss in losses(model))


def test_a_run_tells_what_happens_and_can_be_repeated_to_the_byte(
    sequence_model: Path, tmp_path: Path
) -> None:
    events: list[Event] = []
    path = tmp_path / "again.keras"
    model = chargen.train(PANGRAMS, output=path, listener=events.append, **SEQUENCE)
    assert path.read_bytes() == sequence_model.read_bytes()

    kinds = [type(event) for event in events]
    assert kinds[0] is Stage
    assert kinds.count(Planned) == kinds.count(Saved) == 1
    assert kinds[-1] is Saved
    assert set(kinds[: kinds.index(Planned)]) == {Stage}
    first, last = kinds.index(Progress), len(kinds) - 1 - kinds[::-1].index(Progress)
    assert kinds.index(Planned) < first < kinds.index(Validated) == kinds.index(Sample) - 1
    assert last < len(kinds) - 3  # a validation, a sample and the end come after the last step
    assert kinds[-3:] == [Validated, Sample, Saved]

    [planned], [saved] = of_kind(events, Planned), of_kind(events, Saved)
    assert planned.model == model.config
    assert (planned.characters, planned.held_out_characters) == (10053, 1118)
    assert planned.steps == SEQUENCE["steps"] == saved.steps
    assert (saved.path, saved.interrupted) == (str(path), False)
    assert saved.bits_per_char == model.training["held_out"]["bits_per_char"]
    steps = [event.step for event in of_kind(events, Progress)]
    assert steps == sorted(set(steps))
    assert steps[-1] == SEQUENCE["steps"]

    looks = of_kind(events, Validated)
    assert [look.step for look in looks] == [point["step"] for point in model.history]
    best = [look.bits_per_char for look in looks if look.is_best]
    assert best == sorted(best, reverse=True)
    assert best[-1] == min(look.bits_per_char for look in looks)
    assert looks[-1].loss < looks[0].loss - 0.5


def test_another_random_seed_is_another_model(sequence_model: Path) -> None:
    other = chargen.train(text=PANGRAMS.read_text("utf-8"), **{**SEQUENCE, "random_seed": 2})
    one, two = chargen.load(sequence_model), other
    assert one.config == two.config
    assert one.vocabulary == two.vocabulary
    assert one.training["characters"] == two.training["characters"]
    assert losses(one) != losses(two)
    assert one.generate(length=80, random_seed=0) != two.generate(length=80, random_seed=0)


@pytest.mark.parametrize(
    ("model", "corpus"),
    [
        ("sequence_model", PANGRAMS),
        ("windowed_model", PANGRAMS),
        ("lines_model", CORPORA / "places.txt"),
    ],
)
def test_the_figure_of_training_is_that_of_evaluate_and_of_the_slow_twin(
    model: str, corpus: Path, request: pytest.FixtureRequest
) -> None:
    loaded = chargen.load(request.getfixturevalue(model))
    tokens = loaded.held_out_part([corpus])
    recorded = loaded.training["held_out"]
    assert recorded["characters"] == tokens.size - 1
    found = loaded.evaluate(loaded.vocabulary.decode(tokens))
    assert found.bits_per_char == pytest.approx(recorded["bits_per_char"], abs=1e-4)
    assert found.accuracy == pytest.approx(recorded["accuracy"], abs=1e-3)
    blocks = surprisal_blocks(loaded.engine, tokens, window=loaded.window, sequential=True)
    nats = sum(float(surprisal.sum(dtype=np.float64)) for _, surprisal, _ in blocks)
    bits = nats / (tokens.size - 1) / math.log(2)
    assert bits == pytest.approx(recorded["bits_per_char"], abs=1e-4)


def test_the_held_out_part_is_the_end_of_the_text(sequence_model: Path) -> None:
    text = PANGRAMS.read_text("utf-8")
    model = chargen.load(sequence_model)
    held_out = model.vocabulary.decode(model.held_out_part([PANGRAMS]))
    assert text.endswith(held_out)
    assert len(held_out) == pytest.approx(len(text) / 10, abs=1)
    assert model.training["characters"] == len(text) - len(held_out)


def test_lines_are_held_out_whole(lines_model: Path) -> None:
    model = chargen.load(lines_model)
    held_out = model.vocabulary.decode(model.held_out_part([CORPORA / "places.txt"]))
    lines = held_out.removesuffix("\n").split("\n")
    places = (CORPORA / "places.txt").read_text("utf-8").splitlines()
    assert held_out.endswith("\n")
    assert set(lines) < set(places)
    assert len(lines) == pytest.approx(len(places) / 10, abs=1)
    assert lines != places[-len(lines) :]


def test_an_overfit_run_ends_by_patience_and_keeps_its_best_weights() -> None:
    letters = np.random.default_rng(0).choice(list("abcdefgh"), 600)
    text = "".join(letters)  # nothing to learn but by heart
    events: list[Event] = []
    model = chargen.train(
        text=text,
        cell="gru",
        units=64,
        learning_rate=0.02,
        val_fraction=0.3,
        steps=2000,
        validate_every=15,
        patience=4,
        listener=events.append,
    )
    curve = [point["bits_per_char"] for point in model.history]
    best = int(np.argmin(curve))
    assert best == len(curve) - 1 - 4  # four looks without a gain, and no more
    assert model.history[-1]["step"] < 2000
    assert curve[-1] > curve[best] + 0.1
    assert model.training["best_step"] == model.history[best]["step"]
    assert model.evaluate(text[-180:]).bits_per_char == pytest.approx(curve[best], abs=1e-4)
    assert "no gain in 4 validations" in of_kind(events, Note)[-1].text


def test_a_run_that_is_stopped_keeps_what_it_has() -> None:
    asked = iter([False] * 6 + [True])
    events: list[Event] = []
    text = PANGRAMS.read_text("utf-8")[:4000]
    model = chargen.train(
        text=text,
        cell="rnn",
        steps=5000,
        validate_every=4,
        is_stopped=lambda: next(asked),
        listener=events.append,
        **SMALL,
    )
    [saved] = of_kind(events, Saved)
    assert (saved.steps, saved.interrupted, saved.path) == (7, True, None)
    assert [point["step"] for point in model.history] == [4, 7]
    is_sound(model, text)


@pytest.mark.parametrize(
    "text", ["aba", "aaa", "abracadab\n", "The cat sat on the mat.\n" * 4 + "Pst!"]
)
def test_the_smallest_corpora_train(text: str) -> None:
    events: list[Event] = []
    model = chargen.train(
        text=text, cell="rnn", epochs=3, batch_size=4, listener=events.append, **SMALL
    )
    is_sound(model, text)
    training = model.training
    assert (training["epochs"], training["steps"]) == (3, None)
    assert model.history[-1]["step"] >= 3
    assert training["batch_size"] * training["sequence_length"] < training["characters"]
    notes = " ".join(note.text for note in of_kind(events, Note))
    assert ("--batch-size" in notes) == (training["batch_size"] < 4)
    assert (training["held_out"] is None) == ("too little text" in notes) == (len(text) < 20)


def test_three_hundred_characters_and_nothing_held_out(tmp_path: Path) -> None:
    characters = [chr(0x3041 + number) for number in range(200)]
    characters += [chr(0x1F600 + number) for number in range(50)]
    characters += [chr(0x20 + number) for number in range(50)]
    text = "".join(characters) * 4
    path = tmp_path / "many.keras"
    model = chargen.train(
        text=text, output=path, val_fraction=0, steps=60, cell="rnn", units=32, learning_rate=0.02
    )
    assert len(model.vocabulary) == 300
    assert model.training["held_out"] is None
    assert model.training["best_step"] == 60
    assert all("bits_per_char" not in point for point in model.history)
    assert losses(model)[-1] < losses(model)[0]
    assert model.evaluate(text).bits_per_char < math.log2(300)
    loaded = chargen.load(path)
    is_sound(loaded, text)
    assert loaded.generate("😀", length=20, random_seed=3) == model.generate(
        "😀", length=20, random_seed=3
    )


def test_a_wild_learning_rate_makes_no_broken_model(tmp_path: Path) -> None:
    path = tmp_path / "wild.keras"
    text = PANGRAMS.read_text("utf-8")[:3000]
    try:
        chargen.train(text=text, output=path, learning_rate=10, steps=60, cell="rnn", **SMALL)
    except chargen.RunError as error:
        assert "--learning-rate" in str(error)
        assert list(tmp_path.iterdir()) == []
    else:
        assert all(np.isfinite(tensor).all() for tensor in tensors(path).values())
        with zipfile.ZipFile(path) as archive:
            json.loads(archive.read("metadata.json"), parse_constant=pytest.fail)
        is_sound(chargen.load(path), text)


def test_two_layers_with_dropout_learn() -> None:
    text = PANGRAMS.read_text("utf-8")
    model = chargen.train(
        text=text,
        cell="gru",
        num_layers=2,
        dropout=0.2,
        units=24,
        learning_rate=0.01,
        steps=60,
        validate_every=10,
    )
    assert (model.config.num_layers, model.config.dropout) == (2, 0.2)
    curve = [point["bits_per_char"] for point in model.history]
    assert losses(model)[-1] < losses(model)[0] - 0.4
    assert curve[-1] < curve[0] - 0.2
    is_sound(model, text)


def test_init_keeps_the_weights_of_the_characters_it_knows(
    sequence_model: Path, tmp_path: Path
) -> None:
    path = tmp_path / "grown.keras"
    text = "é" + PANGRAMS.read_text("utf-8")[:2000] + "#"
    model = chargen.train(text=text, init=sequence_model, output=path, steps=1, learning_rate=1e-8)
    known = chargen.load(sequence_model)
    rows = [model.vocabulary.index(chr(point)) for point in known.vocabulary.characters]
    assert len(model.vocabulary) == len(rows) + 2
    old, new = tensors(sequence_model), tensors(path)
    assert old.keys() == new.keys()
    for name, kept in old.items():
        found = new[name]
        if name == "embedding":
            found = found[rows]
        elif name.startswith("head/"):
            found = found[..., rows]
        np.testing.assert_allclose(found, kept, rtol=0, atol=1e-6)
    assert model.training["init"] == str(sequence_model)


def test_a_run_is_refused_before_it_starts(sequence_model: Path, tmp_path: Path) -> None:
    before = sequence_model.read_bytes()
    heard: list[Event] = []
    for options, kind in (
        ({"corpus": PANGRAMS, "text": "both"}, chargen.UsageError),
        ({}, chargen.UsageError),
        ({"text": "abc" * 9, "output": sequence_model}, chargen.UsageError),
        ({"text": "abc" * 9, "output": tmp_path / "none" / "x.keras"}, chargen.RunError),
        ({"text": "abc" * 9, "epochs": 1, "steps": 1}, chargen.UsageError),
        ({"corpus": tmp_path / "none.txt", "steps": 0}, chargen.UsageError),
        ({"text": "x"}, chargen.TextError),
        ({"text": "abc" * 9, "init": tmp_path / "none.keras"}, chargen.ModelFileError),
    ):
        with pytest.raises(kind):
            chargen.train(**options, listener=heard.append)
    assert of_kind(heard, Planned) == []
    assert sequence_model.read_bytes() == before
    assert list(tmp_path.iterdir()) == []
