"""Characters that can be seen: signs for blanks, escapes for what cannot be printed.

For labels in pictures and tables, on paper and in terminals. This room knows vocabularies, and
nothing of fonts.
"""

from __future__ import annotations

from chargen.vocabulary import Vocabulary

__all__ = ["escaped", "kinds_of", "labels_of", "spelled"]

_SIGNS = {"\n": "↵", "\t": "→"}


def escaped(text: str) -> str:
    """``text`` with an escape such as ``\\n`` for each character that cannot be printed."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def spelled(character: str) -> str:
    """A character in a line of text: one sign for a line break or a tab, else as ``escaped``."""
    return _SIGNS.get(character) or escaped(character)


def labels_of(vocabulary: Vocabulary) -> list[str]:
    """What each index is called where it stands alone: ``␣`` is a space, ``\\xe9`` a byte."""
    return [
        f"\\x{point:02x}"
        if _is_part(vocabulary, point)
        else "␣"
        if point == 0x20
        else escaped(chr(point))
        for point in vocabulary.characters
    ]


def kinds_of(vocabulary: Vocabulary) -> list[str]:
    """What each index is: a letter, capital, digit, sign or space, or a byte of something else."""
    return [
        "byte" if _is_part(vocabulary, point) else _kind(chr(point))
        for point in vocabulary.characters
    ]


def _is_part(vocabulary: Vocabulary, point: int) -> bool:
    return vocabulary.kind == "byte" and point >= 0x80


def _kind(character: str) -> str:
    if character.isspace() or not character.isprintable():
        return "space"
    if character.isupper():
        return "capital"
    if character.isalpha():
        return "letter"
    return "digit" if character.isnumeric() else "sign"
