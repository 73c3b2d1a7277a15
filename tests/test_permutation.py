"""A shuffle that is computed instead of stored: one to one, repeatable, without structure."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chargen.permutation import Permutation


def order(size: int, *seed: int) -> np.ndarray:
    return Permutation(size, seed)(np.arange(size))


def test_every_small_size_is_one_to_one():
    for size in range(1, 301):
        for seed in range(3):
            assert np.array_equal(np.sort(order(size, seed, 1)), np.arange(size)), (size, seed)


def test_a_large_size_is_one_to_one_piece_by_piece():
    size, chunk = 3_000_017, 1 << 20
    permutation = Permutation(size, (7, 0))
    times_seen = np.zeros(size, np.uint8)
    for start in range(0, size, chunk):
        items = permutation(np.arange(start, min(start + chunk, size)))
        np.add.at(times_seen, items, 1)
    assert times_seen.min() == times_seen.max() == 1


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 2**48), st.integers(0, 2**63 - 1), st.data())
def test_items_lie_in_range_and_differ_for_any_size(size, seed, data):
    positions = data.draw(st.lists(st.integers(0, size - 1), max_size=20, unique=True))
    items = Permutation(size, (seed, 0))(np.array(positions, np.int64))
    assert items.dtype == np.int64
    assert len(set(items.tolist())) == len(positions)
    assert all(0 <= item < size for item in items.tolist())


def test_any_part_is_had_at_any_time():
    permutation = Permutation(1000, (3, 4))
    whole = permutation(np.arange(1000))
    assert np.array_equal(permutation(np.arange(500, 600)), whole[500:600])
    assert np.array_equal(permutation(np.array([999, 0, 999])), whole[[999, 0, 999]])
    assert permutation(np.array([], np.int64)).size == 0


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint16, np.uint64])
def test_positions_of_any_integer_type_give_the_same_items(dtype):
    permutation = Permutation(1000, (3, 4))
    positions = np.arange(1000)
    assert np.array_equal(permutation(positions.astype(dtype)), permutation(positions))


def test_positions_are_left_as_they_were():
    positions = np.arange(100, dtype=np.uint64)
    Permutation(100, (1, 1))(positions)
    assert np.array_equal(positions, np.arange(100))


def test_the_same_seed_gives_the_same_order_and_another_seed_another():
    assert np.array_equal(order(1000, 5, 6), order(1000, 5, 6))
    orders = {tuple(order(1000, seed, epoch)) for seed in range(5) for epoch in range(5)}
    assert len(orders) == 25


@pytest.mark.parametrize("seed", range(6))
def test_an_order_has_no_trend_and_keeps_no_neighbours(seed):
    size = 10_000
    positions, items = np.arange(size), order(size, seed, 1)
    assert abs(np.corrcoef(positions, items)[0, 1]) < 0.05  # 5 standard deviations
    assert abs(np.corrcoef(items[:-1], items[1:])[0, 1]) < 0.05
    assert np.count_nonzero(items == positions) < 12  # one is expected
    assert np.count_nonzero(np.abs(np.diff(items)) == 1) < 16  # two are expected
    steps = np.unique(np.diff(items) % size)
    assert steps.size > 0.6 * size  # 1 - 1/e of all are expected


def test_two_seeds_give_unrelated_orders():
    first, second = order(10_000, 1, 0), order(10_000, 2, 0)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.05
    assert np.count_nonzero(first == second) < 12


def test_every_order_of_three_turns_up_about_equally_often():
    counts = Counter(tuple(order(3, seed, 0).tolist()) for seed in range(600))
    assert len(counts) == 6
    assert min(counts.values()) > 50  # 100 are expected


def test_every_item_comes_to_every_place():
    size, trials = 100, 3000
    counts = np.zeros((size, size), np.int64)
    for seed in range(trials):
        counts[np.arange(size), order(size, seed, 0)] += 1
    assert counts.min() >= 5  # 30 are expected, with a deviation of 5.5
    assert counts.max() <= 65
