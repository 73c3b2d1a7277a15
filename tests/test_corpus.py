"""A corpus: encoded without loss in the smallest type, split to the character, kept on disk."""

import math
from fractions import Fraction
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import line_of

from chargen import corpus as corpus_module
from chargen import reading
from chargen.corpus import Corpus, encode_with, read_corpus, read_tokens
from chargen.errors import RunError, TextError, UsageError
from chargen.vocabulary import Vocabulary


def decoded(corpus: Corpus) -> str:
    return corpus.vocabulary.decode(corpus.tokens)


def distinct(count: int, seed: int = 0) -> str:
    """``count`` different characters in random order."""
    points = [point for point in range(count + 2048) if not 0xD800 <= point <= 0xDFFF][:count]
    Random(seed).shuffle(points)
    return "".join(map(chr, points))


@pytest.fixture
def small_pieces(monkeypatch):
    """Blocks and slices so small that a short text takes many."""
    monkeypatch.setattr(reading, "_BLOCK_BYTES", 64)
    monkeypatch.setattr(corpus_module, "_SLICE", 50)


@settings(deadline=None, max_examples=60)
@given(st.text(min_size=2, max_size=200))
def test_a_text_comes_back_as_it_was(text):
    corpus = read_corpus(text=text)
    assert decoded(corpus) == text
    assert corpus.vocabulary == Vocabulary.from_text(text)
    assert corpus.tokens.dtype == np.uint8


@settings(deadline=None, max_examples=30)
@given(st.binary(min_size=2, max_size=300))
def test_bytes_come_back_as_they_were(data):
    with TemporaryDirectory() as folder, patch.object(reading, "_BLOCK_BYTES", 50):
        path = Path(folder, "data")
        path.write_bytes(data)
        corpus = read_corpus([path], tokens="byte")
    assert corpus.tokens.tobytes() == data
    assert corpus.vocabulary == Vocabulary.of_bytes()


@pytest.mark.parametrize(
    ("count", "dtype"),
    [(2, np.uint8), (256, np.uint8), (257, np.uint16), (65_536, np.uint16), (65_537, np.uint32)],
)
def test_the_type_is_the_smallest_that_holds_the_vocabulary(tmp_path, count, dtype):
    text = distinct(count)
    path = tmp_path / "text"
    path.write_bytes(text.encode())
    for corpus in (read_corpus(text=text), read_corpus([path])):
        assert corpus.tokens.dtype == dtype
        assert len(corpus.vocabulary) == count
        assert decoded(corpus) == text


@pytest.mark.usefixtures("small_pieces")
def test_the_type_widens_in_the_middle_of_the_stream(tmp_path):
    texts = [
        "the head of the text " * 20,
        distinct(255),
        distinct(300, 1),
        distinct(70_000),
        "tail",
    ]
    paths = [tmp_path / str(number) for number in range(len(texts))]
    for path, text in zip(paths, texts, strict=True):
        path.write_bytes(text.encode())
    for count, dtype in ((1, np.uint8), (2, np.uint8), (3, np.uint16), (5, np.uint32)):
        corpus = read_corpus(paths[:count])
        assert corpus.tokens.dtype == dtype
        assert decoded(corpus) == "".join(texts[:count])
        assert corpus.names == tuple(map(str, paths[:count]))


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("text", ["zyx" * 99 + "abc", distinct(200)[::-1] * 3, "abc" * 99])
def test_indices_follow_the_sorted_characters(tmp_path, text):
    path = tmp_path / "text"
    path.write_bytes(text.encode())
    corpus = read_corpus([path])
    characters = sorted(set(text))
    assert corpus.vocabulary.characters == tuple(map(ord, characters))
    assert corpus.tokens.tolist() == [characters.index(character) for character in text]


def test_a_known_vocabulary_grows_and_keeps_its_characters():
    known = Vocabulary.from_text("zqb")
    corpus = read_corpus(text="abc\n" * 5, known=known)
    assert corpus.vocabulary == Vocabulary.from_text("zqbac\n")
    assert decoded(corpus) == "abc\n" * 5
    assert read_corpus(text="qqz", known=known).vocabulary == known
    assert read_corpus(text="qqz", known=known).tokens.tolist() == [1, 1, 2]


def test_a_known_vocabulary_can_decide_the_type():
    known = Vocabulary.from_text(distinct(256))
    assert read_corpus(text="ab", known=known).tokens.dtype == np.uint8
    assert read_corpus(text="ab\u4e00", known=known).tokens.dtype == np.uint16
    large = read_corpus(text="ab\u4e00", known=Vocabulary.from_text(distinct(70_000)))
    assert large.tokens.dtype == np.uint32
    assert decoded(large) == "ab\u4e00"


def test_a_known_vocabulary_is_of_the_same_kind():
    for known, tokens in ((Vocabulary.of_bytes(), "char"), (Vocabulary.from_text("ab"), "byte")):
        with pytest.raises(UsageError, match="--tokens") as caught:
            read_corpus(text="text", known=known, tokens=tokens)
        line_of(caught, 2)
    assert read_corpus(text="é", tokens="byte", known=Vocabulary.of_bytes()).tokens.size == 2


def test_the_classic_corpus_holds_out_its_classic_tenth():
    corpus = read_corpus(text="ab" * (1_115_394 // 2))
    assert corpus.held_out_size == corpus.held_out_part.size == 111_540
    assert corpus.training_part.size == 1_003_854


def test_the_default_holds_out_at_most_a_million():
    for size, held_out in ((9_999_990, 999_999), (10_000_000, 10**6), (10_000_990, 10**6)):
        assert read_corpus(text="a" * size).held_out_size == held_out
    assert read_corpus(text="a" * 10_001_000, val_fraction=0.5).held_out_size == 5_000_500


def test_the_end_is_held_out():
    corpus = read_corpus(text="abcdefghijklmnopqrst", val_fraction=0.25)
    assert corpus.vocabulary.decode(corpus.training_part) == "abcdefghijklmno"
    assert corpus.vocabulary.decode(corpus.held_out_part) == "pqrst"


def test_nothing_is_held_out_by_a_fraction_of_zero():
    for fraction in (0, 0.0, -0.0, 1e-300):
        corpus = read_corpus(text="ab" * 500, val_fraction=fraction)
        assert corpus.held_out_size == corpus.held_out_part.size == 0
        assert corpus.training_part.size == 1000


def test_every_fraction_is_taken_exactly():
    wrong = []
    for size in (10, 100, 1000):
        for fraction in [f"{hundredths / 100}" for hundredths in range(100)]:
            trained = math.floor(size * (1 - Fraction(fraction)))
            if trained < 2 or size - trained < 2:
                trained = size
            corpus = read_corpus(text="a" * size, val_fraction=float(fraction))
            if corpus.training_part.size != trained:
                wrong.append((size, fraction, corpus.held_out_size, size - trained))
    assert wrong == []


@pytest.mark.parametrize("fraction", [1.0, 1, -0.1, math.nan, math.inf, -math.inf, 1.5, -1e-300])
def test_a_fraction_lies_below_one(fraction):
    with pytest.raises(UsageError, match="--val-fraction") as caught:
        read_corpus(text="text", val_fraction=fraction)
    assert f" {repr(fraction).removesuffix('.0')}: " in line_of(caught, 2)


@pytest.mark.parametrize("fraction", [None, 0, 0.3, 0.5, 0.999])
def test_a_text_too_short_to_split_is_all_trained_on(fraction):
    for text in ("ab", "aa", "abc"):
        corpus = read_corpus(text=text, val_fraction=fraction)
        assert corpus.held_out_size == 0
        assert corpus.vocabulary.decode(corpus.training_part) == text
    assert read_corpus(text="abcd", val_fraction=0.5).held_out_size == 2


@pytest.mark.parametrize(
    ("data", "said"), [(b"", "holds no text"), (b"\xef\xbb\xbf", "no text"), (b"x", "1 character")]
)
def test_a_corpus_of_no_or_one_character_is_refused(tmp_path, data, said):
    path = tmp_path / "tiny"
    path.write_bytes(data)
    with pytest.raises(TextError, match=said) as caught:
        read_corpus([path])
    assert str(path) in line_of(caught, 3)
    with pytest.raises(TextError, match=said):
        read_corpus(text=data.decode("utf-8-sig"))


def test_a_lone_surrogate_in_the_text_is_refused():
    with pytest.raises(TextError, match="surrogate") as caught:
        read_corpus(text="a\ud800b")
    line_of(caught, 3)


def test_errors_of_reading_come_through(tmp_path):
    path = tmp_path / "bad"
    path.write_bytes(b"bad \xff")
    for sources, kind, status in (([path], TextError, 3), ([tmp_path / "none"], RunError, 1)):
        with pytest.raises(kind) as caught:
            read_corpus(sources)
        line_of(caught, status)
    with pytest.raises(UsageError, match="--encoding"):
        read_corpus([path], encoding="rot13")
    assert decoded(read_corpus([path], encoding="latin-1")) == "bad ÿ"


@pytest.mark.usefixtures("small_pieces")
def test_tokens_are_read_by_a_vocabulary_of_another_text(tmp_path):
    for name, text in (("a", "ab" * 50), ("b", "ba" * 50 + "é!é")):
        (tmp_path / name).write_bytes(text.encode())
    paths = [tmp_path / "a", tmp_path / "b"]
    vocabulary = Vocabulary.from_text("ab")
    tokens, skipped = read_tokens(paths, vocabulary, unknown="skip")
    assert vocabulary.decode(tokens) == "ab" * 50 + "ba" * 50
    assert (tokens.dtype, skipped) == (np.uint8, 3)
    with pytest.raises(TextError, match=r"'é' \(U\+00E9\) at character 201 ") as caught:
        read_tokens(paths, vocabulary)
    for path in paths:
        assert str(path) in line_of(caught, 3)
    assert (
        read_tokens(paths, Vocabulary.of_bytes())[0].tobytes()
        == ("ab" * 50 + "ba" * 50 + "é!é").encode()
    )


def test_no_blocks_are_no_tokens():
    for blocks in ([], ["", ""]):
        tokens, skipped = encode_with(blocks, Vocabulary.from_text("ab"))
        assert (tokens.size, skipped) == (0, 0)
