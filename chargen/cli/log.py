"""``chargen train --log``: what happens in a run, as JSON lines in a file."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO

from chargen.cli.consoles import tell
from chargen.errors import RunError
from chargen.training.events import Event, Listener, Progress

__all__ = ["logged"]

_INTERVAL = 1.0  # seconds between two lines of progress


@contextmanager
def logged(path: str | None) -> Iterator[Listener]:
    """A listener that adds events to the file at ``path``; None listens to nothing.

    Each line has ``event``, the name of its kind in small letters, ``seconds`` since the beginning,
    and the entries of the event. The file is opened at the first event, so that a run that is
    refused leaves none; it raises ``RunError`` where that fails.
    """
    if path is None:
        yield lambda event: None
        return
    log = _Log(path)
    try:
        yield log
    finally:
        log.close()


class _Log:
    def __init__(self, path: str) -> None:
        self._path = path
        self._file: IO[str] | None = None
        self._began = time.monotonic()
        self._last = -_INTERVAL
        self._has_failed = False

    def _opened(self) -> IO[str]:
        try:
            return open(self._path, "a", encoding="utf-8", errors="surrogateescape")
        except OSError as error:
            raise RunError(
                f"{self._path}: cannot be written: {error.strerror}; name another file with --log"
            ) from error

    def close(self) -> None:
        if self._file is not None:
            with suppress(OSError):  # what could not be written has been told
                self._file.close()

    def __call__(self, event: Event) -> None:
        if self._file is None:
            self._file = self._opened()
        seconds = time.monotonic() - self._began
        if isinstance(event, Progress):
            if seconds - self._last < _INTERVAL and event.step < event.steps:
                return
            self._last = seconds
        record = {"event": type(event).__name__.lower(), "seconds": round(seconds, 3)}
        line = json.dumps({**record, **dataclasses.asdict(event)})
        try:
            self._file.write(f"{line}\n")
            self._file.flush()
        except OSError as error:  # a full disk is no reason to end a run
            if not self._has_failed:
                tell(f"note: {self._path}: cannot be written: {error.strerror}; training goes on")
            self._has_failed = True
