"""What is chosen where the user left it open."""

import time

import pytest
from conftest import PANGRAMS

import chargen
from chargen.training.events import Note, Progress
from chargen.training.recipe import MOST_EPOCHS, model_config, training_config


def chosen(size: int, **given):
    length = {} if {"epochs", "steps", "budget"} & set(given) else {"budget": 100.0}
    how = {**length, **given}
    model = model_config({}, size, 65, how.get("budget"))
    return model, training_config(how, model, size)[0]


@pytest.mark.parametrize(
    ("size", "units", "dropout", "batch_size"),
    [(100, 128, 0.0, 3), (10_000, 128, 0.5, 4), (70_000, 256, 0.5, 32), (10**6, 256, 0.1, 64)],
)
def test_the_size_of_the_corpus_decides(size, units, dropout, batch_size):
    model, training = chosen(size)
    assert (model.units, model.dropout, training.batch_size) == (units, dropout, batch_size)


@pytest.mark.parametrize(
    ("size", "budget", "units", "dropout"),
    [
        (10**6, 60.0, 256, 0.1),
        (10**6, 180.0, 512, 0.3),
        (10**6, 300.0, 512, 0.4),
        (10**6, 3600.0, 512, 0.5),
        (10**6, None, 256, 0.3),
        (10**8, 300.0, 512, 0.0),
        (70_000, 300.0, 256, 0.5),
    ],
)
def test_the_budget_decides_too(size, budget, units, dropout):
    model = model_config({}, size, 65, budget)
    assert (model.units, model.dropout) == (units, dropout)


def test_fewer_streams_learn_at_a_lower_rate():
    rates = [chosen(10**6, batch_size=streams)[1].learning_rate for streams in (8, 16, 64, 128)]
    assert rates == pytest.approx([5e-3, 6.3e-3, 1e-2, 1e-2])


def test_what_is_given_is_kept():
    _, training = chosen(10**6, batch_size=5, sequence_length=7, learning_rate=0.1, epochs=2)
    assert (training.batch_size, training.sequence_length, training.learning_rate) == (5, 7, 0.1)
    assert (training.epochs, training.budget) == (2, None)


def test_a_very_large_vocabulary_gets_fewer_streams():
    model = model_config({}, 10**7, 60_000)
    assert training_config({"budget": 60.0}, model, 10**7)[0].batch_size == 32


def test_a_budget_that_a_small_corpus_does_not_need_ends_early():
    events = []
    began = time.monotonic()
    model = chargen.train(PANGRAMS, units=8, embedding_dim=4, budget="5m", listener=events.append)
    assert time.monotonic() - began < 150
    assert any(isinstance(event, Note) and "enough" in event.text for event in events)
    last = [event for event in events if isinstance(event, Progress)][-1]
    assert last.step == last.steps == model.training["steps"]
    shape = model.training["batch_size"] * model.training["sequence_length"]
    windows = (model.training["characters"] - 1 - model.training["sequence_length"]) // shape
    assert last.steps == MOST_EPOCHS * max(1, windows)
    assert model.training["completed"] is True
