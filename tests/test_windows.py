"""Batches: shifted by one, in range, contiguous or each once, and a pure function of the step.

The tokens are their own positions, so a batch shows where it was cut.
"""

from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chargen.config import TrainingConfig
from chargen.corpus import read_corpus
from chargen.windows import Batch, SlidingWindows, Streams, fitted_shape, windows_of

strides = pytest.mark.parametrize("stride", range(1, 6))


def positions(size: int) -> np.ndarray:
    return np.arange(size, dtype=np.uint32)


def fitted_streams(size: int, batch_size: int, length: int, seed: int = 0) -> Streams:
    return Streams(positions(size), *fitted_shape(size, batch_size, length, sliding=False), seed)


def epoch_of(streams: Streams, epoch: int) -> list[Batch]:
    count = streams.windows_per_epoch
    return [streams.batch(epoch * count + window) for window in range(count)]


def offsets(streams: Streams, epochs: int) -> list[int]:
    count = streams.windows_per_epoch
    return [int(streams.batch(epoch * count).inputs[0, 0]) for epoch in range(epochs)]


def same(first: Batch, second: Batch) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


any_streams = st.builds(
    fitted_streams, st.integers(2, 600), st.integers(1, 12), st.integers(1, 40), st.integers(0, 9)
)


@settings(deadline=None, max_examples=150)
@given(any_streams, st.integers(0, 10**6))
def test_targets_are_the_inputs_shifted_by_one(streams, step):
    inputs, targets, carry = streams.batch(step)
    assert inputs.dtype == targets.dtype == np.uint32
    assert inputs.shape == targets.shape == (len(carry), inputs.shape[1])
    assert carry.dtype == np.bool_
    assert np.array_equal(targets, inputs + 1)
    assert (np.diff(inputs.astype(np.int64), axis=1) == 1).all()


@settings(deadline=None, max_examples=150)
@given(st.integers(2, 600), st.integers(1, 12), st.integers(1, 40), st.integers(0, 9))
def test_an_epoch_of_streams_reads_nearly_all_once(size, batch_size, length, seed):
    batch_size, length = fitted_shape(size, batch_size, length, sliding=False)
    streams = Streams(positions(size), batch_size, length, seed)
    for epoch in (0, 1, 5):
        read = np.concatenate([batch.inputs.reshape(-1) for batch in epoch_of(streams, epoch)])
        assert read.max() < size - 1  # its target lies inside too
        assert np.unique(read).size == read.size
        assert read.size >= size - (batch_size * length + length)


@settings(deadline=None, max_examples=100)
@given(any_streams)
def test_a_stream_reads_on_where_it_ended(streams):
    for epoch in (0, 3):
        batches = epoch_of(streams, epoch)
        assert not batches[0].carry.any()
        for before, after in pairwise(batches):
            assert np.array_equal(after.inputs[:, 0], before.targets[:, -1])


def test_state_is_zero_at_the_head_of_an_epoch_and_now_and_then_after_it():
    streams = Streams(positions(64 * 4 * 101 + 5), 64, 4, 0)
    assert streams.windows_per_epoch == 101
    for epoch in (0, 1):
        head, *rest = [batch.carry for batch in epoch_of(streams, epoch)]
        assert not head.any()
        forgotten = np.count_nonzero(~np.concatenate(rest))
        assert 64 < forgotten < 256  # 128 of 6400 are expected, with a deviation of 11
    first, second = epoch_of(streams, 0)[1:], epoch_of(streams, 1)[1:]
    assert not all(np.array_equal(a.carry, b.carry) for a, b in zip(first, second, strict=True))


def test_each_epoch_of_streams_begins_elsewhere():
    streams = fitted_streams(1000, 4, 16)
    begins = offsets(streams, 20)
    assert len(set(begins)) >= 10
    assert begins != offsets(fitted_streams(1000, 4, 16, seed=1), 20)
    read = 4 * 16 * streams.windows_per_epoch
    assert max(begins) <= 1000 - 1 - read
    assert max(begins) > 16  # and reaches beyond one window where there is room


def test_a_text_that_is_just_filled_is_read_from_its_first_character():
    streams = Streams(positions(4 * 8 + 1), 4, 8, 0)
    assert streams.windows_per_epoch == 1
    assert offsets(streams, 5) == [0] * 5
    assert streams.batch(0).targets[-1, -1] == 32


def test_one_window_is_kept_back_as_slack():
    assert Streams(positions(4 * 8 * 2 + 8), 4, 8, 0).windows_per_epoch == 1
    assert Streams(positions(4 * 8 * 2 + 8 + 1), 4, 8, 0).windows_per_epoch == 2


def test_too_few_tokens_for_a_batch_are_refused():
    with pytest.raises(ValueError, match="fitted_shape"):
        Streams(positions(4 * 8), 4, 8, 0)
    with pytest.raises(ValueError, match="fitted_shape"):
        SlidingWindows(positions(8), 4, 8, 0)


@pytest.mark.parametrize("kind", [Streams, SlidingWindows])
def test_a_batch_is_a_pure_function_of_seed_and_step(kind):
    steps = [0, 1, 7, 40, 41, 10**9]
    first = kind(positions(500), 4, 8, 3)
    forwards = {step: first.batch(step) for step in steps}
    second = kind(positions(500), 4, 8, 3)
    for step in reversed(steps):
        assert same(second.batch(step), forwards[step])
        assert same(first.batch(step), forwards[step])
    other = kind(positions(500), 4, 8, 4)
    assert not all(same(other.batch(step), forwards[step]) for step in steps)


def starts_of(windows: SlidingWindows, epochs: int) -> np.ndarray:
    """Where the windows of the first ``epochs`` start, in the order they come (epochs, n)."""
    count = windows.num_windows * epochs
    steps = -(-count // len(windows.batch(0).inputs))
    starts = np.concatenate([windows.batch(step).inputs[:, 0] for step in range(steps)])
    return starts[:count].reshape(epochs, -1).astype(np.int64)


@strides
@pytest.mark.parametrize(("size", "batch_size", "length"), [(200, 16, 10), (37, 5, 4), (12, 9, 7)])
def test_each_sliding_window_comes_once_an_epoch(size, batch_size, length, stride):
    windows = SlidingWindows(positions(size), batch_size, length, 0, stride)
    expected = list(range(0, size - length, stride))
    assert windows.num_windows == len(expected)
    assert windows.steps_per_epoch == len(expected) / batch_size
    for starts in starts_of(windows, 3):
        assert sorted(starts) == expected


@strides
@settings(deadline=None, max_examples=40)
@given(
    size=st.integers(2, 300),
    batch_size=st.integers(1, 12),
    length=st.integers(1, 40),
    step=st.integers(0, 10**6),
)
def test_the_target_of_a_sliding_window_is_the_character_after_it(
    stride, size, batch_size, length, step
):
    batch_size, length = fitted_shape(size, batch_size, length, sliding=True)
    inputs, targets, carry = SlidingWindows(positions(size), batch_size, length, 0, stride).batch(
        step
    )
    assert inputs.shape == (batch_size, length)
    assert targets.shape == carry.shape == (batch_size,)
    assert not carry.any()
    assert (inputs[:, 0] % stride == 0).all()
    assert np.array_equal(inputs, inputs[:, :1] + np.arange(length))
    assert np.array_equal(targets, inputs[:, -1] + 1)
    assert targets.max() < size


def test_a_batch_reaches_into_the_next_epochs():
    windows = SlidingWindows(positions(10), 8, 7, 0)  # three windows, batches of eight
    starts = np.concatenate([windows.batch(step).inputs[:, 0] for step in range(3)])
    assert [sorted(epoch) for epoch in starts.reshape(-1, 3)] == [[0, 1, 2]] * 8


def test_sliding_windows_come_in_another_order_each_epoch():
    first, second = starts_of(SlidingWindows(positions(2000), 50, 10, 0), 2)
    assert list(first) != sorted(first)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.12  # 5 standard deviations
    assert abs(np.corrcoef(first, np.arange(first.size))[0, 1]) < 0.12


SHAPES = [(1, 1), (1, 64), (64, 1), (8, 8), (64, 32), (5, 300), (65536, 65536)]


@pytest.mark.parametrize(("batch_size", "length"), SHAPES)
def test_the_fitted_shape_gives_batches_at_every_size(batch_size, length):
    for size, sliding in product(range(2, 201), (False, True)):
        rows, columns = fitted_shape(size, batch_size, length, sliding=sliding)
        assert 1 <= rows <= batch_size
        assert columns == min(length, size - 1)
        make = SlidingWindows if sliding else Streams
        assert make(positions(size), rows, columns, 0).batch(3).inputs.shape == (rows, columns)


@pytest.mark.parametrize(("batch_size", "length"), SHAPES)
def test_the_fitted_batch_is_as_large_as_it_can_be(batch_size, length):
    for size in range(2, 201):
        rows, columns = fitted_shape(size, batch_size, length, sliding=False)
        assert rows == batch_size or (rows + 1) * columns > size - 1
        rows, columns = fitted_shape(size, batch_size, length, sliding=True)
        assert rows == min(batch_size, size - columns)


def test_a_shape_that_fits_is_kept():
    for sliding in (False, True):
        assert fitted_shape(64 * 32 + 1, 64, 32, sliding=sliding) == (64, 32)
    assert fitted_shape(64 * 32, 64, 32, sliding=False) == (63, 32)


def test_the_objective_chooses_the_windows():
    tokens = read_corpus(text="the quick brown fox " * 20).training_part
    streams = windows_of(tokens, TrainingConfig(steps=1, batch_size=3, sequence_length=5))
    assert isinstance(streams, Streams)
    assert streams.batch(0).inputs.shape == streams.batch(0).targets.shape == (3, 5)
    config = TrainingConfig(
        "last", batch_size=3, sequence_length=5, stride=4, steps=1, random_seed=9
    )
    sliding = windows_of(tokens, config)
    assert isinstance(sliding, SlidingWindows)
    assert sliding.num_windows == len(range(0, tokens.size - 5, 4))
    assert same(sliding.batch(2), SlidingWindows(tokens, 3, 5, 9, 4).batch(2))


def test_streams_take_seed_and_shape_from_the_config():
    tokens = positions(500)
    config = TrainingConfig(steps=1, batch_size=3, sequence_length=5, random_seed=9)
    assert same(windows_of(tokens, config).batch(7), Streams(tokens, 3, 5, 9).batch(7))
