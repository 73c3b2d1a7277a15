"""What BLAS is told and asked: its threads, rows at a time, where arrays begin."""

import os
import subprocess
import sys

import numpy as np
import pytest

from chargen import blas

OPENBLAS = blas._openblas()
openblas = pytest.mark.skipif(OPENBLAS is None, reason="NumPy has another BLAS")


@pytest.fixture
def three_threads():
    before = OPENBLAS.get_num_threads()
    OPENBLAS.set_num_threads(3)
    yield
    OPENBLAS.set_num_threads(before)


def test_there_is_at_least_one_thread_and_products_are_right_on_one():
    assert blas.num_threads() >= 1
    some = np.random.default_rng(0).random((300, 300), np.float32)
    expected = some @ some
    with blas.single_threaded():
        np.testing.assert_allclose(some @ some, expected, rtol=1e-5)


@openblas
def test_a_product_is_kept_to_one_thread_and_no_longer(three_threads):
    assert blas.num_threads() == 3
    with blas.single_threaded():
        assert OPENBLAS.get_num_threads() == 1
        with blas.single_threaded():
            assert OPENBLAS.get_num_threads() == 1
        assert OPENBLAS.get_num_threads() == 1
    assert OPENBLAS.get_num_threads() == 3


@openblas
def test_an_error_gives_the_threads_back(three_threads):
    with pytest.raises(KeyError), blas.single_threaded():
        raise KeyError
    assert blas.num_threads() == 3


@openblas
def test_the_environment_has_its_say():
    code = "from chargen import blas; print(blas.num_threads())"
    told = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout == "1\n"


def test_another_blas_stays_as_it_is(monkeypatch):
    monkeypatch.setattr(blas, "_openblas", lambda: None)
    assert blas.num_threads() == 1
    with blas.single_threaded():
        assert np.dot(2.0, 3.0) == 6
    assert blas.best_rows(64, 256 * 256) == 64


@pytest.mark.parametrize(
    ("rows", "size", "expected"),
    [
        (64, 256 * 256, 8),
        (96, 256 * 256, 12),
        (64, 128 * 128, 32),
        (64, 32 * 32, 64),
        (26, 256 * 256, 13),
        (29, 256 * 256, 29),  # no divisor
        (3, 256 * 256, 3),
        (64, 512 * 512, 64),  # too few rows would be left
        (1, 1, 1),
    ],
)
def test_rows_are_multiplied_a_few_at_a_time(rows, size, expected, monkeypatch):
    for core in (b"SkylakeX", b"Cooperlake", b"SapphireRapids"):
        monkeypatch.setattr(blas, "_openblas", lambda core=core: fake(core))
        assert blas.best_rows(rows, size) == expected
    monkeypatch.setattr(blas, "_openblas", lambda: fake(b"Haswell"))
    assert blas.best_rows(rows, size) == rows


def fake(core):
    return blas._OpenBLAS(lambda: 1, lambda _: None, core)


@pytest.mark.parametrize("shape", [(1,), (3, 5), (2, 7, 16)])
def test_a_copy_begins_at_a_multiple_of_64_bytes(shape):
    values = np.random.default_rng(0).random(shape).astype(np.float32).T
    for _ in range(5):
        copy = blas.aligned(values)
        assert copy.ctypes.data % 64 == 0
        assert copy.flags.c_contiguous
        assert copy.flags.writeable
        np.testing.assert_array_equal(copy, values)
        assert not np.shares_memory(copy, values)
