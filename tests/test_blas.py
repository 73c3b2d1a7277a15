"""The threads of BLAS: told, kept to one for a while, and given back."""

import os
import subprocess
import sys

import numpy as np
import pytest

from chargen import blas

SETTING = blas._setting()
openblas = pytest.mark.skipif(SETTING is None, reason="NumPy has another BLAS")


@pytest.fixture
def three_threads():
    before = SETTING.get()
    SETTING.set(3)
    yield
    SETTING.set(before)


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
        assert SETTING.get() == 1
        with blas.single_threaded():
            assert SETTING.get() == 1
        assert SETTING.get() == 1
    assert SETTING.get() == 3


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
    monkeypatch.setattr(blas, "_setting", lambda: None)
    assert blas.num_threads() == 1
    with blas.single_threaded():
        assert np.dot(2.0, 3.0) == 6
