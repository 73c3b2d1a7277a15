"""Character to index and back, for any Unicode, and what becomes of an unknown character."""

import os
import unicodedata
from random import Random

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from chargen.errors import TextError, UsageError
from chargen.vocabulary import Vocabulary, code_points, describe_character

# A family of four joined, a combining accent, a flag, an astral letter, the extremes.
ODD_TEXTS = [
    "👨‍👩‍👧‍👦 and 👍🏽",
    "e\u0301 is not é",
    "🇫🇷🏴󠁧󠁢󠁥󠁮󠁧󠁿",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𐎀𐎁",
    "\x00\x01\t\r\n\x7f\x85\u2028\u2029\ufeff\ufffe\uffff\U0010ffff",
    "שלום \u202eعربي\u202c हिन्दी 日本語",
]

texts = st.text(min_size=1, max_size=80)  # without lone surrogates
scalars = st.characters()


def message_of(error: pytest.ExceptionInfo[TextError]) -> str:
    message = str(error.value)
    assert error.value.status == 3
    assert len(message.splitlines()) == 1
    return message


def test_characters_are_the_sorted_code_points_each_once():
    vocabulary = Vocabulary.from_text("ba\nab😀é")
    assert vocabulary.characters == (0x0A, 0x61, 0x62, 0xE9, 0x1F600)
    assert len(vocabulary) == 5
    assert vocabulary.encode("ba\nab😀é").tolist() == [2, 1, 0, 1, 2, 4, 3]


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_any_unicode_comes_back_as_it_was(text):
    vocabulary = Vocabulary.from_text(text)
    assert vocabulary.characters == tuple(sorted(set(map(ord, text))))
    assert vocabulary.decode(vocabulary.encode(text)) == text
    assert vocabulary.decode_bytes(vocabulary.encode(text)) == text.encode()


def test_text_is_not_normalised():
    composed, decomposed = "é", unicodedata.normalize("NFD", "é")
    vocabulary = Vocabulary.from_text(composed + decomposed)
    assert len(vocabulary) == 3
    assert vocabulary.decode(vocabulary.encode(decomposed)) == decomposed


@settings(deadline=None, max_examples=200)
@given(texts)
def test_decode_undoes_encode(text):
    vocabulary = Vocabulary.from_text(text)
    backwards = text[::-1]
    indices = vocabulary.encode(backwards)
    assert indices.shape == (len(text),)
    assert vocabulary.decode(indices) == backwards
    assert vocabulary.decode(indices.tolist()) == backwards
    assert [vocabulary.index(character) for character in backwards] == indices.tolist()


@settings(deadline=None, max_examples=100)
@given(st.lists(st.integers(0, 0xD7FF) | st.integers(0xE000, 0x10FFFF), min_size=1, max_size=50))
def test_code_points_come_in_any_order_and_repeat(points):
    vocabulary = Vocabulary.from_code_points(points)
    assert vocabulary.characters == tuple(sorted(set(points)))
    assert Vocabulary.from_code_points(vocabulary.characters) == vocabulary


def test_an_empty_text_is_no_indices():
    vocabulary = Vocabulary.from_text("ab")
    assert vocabulary.encode("").tolist() == []
    assert vocabulary.decode([]) == ""
    assert vocabulary.decode_bytes([]) == b""


def test_an_empty_vocabulary_is_refused():
    for make in (lambda: Vocabulary.from_text(""), lambda: Vocabulary("char", ())):
        with pytest.raises(TextError, match="at least one character"):
            make()


def test_an_unknown_character_is_named_with_its_code_point_and_position():
    with pytest.raises(TextError) as caught:
        Vocabulary.from_text("abc").encode("abcéab")
    message = message_of(caught)
    for part in ("the text", "'é'", "U+00E9", "at character 4,", "--unknown skip"):
        assert part in message
    assert "more" not in message


def test_the_first_unknown_character_is_named_and_the_others_counted():
    with pytest.raises(
        TextError, match=r"^the seed: holds '!' \(U\+0021\) at character 103 "
    ) as caught:
        Vocabulary.from_text("ab").encode("ab!a?!?x", what="the seed", offset=100)
    assert "(and 2 more)" in message_of(caught)


@pytest.mark.parametrize(
    ("character", "named"),
    [
        ("\n", r"'\n' (U+000A)"), ("\u2028", r"'\u2028' (U+2028)"), ("😀", "'😀' (U+1F600)"),
        ("\x00", r"'\x00' (U+0000)"), ("'", '"\'" (U+0027)'), ("\ud800", r"'\ud800' (U+D800)"),
        ("\u0301", "'\u0301' (U+0301)"), ("\U0010ffff", r"'\U0010ffff' (U+10FFFF)"),
    ],
)  # fmt: skip
def test_any_character_is_named_on_one_line(character, named):
    assert describe_character(ord(character)) == named
    with pytest.raises(TextError) as caught:
        Vocabulary.from_text("ab").encode(character)
    assert named in message_of(caught)


@settings(deadline=None, max_examples=150)
@given(texts, scalars, st.data())
def test_an_unknown_character_is_found_wherever_it_stands(text, stranger, data):
    assume(stranger not in text)
    vocabulary = Vocabulary.from_text(text)
    where = data.draw(st.integers(0, len(text)))
    with pytest.raises(TextError) as caught:
        vocabulary.encode(text[:where] + stranger + text[where:])
    assert f"(U+{ord(stranger):04X}) at character {where + 1}," in message_of(caught)


@settings(deadline=None, max_examples=150)
@given(texts, st.text(max_size=80))
def test_skip_leaves_unknown_characters_out(known, text):
    vocabulary = Vocabulary.from_text(known)
    kept = "".join(character for character in text if character in known)
    assert vocabulary.decode(vocabulary.encode(text, unknown="skip")) == kept


def test_what_is_not_in_the_vocabulary_has_no_index():
    vocabulary = Vocabulary.from_text("ac")
    assert [vocabulary.index(character) for character in "abc\U0010ffff\x00"] == [
        0,
        None,
        1,
        None,
        None,
    ]


def test_the_neighbours_of_the_last_character_are_unknown():
    vocabulary = Vocabulary.from_text("mn")
    assert vocabulary.encode("lmnop", unknown="skip").tolist() == [0, 1]
    assert [vocabulary.index(character) for character in "lmno"] == [None, 0, 1, None]


def test_the_line_break_is_found_only_where_it_was_seen():
    assert Vocabulary.from_text("a\nb").line_break == 0
    assert Vocabulary.from_text("\ta\nb").line_break == 1
    assert Vocabulary.from_text("a\rb").line_break is None
    assert Vocabulary.of_bytes().line_break == 10


@pytest.mark.parametrize("point", [0xD800, 0xDBFF, 0xDC00, 0xDFFF])
def test_a_lone_surrogate_is_refused(point):
    with pytest.raises(TextError, match="surrogate") as caught:
        Vocabulary.from_text(f"a{chr(point)}b")
    message_of(caught)
    with pytest.raises(TextError, match="surrogate"):
        Vocabulary("char", (0x61, point, 0xFFFF))


def test_the_neighbours_of_the_surrogates_are_characters():
    assert Vocabulary.from_text("\ud7ff\ue000").characters == (0xD7FF, 0xE000)


@pytest.mark.parametrize(
    "points", [(2, 1), (1, 1), (1, 3, 2), (-1, 5), (5, 0x110000), (1, 2, 2, 3), (0x110000,), (-1,)]
)
def test_characters_out_of_order_or_range_are_refused(points):
    with pytest.raises(UsageError, match="each once"):
        Vocabulary("char", points)


def test_bytes_are_their_own_indices():
    vocabulary = Vocabulary.of_bytes()
    every_byte = bytes(range(256))
    assert vocabulary.kind == "byte"
    assert len(vocabulary) == 256
    assert vocabulary.encode(every_byte).tolist() == list(range(256))
    assert vocabulary.decode_bytes(vocabulary.encode(every_byte)) == every_byte
    assert vocabulary.encode("é😀").tolist() == list("é😀".encode())


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=100), st.text(max_size=50))
def test_any_bytes_and_any_text_survive_a_byte_vocabulary(data, text):
    vocabulary = Vocabulary.of_bytes()
    assert vocabulary.decode_bytes(vocabulary.encode(data)) == data
    assert vocabulary.decode(vocabulary.encode(data)) == data.decode("utf-8", "replace")
    assert vocabulary.decode(vocabulary.encode(text)) == text


def test_an_argument_that_is_no_utf_8_keeps_its_bytes():
    argument = os.fsdecode(b"caf\xe9")  # as Python gives it
    assert Vocabulary.of_bytes().encode(argument).tolist() == list(b"caf\xe9")


@pytest.mark.parametrize("points", [(), tuple(range(255)), tuple(range(1, 257))])
def test_a_byte_vocabulary_is_all_256_bytes(points):
    with pytest.raises(UsageError, match="256 bytes"):
        Vocabulary("byte", points)


def test_only_two_kinds_are_known():
    with pytest.raises(UsageError, match=r"^--tokens 'word': "):
        Vocabulary("word", (1, 2))


def test_a_character_vocabulary_takes_no_bytes():
    with pytest.raises(TypeError, match="decode the bytes first"):
        Vocabulary.from_text("ab").encode(b"ab")


def test_the_dict_holds_the_characters_in_order():
    assert Vocabulary.from_text("b\na😀").to_dict() == {
        "kind": "char",
        "characters": ["\n", "a", "b", "😀"],
    }
    assert Vocabulary.of_bytes().to_dict() == {"kind": "byte"}


def test_sixty_thousand_characters_are_encoded_and_decoded():
    points = [*range(0x20, 0xD800), *range(0x1F000, 0x1F000 + 60_000 - (0xD800 - 0x20))]
    Random(0).shuffle(points)
    text = "".join(map(chr, points))
    vocabulary = Vocabulary.from_text(text)
    assert len(vocabulary) == 60_000
    indices = vocabulary.encode(text)
    assert np.array_equal(np.sort(indices), np.arange(60_000))
    assert np.array_equal(np.argsort(indices), np.argsort(points))
    assert vocabulary.decode(indices) == text


def test_code_points_hold_lone_surrogates_too():
    assert code_points("a😀\udc80").tolist() == [0x61, 0x1F600, 0xDC80]
    assert code_points("").size == 0
