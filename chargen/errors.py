"""The errors a user can meet, each with the status the command line ends with.

    ChargenError              1
    ├── RunError              1   a read, a write or a run that failed
    ├── UsageError            2   an option or argument that cannot be
    ├── TextError             3   text that cannot be used: a corpus, a seed
    └── ModelFileError        4   no usable model in that file

Every message is one line: what came, what was expected, which option mends it. This room knows
nothing of the rest of the house; only ``chargen.cli`` turns an error into a status.
"""

from __future__ import annotations

__all__ = ["ChargenError", "ModelFileError", "RunError", "TextError", "UsageError"]


class ChargenError(Exception):
    """Base of every error that chargen raises on purpose."""

    status = 1


class RunError(ChargenError):
    """A file that could not be read or written, or a run that could not go on."""

    status = 1


class UsageError(ChargenError):
    """An option out of its range, or options that exclude each other."""

    status = 2


class TextError(ChargenError):
    """A corpus or seed that is empty, too short, badly encoded or unknown to the model."""

    status = 3


class ModelFileError(ChargenError):
    """A model file that is missing, damaged, foreign or of a future format."""

    status = 4
