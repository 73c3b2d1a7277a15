"""The texts of ``corpora/`` are what their README says."""

import re
from collections import Counter
from string import ascii_lowercase

import pytest
from conftest import CORPORA

FOX = "The quick brown fox jumps over the lazy dog."


def text_of(name: str) -> str:
    return (CORPORA / name).read_text("utf-8")


def sentences(text: str) -> list[str]:
    """Sentences on one line each, without the quotation marks around them."""
    flat = " ".join(text.split())
    return [piece.strip(" \"'") for piece in re.split(r"(?<=[.!?])[\"']*\s+", flat)]


def test_the_folder_holds_three_texts_and_what_they_are_for() -> None:
    texts = {"fables.txt", "places.txt", "pangrams.txt"}
    assert {path.name for path in CORPORA.iterdir()} == texts | {"README.md"}
    assert all(name in text_of("README.md") for name in texts)


@pytest.mark.parametrize("name", ["fables.txt", "places.txt", "pangrams.txt"])
def test_a_text_is_plain_and_ends_its_last_line(name: str) -> None:
    text = text_of(name)
    assert text.isascii()
    assert not {"\r", "\t", "\0"} & set(text)
    assert text.endswith("\n")
    assert not text.endswith("\n\n")
    assert [line for line in text.split("\n") if line != line.rstrip()] == []


def test_the_fables_are_prose_enough_to_learn_from() -> None:
    text = text_of("fables.txt")
    assert len(text.encode()) >= 60_000
    words = re.findall(r"[a-z]+", text.lower())
    assert len(set(words)) > 2000
    assert sum(map(len, words)) / len(words) < 6


def test_no_long_sentence_of_the_fables_is_told_twice() -> None:
    found = sentences(text_of("fables.txt"))
    assert len(found) > 500
    counts = Counter(sentence for sentence in found if len(sentence) > 40)
    assert len(counts) > 400
    assert {sentence for sentence, count in counts.items() if count > 1} == set()


def test_the_fables_repeat_no_template() -> None:
    """No run of eight words comes thrice, whatever stands around it."""
    words = re.findall(r"[a-z']+", text_of("fables.txt").lower())
    runs = Counter(zip(*(words[first:] for first in range(8)), strict=False))
    assert {run for run, count in runs.items() if count > 2} == set()


def test_a_thousand_places_each_once() -> None:
    lines = text_of("places.txt").splitlines()
    assert len(lines) >= 1000
    assert len({line.lower() for line in lines}) == len(lines)
    assert all(re.fullmatch(r"[A-Z][A-Za-z' -]{2,39}", line) for line in lines)


def test_every_pangram_has_every_letter() -> None:
    lines = text_of("pangrams.txt").splitlines()
    assert lines[0] == FOX
    assert len(set(lines)) == len(lines) >= 50
    missing = {line: set(ascii_lowercase) - set(line.lower()) for line in lines}
    assert {line: letters for line, letters in missing.items() if letters} == {}
