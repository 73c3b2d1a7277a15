"""A disk that fails when it is told to: a shim between ``chargen.files`` and the system.

The calls that a file comes about by are counted, and one of them may fail, as a full disk, a broken
or a read-only one does. A write that fails has written a part.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable
from typing import Any

import pytest

from chargen import files

CALLS = ("write", "flush", "fsync", "chmod", "replace", "fsync")  # of one file, then the next
ERRORS = (errno.ENOSPC, errno.EIO, errno.EROFS)


class Disk:
    """Passes calls on, but for number ``failing`` (from 0) since it was set: that one fails."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        self.has_failed = False
        self._failing: int | None = None
        self._error = errno.ENOSPC
        system = _Shim(os, {name: self._counted(name, getattr(os, name)) for name in _OF_OS})
        temporary = _Shim(tempfile, {"NamedTemporaryFile": self._file})
        patch.setattr(files, "os", system)
        patch.setattr(files, "tempfile", temporary)

    def fail(self, number: int | None, error: int = errno.ENOSPC) -> None:
        """Count from 0 again, and let that call fail with ``error``; None: none."""
        self.calls, self.has_failed = [], False
        self._failing, self._error = number, error

    def _counted(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            self._count(name)
            return call(*arguments, **options)

        return counted

    def _count(self, name: str) -> None:
        self.calls.append(name)
        if len(self.calls) - 1 == self._failing:
            self.has_failed = True
            raise OSError(self._error, os.strerror(self._error))

    def _file(self, *arguments: Any, **options: Any) -> Any:
        file = tempfile.NamedTemporaryFile(*arguments, **options)  # noqa: SIM115 - the caller closes it
        write, file.flush = file.write, self._counted("flush", file.flush)

        def written(data: bytes) -> None:
            write(data[: len(data) // 2])
            self._count("write")
            write(data[len(data) // 2 :])

        file.write = written
        return file


_OF_OS = ("fsync", "chmod", "replace")


class _Shim:
    """A module with some of its functions replaced."""

    def __init__(self, module: Any, replaced: dict[str, Any]) -> None:
        self.__dict__.update(replaced)
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)
