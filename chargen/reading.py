"""From files, folders, globs and standard input to a stream of decoded text.

Text is read once, in blocks, so that a pipe or a file larger than memory is no special case.
Line ends are kept as they are; one byte order mark at the head of a file is dropped. This room
knows nothing of vocabularies or models.
"""

from __future__ import annotations

import codecs
import glob
import gzip
import os
import sys
import zlib
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from typing import IO, Any

from chargen.errors import RunError, TextError, UsageError
from chargen.vocabulary import TokenKind

__all__ = ["STDIN", "check_encoding", "expand_sources", "read_blocks", "read_lines"]

STDIN = "-"

_NAME_A_TEXT = "name a text file, or - for stdin"
_BLOCK_BYTES = 1 << 22
_LINES_BYTES = 1 << 16
_GZIP_MAGIC = b"\x1f\x8b"
_BYTE_ORDER_MARK = "\ufeff"
_MARK_DROPPING = ("utf-8-sig", "utf-16", "utf-32")  # these decoders do it themselves


def check_encoding(name: str, tokens: TokenKind = "char") -> None:
    """Raise ``UsageError`` unless Python can decode text by the encoding of that ``name``, and
    where bytes are read and one is named all the same."""
    try:
        known = codecs.lookup(name)
    except (LookupError, ValueError):
        known = None
    if known is None or not getattr(known, "_is_text_encoding", True):
        raise UsageError(
            f"--encoding {name!r}: expected a text encoding such as utf-8, latin-1 or utf-16"
        )
    if tokens == "byte" and known.name != "utf-8":
        raise UsageError(f"--encoding {name!r}: bytes are read as they are; leave it out")


def expand_sources(sources: Iterable[str | os.PathLike[str]]) -> list[str]:
    """The files that ``sources`` name, in order: files, folders (their files below, sorted, hidden
    ones left out), globs, and ``-`` for standard input.

    Raises ``RunError`` for a name that leads to nothing.
    """
    files: list[str] = []
    for source in [os.fspath(source) for source in sources]:
        if source == STDIN:
            if STDIN in files:
                raise UsageError("'-' is named twice: standard input can be read only once")
            files.append(STDIN)
        elif os.path.isdir(source):
            files.extend(_files_below(source))
        elif os.path.lexists(source):
            files.append(source)
        elif glob.has_magic(source):
            matches = sorted(glob.glob(source, recursive=True))
            found = [path for path in matches if not os.path.isdir(path)]
            if not found:
                raise RunError(f"{source}: no file matches this pattern; {_NAME_A_TEXT}")
            files.extend(found)
        else:
            raise RunError(f"{source}: no such file or folder; {_NAME_A_TEXT}")
    return files


def _files_below(folder: str) -> list[str]:
    def fail(error: OSError) -> None:
        raise RunError(f"{error.filename}: cannot read this folder: {error.strerror}") from error

    found: list[str] = []
    for path, subfolders, names in os.walk(folder, onerror=fail):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        found.extend(os.path.join(path, name) for name in sorted(names) if name[0] != ".")
    if not found:
        raise TextError(f"{folder}: this folder holds no files to read; {_NAME_A_TEXT}")
    return found


def read_blocks(path: str, *, tokens: TokenKind, encoding: str) -> Iterator[Any]:
    """Blocks of the file at ``path``: ``str`` for kind ``char``, ``bytes`` for kind ``byte``.

    What begins with gzip's magic is unpacked: any text, but for kind ``byte`` only a ``.gz`` file.
    Raises ``RunError`` where the file cannot be read, ``TextError`` where it is not ``encoding``.
    """
    name = "standard input" if path == STDIN else path
    try:
        with _opened(path) as raw:
            stream = _unpacked(raw, tokens == "char" or path.endswith(".gz"))
            blocks = iter(lambda: stream.read(_BLOCK_BYTES), b"")
            yield from blocks if tokens == "byte" else _decoded(blocks, name, encoding)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise RunError(f"{name}: a damaged gzip file: {error}; copy it again") from error
    except OSError as error:
        raise RunError(f"{name}: cannot be read: {error.strerror or error}") from error


def _opened(path: str) -> Any:
    if path != STDIN:
        return open(path, "rb")
    if sys.stdin is None:
        raise RunError("standard input is closed; name a file instead of -")
    return nullcontext(sys.stdin.buffer)


def read_lines(path: str) -> Iterator[list[bytes]]:
    """Lines of a file (``.gz`` too) or of standard input, without their line feeds: as many at a
    time as have come, so that a filter can answer at once. Raises ``RunError`` where they cannot
    be read."""
    rest: list[bytes] = []
    name = "standard input" if path == STDIN else path
    try:
        with gzip.open(path) if path.endswith(".gz") else _opened(path) as stream:
            while block := stream.read1(_LINES_BYTES):
                head, line_feed, tail = block.rpartition(b"\n")
                if line_feed:
                    lines = head.split(b"\n")
                    lines[0] = b"".join([*rest, lines[0]])
                    rest = []  # a long line is held only once
                    yield lines
                rest.append(tail)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise RunError(f"{name}: a damaged gzip file: {error}; copy it again") from error
    except FileNotFoundError:
        raise RunError(f"{name}: no such file; {_NAME_A_TEXT}") from None
    except OSError as error:
        raise RunError(f"{name}: cannot be read: {error.strerror or error}") from error
    rest = [b"".join(rest)]
    if rest[0]:
        yield rest


class _Pushback:
    """A binary stream whose first bytes were looked at, for pipes that cannot seek."""

    def __init__(self, head: bytes, rest: IO[bytes]) -> None:
        self._head, self._rest = head, rest

    def read(self, size: int = -1) -> bytes:
        if self._head:
            head, self._head = self._head[:size], self._head[size:]
            return head
        return self._rest.read(size)


def _unpacked(raw: IO[bytes], may_be_gzip: bool) -> Any:
    head = raw.read(len(_GZIP_MAGIC))
    stream: Any = _Pushback(head, raw)
    return gzip.GzipFile(fileobj=stream) if may_be_gzip and head == _GZIP_MAGIC else stream


def _decoded(blocks: Iterable[bytes], name: str, encoding: str) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder(encoding)()
    fed = lines = 0
    may_hold_mark = codecs.lookup(encoding).name not in _MARK_DROPPING

    def decode(block: bytes, final: bool) -> str:
        state = decoder.getstate()[1]
        try:
            return decoder.decode(block, final)
        except UnicodeDecodeError as error:
            decoder.setstate((b"", state))
            before = decoder.decode(error.object[: error.start])
            offset = fed + len(block) - len(error.object) + error.start
            raise TextError(
                f"{name}: byte 0x{error.object[error.start]:02x} at offset {offset}"
                f" (line {1 + lines + before.count(chr(10))}) is not {encoding}; name the encoding"
                " with --encoding, or train on bytes with --tokens byte"
            ) from error
        except UnicodeError as error:  # utf-16 and utf-32 without a byte order mark
            raise TextError(
                f"{name}: is not {encoding}: {error}; name the encoding with --encoding"
            ) from error

    for block in blocks:
        text = decode(block, final=False)
        fed += len(block)
        lines += text.count("\n")
        if text:
            yield text.removeprefix(_BYTE_ORDER_MARK) if may_hold_mark else text
            may_hold_mark = False
    if rest := decode(b"", final=True):
        yield rest
