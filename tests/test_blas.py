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
    operands = blas.Kernels(np.zeros((4, 8, 16), np.float32)).operands(
        np.zeros((64, 8), np.float32), np.zeros((4, 64, 16), np.float32)
    )
    assert operands[2].shape == (4, 1, 1, 64, 16)


def fake(core, threads=1):
    return lambda: blas._OpenBLAS(lambda: threads, lambda _: None, core)


@pytest.mark.parametrize(
    ("batch", "inputs", "columns", "together", "width"),
    [
        (64, 256, 256, 8, 256),
        (96, 256, 256, 12, 256),
        (96, 512, 512, 24, 64),
        (26, 384, 384, 26, 64),
        (29, 64, 128, 29, 128),
        (62, 512, 256, 62, 64),  # no divisor that is few enough
        (3, 256, 256, 3, 256),
        (64, 256, 100, 32, 100),
        (64, 513, 64, 64, 64),  # too long
        (1, 1, 1, 1, 1),
    ],
)
def test_products_are_cut_into_tiles(batch, inputs, columns, together, width, monkeypatch):
    rng = np.random.default_rng(0)
    rows = rng.random((batch, inputs), np.float32)
    kernels = rng.random((3, inputs, columns), np.float32)
    expected = np.matmul(rows, kernels)
    for core in (b"SkylakeX", b"Cooperlake", b"SapphireRapids", b"Haswell"):
        monkeypatch.setattr(blas, "_openblas", fake(core))
        out = np.zeros((3, batch, columns), np.float32)
        operands = blas.Kernels(kernels).operands(rows, out)
        shape = (batch, columns) if core == b"Haswell" else (together, width)
        assert operands[2].shape[-2:] == shape
        assert np.shares_memory(operands[0], rows)
        np.matmul(*operands)
        np.testing.assert_allclose(out, expected, rtol=1e-5)


@pytest.mark.parametrize(("units", "together", "width"), [(256, 8, 256), (512, 64, 512)])
def test_several_threads_are_left_the_large_products(units, together, width, monkeypatch):
    monkeypatch.setattr(blas, "_openblas", fake(b"SkylakeX", threads=2))
    rows, out = np.zeros((64, units), np.float32), np.zeros((4, 64, units), np.float32)
    kernels = blas.Kernels(np.zeros((4, units, units), np.float32))
    assert kernels.operands(rows, out)[2].shape[-2:] == (together, width)


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
