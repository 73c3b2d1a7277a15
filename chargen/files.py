"""Files written whole or not at all, and by one run at a time.

What stands at a path is the old file or the new one, never a torn one. What a killed process left
beside an output is cleared by the next run that claims it. This room does not know what the bytes
mean.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import shutil
import stat
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from chargen.errors import RunError, UsageError

__all__ = ["check_vacant", "check_writable", "claimed", "scratch_folder", "write_atomically"]

PathLike = str | os.PathLike[str]


def check_vacant(path: PathLike) -> None:
    """Raise ``UsageError`` where a file stands at ``path``, which only ``--force`` overwrites, and
    ``RunError`` where something does that cannot be overwritten."""
    if os.path.lexists(path):
        check_writable(path)
        raise UsageError(
            f"{os.fspath(path)}: exists; --force overwrites it, -o/--output names another"
        )


def check_writable(path: PathLike) -> None:
    """Raise ``RunError`` unless a file can be written at ``path``: found out before training."""
    try:
        _check_replaceable(path)
        with tempfile.TemporaryFile(dir=_real(path).parent, prefix=_prefix(path), suffix=".tmp"):
            pass
    except OSError as error:
        raise RunError(
            f"{os.fspath(path)}: cannot be written: {error.strerror}; name another place with"
            " -o/--output"
        ) from error


def _check_replaceable(path: PathLike) -> None:
    """Raise ``RunError`` where something else than a file stands at ``path``: it would be lost."""
    try:
        kind = os.stat(_real(path)).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(kind):
        what = "a folder" if stat.S_ISDIR(kind) else "a pipe or a device"
        raise RunError(f"{os.fspath(path)}: {what}, not a file; name another with -o/--output")


@contextlib.contextmanager
def claimed(path: PathLike, *companions: PathLike) -> Iterator[None]:
    """Hold ``path`` as the output of this run alone, and clear what a killed one left beside it
    and beside its ``companions``, the other files that the run writes.

    Raises ``RunError`` where a living run holds it, or where nothing can be written. The lock is
    one that the system gives up when its process dies.
    """
    check_writable(path)
    lock = _real(path).parent / f"{_prefix(path)}lock"
    descriptor = _locked(lock, path)
    try:
        for written in (path, *companions):
            _clear(written)
        yield
    finally:
        with contextlib.suppress(OSError):
            lock.unlink()
        os.close(descriptor)


def _clear(path: PathLike) -> None:
    for left in _real(path).parent.glob(f"{glob.escape(_prefix(path))}*.tmp"):
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                left.unlink()


def _locked(lock: Path, path: PathLike) -> int:
    """The descriptor of the lock file, locked, with the number of this process in it."""
    while True:
        try:
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise RunError(
                f"{os.fspath(path)}: its lock {lock.name} cannot be made: {error.strerror}; name"
                " another output with -o/--output"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 20).decode("ascii", "replace") or "unknown"
            os.close(descriptor)
            raise RunError(
                f"{os.fspath(path)}: another run is writing it (process {holder}); wait for it,"
                " or name another output with -o/--output"
            ) from None
        except OSError:
            pass  # a file system without locks: better to train than to refuse
        if _is_at(lock, descriptor):
            with contextlib.suppress(OSError):  # a full disk: the lock holds without the number
                os.ftruncate(descriptor, 0)
                os.write(descriptor, str(os.getpid()).encode())
            return descriptor
        os.close(descriptor)


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether ``path`` still is the open file: who held the lock may have removed it."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except OSError:
        return False


def write_atomically(path: PathLike, data: bytes, *, outdated: PathLike | None = None) -> None:
    """Temporary file in the same folder, flush, fsync, read back, replace, fsync the folder.

    A file ``outdated`` by the new one is removed, if it can be, just before that takes its place.
    Raises ``RunError`` where something else fails; what stood at ``path`` is then untouched.
    """
    temporary = None
    try:
        _check_replaceable(path)
        real = _real(path)  # a link stays a link
        with tempfile.NamedTemporaryFile(
            dir=real.parent, prefix=_prefix(path), suffix=".tmp", delete=False
        ) as file:
            temporary = file.name
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if Path(temporary).read_bytes() != data:
            raise OSError("what was written does not read back")
        os.chmod(temporary, _permissions(real))
        if outdated is not None:
            with contextlib.suppress(OSError):
                os.unlink(outdated)
        os.replace(temporary, real)
        temporary = None
    except OSError as error:
        raise RunError(
            f"{os.fspath(path)}: cannot be written: {error.strerror or error}; what stood there is"
            " untouched, and -o/--output names another place"
        ) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
    _sync_folder(real.parent)


@contextlib.contextmanager
def scratch_folder(path: PathLike | None, size: int) -> Iterator[Path]:
    """A folder beside ``path`` (None: among the system's temporary files) for as long as needed.

    Raises ``OSError`` where it has no room for ``size`` bytes: not every library that writes into
    it fails as clearly.
    """
    with tempfile.TemporaryDirectory(
        dir=None if path is None else _real(path).parent,
        prefix=None if path is None else _prefix(path),
        suffix=".tmp",
    ) as folder:
        with tempfile.TemporaryFile(dir=folder) as file, contextlib.suppress(AttributeError):
            os.posix_fallocate(file.fileno(), 0, size)
        yield Path(folder)


def _real(path: PathLike) -> Path:
    return Path(os.path.realpath(path))


def _prefix(path: PathLike) -> str:
    """How the names of what belongs to an output begin: hidden, short enough, and its own."""
    name = _real(path).name
    return f".{name[:40]}.{zlib.crc32(os.fsencode(name)):08x}."


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
