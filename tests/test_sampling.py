"""Logits to probabilities to indices: by hand, at the extremes, and by the hundred thousand."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chargen.config import SamplingConfig
from chargen.sampling import Sampler, apply_temperature, draw, softmax

JUST_BELOW_1 = math.nextafter(1.0, 0.0)
DRAWS = 200_000

uniforms = st.one_of(
    st.just(0.0), st.just(JUST_BELOW_1), st.floats(0, 1, exclude_max=True, allow_nan=False)
)
weights = st.lists(st.one_of(st.just(0.0), st.floats(1e-30, 1e30)), min_size=1, max_size=40).filter(
    any
)
float32_logits = st.lists(st.floats(-(2.0**99), 2.0**99, width=32), min_size=1, max_size=40)


def logits_of(*probabilities: float, dtype: type = np.float32):
    with np.errstate(divide="ignore"):
        return np.log(np.array(probabilities)).astype(dtype)


def sampled(config: SamplingConfig, logits, seed: int, count: int) -> list[int]:
    sampler = Sampler(config, np.random.default_rng(seed))
    return [sampler(logits) for _ in range(count)]


def test_softmax_by_hand():
    expected = [0.125, 0.25, 0.5, 0.125]
    np.testing.assert_allclose(softmax(logits_of(1, 2, 4, 1)), expected, rtol=1e-6)
    np.testing.assert_allclose(softmax(np.array([0.0, math.log(3)])), [0.25, 0.75], rtol=1e-12)


def test_softmax_takes_each_row_for_itself():
    rows = np.array([[0.0, 0.0], [1000.0, 1000.0], [-1e30, 0.0]], np.float32)
    np.testing.assert_array_equal(softmax(rows), [[0.5, 0.5], [0.5, 0.5], [0, 1]])


def test_softmax_of_huge_logits_stays_finite():
    found = softmax(np.array([1e38, 1e38, -1e38], np.float32))
    np.testing.assert_array_equal(found, [0.5, 0.5, 0.0])


def test_softmax_of_minus_infinity_is_zero():
    np.testing.assert_array_equal(softmax(logits_of(1, 0, 1)), [0.5, 0, 0.5])


@given(float32_logits)
def test_softmax_sums_to_one(logits):
    found = softmax(np.array(logits, np.float32))
    assert (found >= 0).all() and found.sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("temperature", "expected"),
    (
        (1.0, [0.2, 0.8]),
        (0.5, [1 / 17, 16 / 17]),  # the squares, 1 to 16
        (2.0, [1 / 3, 2 / 3]),  # the roots, 1 to 2
    ),
)
def test_temperature_by_hand(temperature, expected):
    found = softmax(apply_temperature(logits_of(0.2, 0.8), temperature))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_tiny_temperature_leaves_only_the_likeliest():
    with np.errstate(over="raise"):
        cooled = apply_temperature(np.array([1.0, 1.001, -50], np.float32), 1e-12)
        far_apart = apply_temperature(np.array([0.0, -1e30], np.float32), 1e-12)
    np.testing.assert_array_equal(softmax(cooled), [0, 1, 0])
    np.testing.assert_array_equal(softmax(far_apart), [1, 0])


def test_temperature_100_is_almost_even():
    found = softmax(apply_temperature(np.array([-10.0, 0.0, 10.0], np.float32), 100.0))
    np.testing.assert_allclose(found, np.exp([-0.1, 0, 0.1]) / np.exp([-0.1, 0, 0.1]).sum())
    assert found.max() - found.min() < 0.07


@given(float32_logits, st.floats(1e-9, 100))
def test_temperature_keeps_the_order_and_never_overflows(logits, temperature):
    logits = np.array(logits, np.float32) / np.float32(1e4)
    with np.errstate(over="raise", invalid="raise"):
        found = apply_temperature(logits, temperature)
    assert found.max() == 0
    assert (np.diff(found[np.argsort(logits, kind="stable")]) >= 0).all()


@pytest.mark.parametrize(
    ("uniform", "index"),
    (
        (0.0, 0),
        (0.0999, 0),
        (0.1001, 1),
        (0.2999, 1),
        (0.3001, 2),
        (0.5999, 2),
        (0.6001, 3),
        (JUST_BELOW_1, 3),
    ),
)
def test_draw_by_hand(uniform, index):
    assert draw(logits_of(0.1, 0.2, 0.3, 0.4), uniform) == index
    assert draw(logits_of(0.1, 0.2, 0.3, 0.4) + np.float32(80), uniform) == index


def test_a_border_belongs_to_the_index_above_it():
    even = np.zeros(4, np.float32)
    assert [draw(even, uniform) for uniform in (0, 0.25, 0.5, 0.75)] == [0, 1, 2, 3]
    below = [math.nextafter(border, 0) for border in (0.25, 0.5, 0.75, 1)]
    assert [draw(even, uniform) for uniform in below] == [0, 1, 2, 3]


@pytest.mark.parametrize("uniform", (0.0, 0.5, JUST_BELOW_1))
@pytest.mark.parametrize("dtype", (np.float32, np.float64))
def test_zero_probability_at_either_end_is_never_drawn(uniform, dtype):
    assert draw(logits_of(0, 0, 1, 0, 0, dtype=dtype), uniform) == 2
    assert draw(np.array([-1e38, 1e38, -1e38], dtype), uniform) == 1


@pytest.mark.parametrize("uniform", (0.0, 0.5, JUST_BELOW_1))
def test_one_token_is_always_drawn(uniform):
    assert draw(np.array([-7.5], np.float32), uniform) == 0


@given(weights, uniforms, st.sampled_from((np.float32, np.float64)))
def test_what_is_drawn_is_in_range_and_has_a_probability(weights, uniform, dtype):
    logits = logits_of(*weights, dtype=dtype)
    index = draw(logits, uniform)
    assert 0 <= index < len(weights)
    assert weights[index] > 0
    assert softmax(logits.astype(np.float64))[index] > 0


@given(weights, st.floats(1e-6, 100), st.integers(0, 2**63))
def test_a_sampler_never_takes_what_has_no_probability(weights, temperature, seed):
    drawn = sampled(SamplingConfig(temperature), logits_of(*weights), seed, 5)
    assert all(weights[index] > 0 for index in drawn)


@given(weights, uniforms, uniforms)
def test_a_larger_uniform_never_draws_a_smaller_index(weights, one, other):
    low, high = sorted((one, other))
    logits = logits_of(*weights)
    assert draw(logits, low) <= draw(logits, high)


def distance(drawn: Any, probabilities: Any) -> float:
    """Pearson's statistic, in standard deviations above what true draws give on average.

    For k + 1 categories its mean is k and its variance 2k. Above 8 such deviations true draws come
    less than once in 10,000 samples (chi-square with k = 3 or 9), while of 100,000 draws a share of
    a tenth that is one percentage point off adds 100 to the statistic.
    """
    expected = len(drawn) * np.asarray(probabilities)
    assert expected.min() > 100
    found = np.bincount(drawn, minlength=expected.size)
    degrees = expected.size - 1
    return (((found - expected) ** 2 / expected).sum() - degrees) / math.sqrt(2 * degrees)


@pytest.mark.parametrize("temperature", (0.5, 2.0))
def test_draws_follow_the_distribution(temperature):
    logits = np.random.default_rng(3).uniform(-1, 1, 10).astype(np.float32)
    drawn = sampled(SamplingConfig(temperature), logits, 4, DRAWS)
    scaled = np.exp(logits.astype(np.float64) / temperature)
    assert distance(drawn, scaled / scaled.sum()) < 8


def test_successive_draws_are_independent():
    drawn = np.array(sampled(SamplingConfig(1.0), np.zeros(2, np.float32), 5, DRAWS // 2))
    assert distance(2 * drawn[::2] + drawn[1::2], [0.25] * 4) < 8


def test_temperature_0_is_argmax():
    rows = np.random.default_rng(6).normal(size=(200, 30)).astype(np.float32)
    sampler = Sampler(SamplingConfig(0.0), np.random.default_rng(0))
    assert [sampler(row) for row in rows] == rows.argmax(axis=-1).tolist()


def test_temperature_0_draws_no_random_number():
    generator = np.random.default_rng(7)
    before = generator.bit_generator.state
    sampler = Sampler(SamplingConfig(0.0), generator)
    assert [sampler(logits_of(0.4, 0.6)) for _ in range(3)] == [1, 1, 1]
    assert generator.bit_generator.state == before


def test_the_same_seed_gives_the_same_draws():
    logits = np.random.default_rng(8).normal(size=50).astype(np.float32)
    first, again, other = (sampled(SamplingConfig(1.0), logits, s, 3000) for s in (9, 9, 10))
    assert first == again
    assert first != other
    assert first[:1024] != first[1024:2048]


def test_logits_stay_as_they_are():
    logits = logits_of(0.1, 0.2, 0.7)
    before = logits.copy()
    logits.flags.writeable = False
    sampled(SamplingConfig(0.5), logits, 11, 3)
    sampled(SamplingConfig(0.0), logits, 11, 3)
    np.testing.assert_array_equal(logits, before)
