"""Files written whole or not at all.

What stands at a path is the old file or the new one, never a torn one. This room does not know
what the bytes mean.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from chargen.errors import RunError

__all__ = ["check_writable", "write_atomically"]


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise ``RunError`` unless a file can be made beside ``path``: found out before training."""
    folder = Path(path).absolute().parent
    if Path(path).is_dir():
        raise RunError(f"{os.fspath(path)}: is a folder; name a file (-o/--output)")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise RunError(
            f"{folder}: no model can be written here: {error.strerror}; choose another place"
            " with -o/--output"
        ) from error


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Temporary file in the same folder, flush, fsync, read back, replace, fsync the folder.

    Raises ``RunError`` where that fails; what stood at ``path`` is then untouched.
    """
    path = Path(os.path.realpath(path))  # a link stays a link
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(
            dir=path.absolute().parent, prefix=f".{path.name[:64]}.", suffix=".tmp", delete=False
        ) as file:
            temporary = file.name
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if Path(temporary).read_bytes() != data:
            raise OSError("what was written does not read back")
        os.chmod(temporary, _permissions(path))
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        raise RunError(
            f"{path}: cannot be written: {error.strerror or error}; the file that was there is"
            " untouched (another place: -o/--output)"
        ) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Bring the new name to the disk; some file systems cannot, and the file itself is safe."""
    with contextlib.suppress(OSError, AttributeError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _permissions(path: Path) -> int:
    """Those of the file that stands there, else what the umask leaves of 0666."""
    try:
        return path.stat().st_mode & 0o777
    except OSError:
        umask = os.umask(0)
        os.umask(umask)
        return 0o666 & ~umask
