"""What a run leaves on the disk while it goes: the best model first, then the state.

A write that fails on the way is told, and training goes on; only the last one of the model must
succeed. Knows nothing of Keras or of what is in the two files.
"""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path

from chargen.archive import Archive, write_archive
from chargen.errors import RunError
from chargen.training.checkpoint import Checkpoint, state_path, write_checkpoint
from chargen.training.events import Listener, Note

__all__ = ["Saver"]


class Saver:
    """Writes the model to ``path`` and the state beside it, at least every ``interval`` seconds.

    Where a model comes to exist at ``path`` that may not be replaced (``may_overwrite``), another
    name is taken. A run that goes on is ``resumed``; any other one removes the state that an
    earlier one left, for it belongs to another model.
    """

    def __init__(
        self,
        path: Path,
        interval: float,
        listener: Listener,
        *,
        may_overwrite: bool,
        resumed: bool,
    ) -> None:
        self.path = path
        self._interval = interval
        self._listener = listener
        self._may_overwrite = may_overwrite or resumed
        self._resumed = resumed
        self._has_written = False
        self._failure = ""  # of the last writes
        self._last = time.monotonic()

    def is_due(self) -> bool:
        return time.monotonic() - self._last >= self._interval

    def save(self, archive: Archive, checkpoint: Checkpoint) -> None:
        """Write both; a failure is told, once while it lasts, and the files that stand there
        stay."""
        self._last = time.monotonic()
        try:
            self._write_model(archive)
            write_checkpoint(state_path(self.path), checkpoint)
        except RunError as error:
            if str(error) != self._failure:
                self._listener(Note(f"{error}; training goes on"))
            self._failure = str(error)
        else:
            self._failure = ""

    def save_last(self, archive: Archive, checkpoint: Checkpoint) -> None:
        """Write both at the end of a run. Raises ``RunError`` where the model cannot be written;
        a failure of the state is told."""
        self._write_model(archive)
        try:
            write_checkpoint(state_path(self.path), checkpoint)
        except RunError as error:
            self._listener(Note(f"{error}; the model is written, and only --resume lacks it"))

    def _write_model(self, archive: Archive) -> None:
        if self._has_written:
            write_archive(self.path, archive)
            return
        if not self._may_overwrite and os.path.lexists(self.path):
            taken, self.path = self.path, _free_name(self.path)
            self._listener(Note(f"{taken} has come to exist meanwhile: {self.path} is written"))
        write_archive(self.path, archive, outdated=None if self._resumed else state_path(self.path))
        self._has_written = True


def _free_name(path: Path) -> Path:
    """The first of NAME-1, NAME-2, ... that does not exist."""
    names = (path.with_stem(f"{path.stem}-{number}") for number in itertools.count(1))
    return next(name for name in names if not os.path.lexists(name))
