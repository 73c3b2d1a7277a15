"""``--lines``: each line a document, shuffled and held out whole."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import line_of

from chargen import corpus as corpus_module
from chargen.corpus import Corpus, read_corpus
from chargen.errors import TextError

NAMES = [f"name {number}\n" for number in range(100)]


@pytest.fixture
def small_pieces(monkeypatch):
    """Slices and shares of documents so small that a short text takes many."""
    monkeypatch.setattr(corpus_module, "_SLICE", 7)
    monkeypatch.setattr(corpus_module, "_DOCUMENTS", 3)


def lines_of(corpus: Corpus) -> list[str]:
    return corpus.vocabulary.decode(corpus.tokens).splitlines(keepends=True)


def read_lines(text: str, **options) -> Corpus:
    return read_corpus(text=text, lines=True, **options)


def parts_of(corpus: Corpus) -> tuple[list[str], list[str]]:
    """The lines to train on, and the held-out ones."""
    decode = corpus.vocabulary.decode
    return (
        decode(corpus.training_part).splitlines(keepends=True),
        decode(corpus.held_out_part).splitlines(keepends=True),
    )


documents = st.lists(st.text(st.sampled_from("ab \t\r\u2028é😀"), max_size=12), max_size=40)


@pytest.mark.parametrize("pieces", [(1 << 22, 1 << 16), (7, 3), (1, 1)])
@settings(deadline=None, max_examples=60)
@given(lines=documents, fraction=st.sampled_from([None, 0, 0.25, 0.5]), seed=st.integers(0, 99))
def test_every_line_that_is_not_empty_is_kept_whole(pieces, lines, fraction, seed):
    kept = [line + "\n" for line in lines if line not in ("", "\r")]
    text = "".join(line + "\n" for line in lines)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus_module, "_SLICE", pieces[0])
        patch.setattr(corpus_module, "_DOCUMENTS", pieces[1])
        if not kept:
            with pytest.raises(TextError):
                read_lines(text, val_fraction=fraction, random_seed=seed)
            return
        corpus = read_lines(text, val_fraction=fraction, random_seed=seed)
    trained, held_out = (
        corpus.vocabulary.decode(part).split("\n")
        for part in (corpus.training_part, corpus.held_out_part)
    )
    assert trained[-1] == held_out[-1] == ""  # each part ends with the end of a line
    read = trained[:-1] + held_out[:-1]
    assert Counter(line + "\n" for line in read) == Counter(kept)


def test_the_order_is_shuffled_and_depends_on_the_seed_alone():
    text = "".join(NAMES)
    first = lines_of(read_lines(text, random_seed=1))
    assert sorted(first) == sorted(NAMES)
    assert first != NAMES
    assert lines_of(read_lines(text, random_seed=1)) == first
    assert lines_of(read_lines(text, random_seed=2)) != first
    other_words = lines_of(read_lines(text.replace("name", "item no."), random_seed=1))
    assert [line.replace("item no.", "name") for line in other_words] == first


@pytest.mark.usefixtures("small_pieces")
def test_the_order_does_not_depend_on_the_pieces():
    text = "".join(NAMES)
    in_pieces = lines_of(read_lines(text, random_seed=1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus_module, "_SLICE", 1 << 22)
        patch.setattr(corpus_module, "_DOCUMENTS", 1 << 16)
        assert lines_of(read_lines(text, random_seed=1)) == in_pieces


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize(
    ("fraction", "held_out"), [(None, 10), (0, 0), (0.25, 25), (0.5, 50), (0.99, 99), (0.999, 0)]
)
def test_lines_are_held_out_whole_by_their_number(fraction, held_out):
    corpus = read_lines("".join(NAMES), val_fraction=fraction)
    trained, kept_back = parts_of(corpus)
    assert len(kept_back) == held_out
    assert len(trained) == 100 - held_out
    assert sorted(trained + kept_back) == sorted(NAMES)
    assert corpus.held_out_size == sum(map(len, kept_back))


def test_held_out_lines_come_from_everywhere():
    _, held_out = parts_of(read_lines("".join(NAMES), val_fraction=0.5))
    assert 10 < sum(NAMES.index(line) < 50 for line in held_out) < 40  # 25 are expected


def test_the_default_holds_out_lines_of_at_most_a_million_characters(monkeypatch):
    monkeypatch.setattr(corpus_module, "_LARGEST_DEFAULT_HELD_OUT", 60)
    corpus = read_lines("".join(NAMES))
    assert 0 < corpus.held_out_size <= 60


@pytest.mark.parametrize("text", ["one\n\n\ntwo\n", "\n\none\ntwo\n\n", "\r\none\n\r\n\r\ntwo\n\n"])
def test_empty_lines_are_left_out(text):
    assert sorted(lines_of(read_lines(text))) == ["one\n", "two\n"]


def test_a_blank_or_returned_line_is_not_empty():
    corpus = read_lines(" \n\t\none\r\n\r\r\n")
    documents = corpus.vocabulary.decode(corpus.tokens).split("\n")
    assert sorted(documents) == ["", "\t", "\r\r", " ", "one\r"]


@pytest.mark.parametrize("tokens", ["char", "byte"])
def test_the_last_line_of_every_file_gets_its_break(tmp_path, tokens):
    files = {
        "a": b"one\ntwo",
        "b": b"",
        "c": b"three",
        "d": b"four\n",
        "e": b"\r\n",
        "f": b"five\r",
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    corpus = read_corpus([tmp_path], lines=True, tokens=tokens)
    documents = corpus.vocabulary.decode_bytes(corpus.tokens).split(b"\n")
    assert sorted(documents) == sorted([b"", b"one", b"two", b"three", b"four", b"five\r"])


def test_the_last_line_of_a_text_gets_its_break():
    assert sorted(lines_of(read_lines("one\ntwo"))) == ["one\n", "two\n"]


def test_a_text_of_one_line_without_a_break_is_one_document():
    assert lines_of(read_lines("only")) == ["only\n"]


@pytest.mark.parametrize("data", [b"\n", b"\n\n\r\n", b"\r\n"])
def test_a_corpus_of_empty_lines_is_refused(tmp_path, data):
    path = tmp_path / "blank"
    path.write_bytes(data)
    with pytest.raises(TextError, match=r"empty lines.*--lines") as caught:
        read_corpus([path], lines=True)
    assert str(path) in line_of(caught, 3)


def test_no_text_is_refused_as_such():
    with pytest.raises(TextError, match="holds no text") as caught:
        read_lines("")
    line_of(caught, 3)


def test_one_line_is_trained_on_whole():
    corpus = read_lines("a line\n")
    assert corpus.held_out_size == 0
    assert lines_of(corpus) == ["a line\n"]


def test_many_characters_widen_lines_too():
    text = "".join(chr(0x4E00 + number) + "\n" for number in range(300))
    corpus = read_lines(text)
    assert corpus.tokens.dtype.itemsize == 2
    assert sorted(lines_of(corpus)) == sorted(text.splitlines(keepends=True))
    assert lines_of(corpus) != text.splitlines(keepends=True)
