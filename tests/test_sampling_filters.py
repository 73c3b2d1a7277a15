"""Who may be drawn: each filter by hand, all of them together, one stream against many."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import log_softmax
from test_sampling import DRAWS, distance, logits_of, sampled

from chargen.config import SamplingConfig
from chargen.sampling import (
    BatchSampler,
    Sampler,
    apply_allowed,
    apply_min_p,
    apply_repetition_penalty,
    apply_temperature,
    apply_top_k,
    apply_top_p,
    draw,
    softmax,
)

EVERYTHING = SamplingConfig(
    temperature=0.7,
    top_k=8,
    top_p=0.9,
    min_p=0.05,
    repetition_penalty=1.3,
    repetition_window=3,
)

# Small whole numbers come often, so that ties do.
one_logit = st.one_of(st.integers(-3, 3).map(float), st.floats(-30, 30, width=32))
some_logits = st.lists(one_logit, min_size=1, max_size=30).map(
    lambda values: np.array(values, np.float32)
)
shares = st.one_of(st.sampled_from((0.0, 1e-9, 0.25, 0.5, 0.75, 1.0)), st.floats(0, 1))
configs = st.builds(
    SamplingConfig,
    temperature=st.sampled_from((0.3, 0.8, 1.0, 2.0)) | st.floats(1e-3, 100),
    top_k=st.integers(0, 35),
    top_p=shares,
    min_p=shares,
    repetition_penalty=st.sampled_from((1.0, 0.5, 1.3, 100.0)),
    repetition_window=st.integers(1, 5),
)


def kept(logits: Any) -> list[int]:
    """Which indices are left to be drawn."""
    return np.flatnonzero(np.isfinite(logits)).tolist()


def composed(logits, config, allowed=None, recent=()):
    """The documented order, by the pure functions: logits (..., V) to draw from."""
    if allowed is not None:
        logits = apply_allowed(logits, allowed)
    mask = np.zeros(logits.shape[-1], np.bool_)
    mask[list(recent)[-config.repetition_window :]] = True
    logits = apply_repetition_penalty(logits, mask, config.repetition_penalty)
    logits = apply_temperature(logits, config.temperature)
    logits = apply_top_k(logits, config.top_k)
    return apply_min_p(apply_top_p(logits, config.top_p), config.min_p)


class Chosen:
    """In the place of a generator: ``uniform``, again and again."""

    def __init__(self, uniform: float) -> None:
        self._uniform = uniform

    def random(self, size: int) -> Any:
        return np.full(size, self._uniform)


def drawn_by(uniform, logits, config, **options):
    return Sampler(config, Chosen(uniform), **options)(logits)


# each filter by hand


def test_log_softmax_by_hand():
    expected = np.log([0.125, 0.25, 0.5, 0.125])
    np.testing.assert_allclose(log_softmax(logits_of(1, 2, 4, 1)), expected, rtol=1e-6)
    rows = log_softmax(np.array([[0.0, 0.0], [1e30, -1e30]], np.float32))
    np.testing.assert_allclose(rows, [[-math.log(2)] * 2, [0, -2e30]], rtol=1e-6)


def test_allowed_leaves_out_the_others():
    found = apply_allowed(np.array([3.0, 2.0, 1.0], np.float32), np.array([False, True, True]))
    assert found.tolist() == [-math.inf, 2.0, 1.0]
    assert found.dtype == np.float32


def test_the_penalty_divides_what_is_positive_and_multiplies_what_is_negative():
    logits = np.array([2.0, 2.0, -2.0, -2.0, 0.0], np.float32)
    recent = np.array([True, False, True, False, True])
    assert apply_repetition_penalty(logits, recent, 4.0).tolist() == [0.5, 2, -8, -2, 0]
    assert apply_repetition_penalty(logits, recent, 0.5).tolist() == [4, 2, -1, -2, 0]
    assert apply_repetition_penalty(logits, recent, 1.0).tolist() == logits.tolist()


def test_the_penalty_leaves_out_what_was_left_out():
    logits = np.array([-np.inf, 1.0], np.float32)
    found = apply_repetition_penalty(logits, np.array([True, True]), 2.0)
    assert found.tolist() == [-math.inf, 0.5]


@pytest.mark.parametrize(
    ("top_k", "indices"),
    ((0, range(5)), (1, [3]), (2, [1, 3, 4]), (3, [1, 3, 4]), (4, [1, 2, 3, 4]), (9, range(5))),
)
def test_top_k_by_hand_with_ties(top_k, indices):
    assert kept(apply_top_k(np.array([-9, 1, 0, 5, 1], np.float32), top_k)) == list(indices)


@pytest.mark.parametrize(
    ("top_p", "indices"),
    (
        (0.0, [2]),
        (0.499, [2]),
        (0.501, [0, 2]),
        (0.749, [0, 2]),
        (0.751, [0, 1, 2, 3]),  # the third and the fourth are equal
        (1.0, [0, 1, 2, 3]),
    ),
)
def test_top_p_by_hand_with_ties(top_p, indices):
    assert kept(apply_top_p(logits_of(0.25, 0.125, 0.5, 0.125), top_p)) == indices


def test_even_odds_are_all_kept():
    even = np.zeros(6, np.float32)
    for found in (apply_top_k(even, 2), apply_top_p(even, 0.3), apply_min_p(even, 1.0)):
        assert kept(found) == list(range(6))


@pytest.mark.parametrize(
    ("min_p", "indices"),
    ((0.0, range(4)), (0.09, range(4)), (0.11, [1, 2]), (0.5, [1, 2]), (0.51, [2]), (1.0, [2])),
)
def test_min_p_by_hand(min_p, indices):
    logits = np.array([math.log(0.1), math.log(0.5000001), 0.0, math.log(0.1)]) + 40
    assert kept(apply_min_p(logits.astype(np.float64), min_p)) == list(indices)


def test_filters_take_each_row_for_itself():
    rows = np.array([[0, 1, 2], [5, 3, 4]], np.float32)
    for found in (apply_top_k(rows, 1), apply_top_p(rows, 0.1), apply_min_p(rows, 0.9)):
        assert [kept(row) for row in found] == [[2], [0]]
    penalised = apply_repetition_penalty(rows, np.eye(2, 3, dtype=bool), 2.0)
    assert penalised.tolist() == [[0, 1, 2], [5, 1.5, 4]]


# what every filter leaves


@given(some_logits, configs, st.data())
def test_every_filter_leaves_a_distribution_with_the_likeliest_in_it(logits, config, data):
    mask = st.lists(st.booleans(), min_size=logits.size, max_size=logits.size).map(np.array)
    allowed = data.draw(mask.filter(np.any))
    recent = data.draw(st.lists(st.integers(0, logits.size - 1), max_size=8))
    before = logits.copy()
    for given_ in (logits, apply_allowed(logits, allowed)):
        for found in (
            apply_top_k(given_, config.top_k),
            apply_top_p(given_, config.top_p),
            apply_min_p(given_, config.min_p),
            apply_temperature(given_, config.temperature),
        ):
            assert found[given_.argmax()] == found.max() > -math.inf
            assert softmax(found).sum() == pytest.approx(1, abs=1e-5)
            assert set(kept(found)) <= set(kept(given_))
    together = composed(logits, config, allowed, recent)
    assert softmax(together).sum() == pytest.approx(1, abs=1e-5)
    assert kept(together)
    assert allowed[kept(together)].all()
    np.testing.assert_array_equal(logits, before)


@given(some_logits, st.integers(1, 30), shares)
def test_what_is_left_out_is_never_likelier_than_what_is_kept(logits, top_k, share):
    for found in (
        apply_top_k(logits, top_k),
        apply_top_p(logits, share),
        apply_min_p(logits, share),
    ):
        inside = np.isfinite(found)
        assert logits[inside].min() > logits[~inside].max(initial=-math.inf)
        np.testing.assert_array_equal(found[inside], logits[inside])


@given(some_logits, st.floats(0.01, 0.99))
def test_the_nucleus_reaches_p_and_would_not_without_its_last(logits, top_p):
    probabilities = softmax(logits.astype(np.float64))
    inside = kept(apply_top_p(logits, top_p))
    least = probabilities[inside].min()
    assert probabilities[inside].sum() >= top_p - 1e-5
    assert probabilities[probabilities > least].sum() < top_p + 1e-5


# one stream: the fast path against the pure functions


GRID = [(number + 0.5) / 997 for number in range(997)]


@pytest.mark.parametrize("seed", range(12))
def test_the_fast_path_draws_from_the_composed_distribution(seed):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, 25).astype(np.float32)
    logits[5:9] = logits[4]  # ties
    config = SamplingConfig(
        temperature=float(rng.choice([0.4, 1.0, 3.0])),
        top_k=int(rng.choice([0, 1, 4, 12])),
        top_p=float(rng.choice([0.0, 0.5, 0.9, 1.0])),
        min_p=float(rng.choice([0.0, 0.02, 0.3])),
        repetition_penalty=float(rng.choice([1.0, 1.5])),
        repetition_window=2,
    )
    allowed = None if seed % 2 else rng.random(25) < 0.8
    recent = [1, 2, 3, 4, 5]
    expected = softmax(composed(logits, config, allowed, recent).astype(np.float64))
    drawn = [drawn_by(uniform, logits, config, allowed=allowed, recent=recent) for uniform in GRID]
    found = np.bincount(drawn, minlength=25) / len(GRID)
    np.testing.assert_allclose(found, expected, atol=2 / len(GRID))


@given(some_logits, configs, st.floats(0, 1, exclude_max=True))
@settings(max_examples=300)
def test_the_fast_path_draws_only_what_the_pure_functions_keep(logits, config, uniform):
    index = drawn_by(uniform, logits, config, recent=[0])
    wider = {"top_p": min(1.0, config.top_p + 1e-5), "min_p": max(0.0, config.min_p - 1e-5)}
    near = replace(config, **wider)  # a border is met but for the last bit
    assert composed(logits, near, recent=[0])[index] > -math.inf


@given(some_logits, configs)
def test_the_smallest_uniform_takes_the_likeliest_where_the_fast_path_is_taken(logits, config):
    config = replace(config, top_k=3, repetition_penalty=1.0)
    assert logits[drawn_by(0.0, logits, config)] == logits.max()


def test_without_filters_the_index_is_that_of_draw():
    logits = np.random.default_rng(5).normal(size=20).astype(np.float32)
    config = SamplingConfig(0.7)
    for uniform in GRID[::10]:
        expected = draw(apply_temperature(logits, 0.7), uniform)
        assert drawn_by(uniform, logits, config) == expected


@pytest.mark.parametrize("temperature", (1e-9, 0.01, 1.0, 100.0))
@pytest.mark.parametrize("offset", (-3e4, -900.0, -450.0, 0.0, 450.0, 700.0, 900.0, 3e4))
def test_a_plain_draw_is_that_of_the_distribution_however_large_the_logits(offset, temperature):
    logits = (np.array([0.0, 0.5, 0.25, -1.0, 0.5]) + offset).astype(np.float32)
    scaled = np.exp((logits - logits.max()).astype(np.float64) / max(temperature, 1e-6))
    drawn = [drawn_by(uniform, logits, SamplingConfig(temperature)) for uniform in GRID]
    found = np.bincount(drawn, minlength=5) / len(GRID)
    np.testing.assert_allclose(found, scaled / scaled.sum(), atol=2 / len(GRID))


# many streams


@given(some_logits, configs, st.integers(1, 4), st.data())
@settings(max_examples=200, deadline=None)
def test_each_stream_of_a_batch_draws_what_it_would_alone(logits, config, streams, data):
    if data.draw(st.booleans()):
        config = replace(config, temperature=0)
    options = {"recent": data.draw(st.lists(st.integers(0, logits.size - 1), max_size=8))}
    if data.draw(st.booleans()):
        options["allowed"] = np.arange(logits.size) % 2 == 0
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    steps = [np.stack([rng.permutation(logits) for _ in range(streams)]) for _ in range(6)]
    batch = BatchSampler(
        config, [np.random.default_rng(seed) for seed in range(streams)], **options
    )
    alone = [Sampler(config, np.random.default_rng(seed), **options) for seed in range(streams)]
    for rows in steps:
        expected = [sampler(row) for sampler, row in zip(alone, rows, strict=True)]
        assert batch(rows).tolist() == expected


@pytest.mark.parametrize("top_k", (0, 7))
@pytest.mark.parametrize("top_p", (1.0, 0.85))
@pytest.mark.parametrize("min_p", (0.0, 0.03))
@pytest.mark.parametrize("penalty", (1.0, 1.4))
def test_a_batch_of_realistic_logits_is_its_streams(top_k, top_p, min_p, penalty):
    config = SamplingConfig(0.8, top_k, top_p, min_p, penalty, 10)
    rng = np.random.default_rng(8)
    batch = BatchSampler(config, [np.random.default_rng(s) for s in range(16)], recent=[1, 2])
    alone = [Sampler(config, np.random.default_rng(s), recent=[1, 2]) for s in range(16)]
    for _ in range(300):
        rows = rng.normal(0, 3, (16, 65)).astype(np.float32)
        expected = [sampler(row) for sampler, row in zip(alone, rows, strict=True)]
        assert batch(rows).tolist() == expected


def test_the_logits_of_a_batch_stay_as_they_are():
    logits = np.random.default_rng(3).normal(size=(3, 9)).astype(np.float32)
    before = logits.copy()
    logits.flags.writeable = False
    allowed = np.arange(9) > 2
    streams = [np.random.default_rng(seed) for seed in range(3)]
    assert (BatchSampler(EVERYTHING, streams, allowed=allowed)(logits) > 2).all()
    Sampler(EVERYTHING, streams[0], allowed=allowed, recent=[3, 4])(logits[0])
    np.testing.assert_array_equal(logits, before)


# by the hundred thousand


def test_draws_with_all_filters_on_follow_the_distribution():
    logits = np.random.default_rng(3).uniform(-2, 2, 20).astype(np.float32)
    config = SamplingConfig(0.9, top_k=9, top_p=0.95, min_p=0.1)
    expected = softmax(composed(logits, config).astype(np.float64))
    drawn = np.array(sampled(config, logits, 6, DRAWS))
    inside = np.flatnonzero(expected)
    assert 3 < inside.size < 10
    assert set(drawn.tolist()) == set(inside.tolist())
    assert distance(np.searchsorted(inside, drawn), expected[inside]) < 8


def test_batched_draws_with_all_filters_on_follow_the_distribution():
    logits = np.random.default_rng(3).uniform(-2, 2, 20).astype(np.float32)
    config = SamplingConfig(0.9, top_k=9, top_p=0.95, min_p=0.1)
    expected = softmax(composed(logits, config).astype(np.float64))
    sampler = BatchSampler(config, [np.random.default_rng(seed) for seed in range(500)])
    rows = np.repeat(logits[np.newaxis], 500, axis=0)
    drawn = np.concatenate([sampler(rows) for _ in range(DRAWS // 500)])
    inside = np.flatnonzero(expected)
    assert distance(np.searchsorted(inside, drawn), expected[inside]) < 8


def test_the_penalty_forgets_what_is_outside_its_window():
    config = SamplingConfig(0.0, repetition_penalty=100.0, repetition_window=2)
    sampler = Sampler(config, np.random.default_rng(0), recent=[0, 1, 2])
    logits = np.array([4.0, 3.0, 2.0], np.float32)  # 0 is forgotten; then the oldest, and so on
    assert [sampler(logits) for _ in range(5)] == [0, 1, 2, 0, 1]
