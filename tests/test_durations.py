"""Lengths of time as a user writes them, there and back."""

import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chargen.config import format_duration, parse_duration
from chargen.errors import UsageError

YEAR = 366 * 86400


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90), ("3m", 180), ("1h30m", 5400), ("90", 90), ("0.5", 0.5), ("1.5h", 5400),
        ("1h1m1s", 3661), ("2h5", 7205), (" 3M ", 180), ("1H", 3600), ("0", 0), ("90m", 5400),
    ],
)  # fmt: skip
def test_a_duration_is_read(text, seconds):
    assert parse_duration(text) == pytest.approx(seconds, rel=1e-12)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "s",
        "h",
        "3x",
        "-3m",
        "+3",
        "3m1h",
        "1m1m",
        "1 h",
        "1e3",
        "nan",
        "inf",
        ".5",
        "3m\n4s",
    ],
)
def test_what_is_no_duration_is_refused_in_one_line(text):
    with pytest.raises(UsageError, match="--budget") as caught:
        parse_duration(text)
    assert repr(text) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"), (90, "1m30s"), (180, "3m"), (3600, "1h"), (3601, "1h1s"), (0.1, "0.1s"),
        (59.96, "1m"), (5430.5, "1h30m30.5s"), (YEAR, "8784h"),
    ],
)  # fmt: skip
def test_a_duration_is_written(seconds, text):
    assert format_duration(seconds) == text


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 10 * YEAR))
def test_a_written_duration_is_read_back_to_the_tenth(tenths):
    text = format_duration(tenths / 10)
    assert round(10 * parse_duration(text)) == tenths
    assert format_duration(parse_duration(text)) == text


@settings(deadline=None, max_examples=100)
@given(st.floats(0, YEAR))
def test_no_written_duration_is_off_by_more_than_half_a_tenth(seconds):
    error = abs(parse_duration(format_duration(seconds)) - seconds)
    assert error <= 0.05 + YEAR * sys.float_info.epsilon
