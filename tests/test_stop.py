"""Where a text ends: `Stop`, fed token by token, against a search of the whole text."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chargen.errors import UsageError
from chargen.generation import Stop, StopRules


def fed(rules: StopRules, pieces: list[bytes]) -> tuple[bytes, str | None, int]:
    """The text, why it ended, and how many pieces it took; None where it did not end."""
    stop = Stop(rules)
    parts = []
    for piece in pieces:
        if stop.reason is not None:
            break
        parts.append(stop.feed(piece))
    return b"".join(parts), stop.reason, len(parts)


def searched(rules: StopRules, pieces: list[bytes]) -> tuple[bytes, str | None, int]:
    """The slow twin: after every byte, all of the text so far."""
    if rules.length == 0 or rules.lines == 0:
        return b"", "length" if rules.length == 0 else "lines", 0
    text = b""
    for count, piece in enumerate(pieces, start=1):
        for byte in piece:
            text += bytes([byte])
            found = sorted((text.find(stop), stop) for stop in rules.stop if stop in text)
            if found:
                start, stop = found[0]
                return text[: start + len(stop) * rules.keep_stop], "stop", count
            if rules.lines is not None and text.count(b"\n") >= rules.lines:
                return text, "lines", count
        if count == rules.length:
            return text, "length", count
    return text, None, len(pieces)


letters = st.sampled_from([b"a", b"b", b"c", b"\n"])
texts = st.lists(letters, max_size=40)
unicode_texts = st.text("aéε😀😁", max_size=30).map(lambda text: [c.encode() for c in text])
byte_texts = st.text("aéε😀😁", max_size=20).map(lambda text: [bytes([b]) for b in text.encode()])
some_stops = st.lists(st.lists(letters, min_size=1, max_size=5).map(b"".join), max_size=3)
unicode_stops = st.lists(st.text("aéε😀😁", min_size=1, max_size=3).map(str.encode), max_size=3)
lengths = st.none() | st.integers(0, 40)


def agree(rules: StopRules, pieces: list[bytes]) -> None:
    text, reason, count = fed(rules, pieces)
    expected, expected_reason, expected_count = searched(rules, pieces)
    assert (reason, count) == (expected_reason, expected_count)
    if reason is None:  # the beginning of a stop string may be held back
        held = expected.removeprefix(text)
        assert len(held) < max(map(len, rules.stop), default=1)
        assert not held or any(stop.startswith(held) for stop in rules.stop)
        expected = expected[: len(expected) - len(held)]
    assert text == expected


@given(texts, some_stops, st.booleans(), lengths, st.none() | st.integers(0, 6))
@settings(max_examples=1500)
def test_stops_lengths_and_lines_are_those_of_a_whole_text_search(
    pieces, stops, keep_stop, length, lines
):
    agree(StopRules(length, tuple(stops), keep_stop, lines), pieces)


@given(unicode_texts | byte_texts, unicode_stops, st.booleans(), lengths)
@settings(max_examples=800)
def test_characters_of_several_bytes_are_found_whole_or_byte_by_byte(
    pieces, stops, keep_stop, length
):
    agree(StopRules(length, tuple(stops), keep_stop), pieces)


@given(
    st.lists(st.text("ab\n", max_size=4).map(str.encode), max_size=20), some_stops, st.booleans()
)
@settings(max_examples=500)
def test_pieces_of_any_size_are_searched(pieces, stops, keep_stop):
    agree(StopRules(None, tuple(stops), keep_stop), pieces)
    agree(StopRules(None, (), keep_stop, 3), pieces)


@given(texts, some_stops, lengths)
def test_what_was_given_is_never_taken_back(pieces, stops, length):
    """Each part goes out at once, so the parts must be a beginning of the text they end in."""
    rules = StopRules(length, tuple(stops))
    final = searched(rules, pieces)[0]
    stop, text = Stop(rules), b""
    for piece in pieces:
        if stop.reason is not None:
            break
        text += stop.feed(piece)
        assert final.startswith(text)


def parts(rules: StopRules, text: str) -> list[bytes]:
    stop = Stop(rules)
    return [stop.feed(character.encode()) for character in text]


def test_only_what_may_begin_a_stop_string_is_held_back():
    rules = StopRules(stop=(b"abc",))
    assert parts(rules, "xaxabab") == [b"x", b"", b"ax", b"", b"", b"ab", b""]
    assert parts(rules, "aabc") == [b"", b"a", b"", b""]
    assert parts(StopRules(stop=(b"x",)), "abab") == [b"a", b"b", b"a", b"b"]


def test_a_stop_string_that_overlaps_itself():
    assert parts(StopRules(stop=(b"aab",)), "aaab") == [b"", b"", b"a", b""]
    assert fed(StopRules(stop=(b"abab",)), [b"a", b"b", b"c", b"abab"])[0] == b"abc"


def test_what_is_held_back_goes_out_at_the_length():
    rules = StopRules(length=3, stop=(b"bcd",))
    assert parts(rules, "abc") == [b"a", b"", b"bc"]
    assert fed(rules, [b"a", b"b", b"c"]) == (b"abc", "length", 3)


def test_a_stop_string_that_ends_with_the_last_character_counts():
    assert fed(StopRules(length=3, stop=(b"bc",)), [b"a", b"b", b"c"]) == (b"a", "stop", 3)


def test_the_first_stop_string_to_be_whole_ends_the_text():
    rules = StopRules(stop=(b"abcd", b"bc"))
    assert fed(rules, [b"x", b"a", b"b", b"c", b"d"]) == (b"xa", "stop", 4)


def test_the_first_to_be_whole_does_not_hang_on_the_size_of_the_pieces():
    rules = StopRules(stop=(b"a", b"\nab"))
    assert fed(rules, [b"\nab"]) == (b"\n", "stop", 1)
    assert fed(rules, [b"\n", b"a", b"b"]) == (b"\n", "stop", 2)


def test_of_stop_strings_that_end_together_the_longest_is_left_out():
    for stops in ((b"abc", b"c"), (b"c", b"abc")):
        assert fed(StopRules(stop=stops), [b"x", b"a", b"b", b"c"]) == (b"x", "stop", 4)
        kept = StopRules(stop=stops, keep_stop=True)
        assert fed(kept, [b"x", b"a", b"b", b"c"])[0] == b"xabc"


def test_a_stop_string_of_a_line_break_leaves_it_out():
    assert fed(StopRules(stop=(b"\n",)), [b"a", b"\n", b"b"]) == (b"a", "stop", 2)
    assert fed(StopRules(stop=(b"\n",)), [b"\n"]) == (b"", "stop", 1)


def test_lines_are_whole_lines():
    pieces = [bytes([byte]) for byte in b"one\n\nthree\nfour"]
    assert fed(StopRules(lines=1), pieces) == (b"one\n", "lines", 4)
    assert fed(StopRules(lines=2), pieces) == (b"one\n\n", "lines", 5)
    assert fed(StopRules(lines=3), pieces) == (b"one\n\nthree\n", "lines", 11)
    assert fed(StopRules(lines=4), pieces) == (b"one\n\nthree\nfour", None, 15)
    assert fed(StopRules(length=2, lines=1), pieces) == (b"on", "length", 2)


@pytest.mark.parametrize(
    ("rules", "reason"),
    [(StopRules(length=0), "length"), (StopRules(lines=0), "lines"), (StopRules(), None)],
)
def test_a_text_may_have_ended_before_it_began(rules, reason):
    assert Stop(rules).reason == reason


def test_without_rules_everything_goes_through():
    assert fed(StopRules(), [b"a", b"\n"] * 50) == (b"a\n" * 50, None, 100)


@pytest.mark.parametrize(
    ("options", "option"),
    [({"stop": (b"a", b"")}, "--stop"), ({"lines": -1}, "--lines")],
)
def test_rules_that_cannot_be_are_refused(options, option):
    with pytest.raises(UsageError, match=option):
        StopRules(**options)
