"""What a hidden unit might follow in a text, as a number for each character.

Each feature is known once its character is read, but for the two that look one character ahead:
what a model of the next character may have learned to foresee. This room knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.vocabulary import Vocabulary

__all__ = ["characters_of", "text_features"]

_SENTENCE_ENDS = ".!?。！？"
_IN_WORDS = "'’_"  # beside letters and digits


def characters_of(vocabulary: Vocabulary, tokens: NDArray[np.integer[Any]]) -> str:
    """One character for each token (N,); of a byte, the character that it is a
    part of, or U+FFFD."""
    if vocabulary.kind == "char":
        return vocabulary.decode(tokens)
    text = vocabulary.decode_bytes(tokens).decode("utf-8", "surrogateescape")
    return "".join("\ufffd" if _is_stray(c) else c * len(c.encode()) for c in text)


def _is_stray(character: str) -> bool:
    """Whether it stands for a byte that is part of no character."""
    return "\udc80" <= character <= "\udcff"


def text_features(characters: str) -> dict[str, NDArray[np.float64]]:
    """The features by name, each (N,) of N characters; positions are counted from 1."""
    following = [*characters[1:], ""]
    values: dict[str, Sequence[float]] = {
        "position in line": _since(characters, lambda c: c == "\n"),
        "position in word": _since(characters, lambda c: not (c.isalnum() or c in _IN_WORDS)),
        "position in sentence": _since(characters, lambda c: c in _SENTENCE_ENDS),
        "inside quotes": _inside_quotes(characters),
        "bracket depth": _bracket_depth(characters),
        "capital": [c.isupper() for c in characters],
        "digit": [c.isdigit() for c in characters],
        "white space": [c.isspace() for c in characters],
        "before white space": [c.isspace() for c in following],
        "before a line break": [c == "\n" for c in following],
    }
    return {name: np.array(value, np.float64) for name, value in values.items()}


def _since(characters: str, is_end: Callable[[str], bool]) -> list[int]:
    """How many characters have come since the last one that ``is_end``; 0 at that one."""
    counts, count = [], 0
    for character in characters:
        count = 0 if is_end(character) else count + 1
        counts.append(count)
    return counts


def _inside_quotes(characters: str) -> list[bool]:
    """True from an opening quotation mark up to the one that closes it.

    An empty line closes it too, since a quotation of several paragraphs opens each anew. Single
    quotes are none: they may be apostrophes.
    """
    inside, is_inside, previous = [], False, ""
    for character in characters:
        if character == '"':
            is_inside = not is_inside
        elif character in "“«":
            is_inside = True
        elif character in "”»" or character == previous == "\n":
            is_inside = False
        inside.append(is_inside)
        previous = character
    return inside


def _bracket_depth(characters: str) -> list[int]:
    """How many brackets are open; one that closes nothing counts for nothing."""
    depths, depth = [], 0
    for character in characters:
        depth = max(0, depth + (character in "([{") - (character in ")]}"))
        depths.append(depth)
    return depths
