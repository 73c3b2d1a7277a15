"""A zip file of a few stored members, and tensors in one of them: read under limits.

The ground that the model file and the resume state stand on. A file may come from a stranger, so
the zip records are read here, strictly, rather than by ``zipfile``: the members lie one behind the
other from the first byte to the directory, as we write them, nothing is compressed, encrypted, a
link or larger than its reader asked for, and no length is believed before it is compared with the
size of the file. Tensors follow the rules of safetensors: known dtype, in bounds, no overlap,
size = product of shape × item size. This room does not know what the members mean.

Source of the records: APPNOTE.TXT 6.3.10 (PKWARE), sections 4.3.7, 4.3.12 and 4.3.16.
"""

from __future__ import annotations

import io
import json
import math
import os
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from chargen.errors import ModelFileError

__all__ = [
    "LARGEST_FILE",
    "LARGEST_JSON",
    "Container",
    "Damaged",
    "Foreign",
    "TensorEntry",
    "check_format",
    "json_object",
    "opened",
    "packed",
    "tensors_in",
    "typed",
]

LARGEST_FILE = (1 << 31) - (1 << 20)  # bytes: what a zip file holds without its 64-bit records
LARGEST_JSON = 1 << 22  # bytes

_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_LARGEST_DIRECTORY = 1 << 12
_MOST_BRACKETS = 20_000
_DEEPEST_JSON = 32
_ENCRYPTED = 1
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # fixed, so that the same run makes the same bytes
_DTYPES = {"float32": "<f4", "int32": "<i4", "int64": "<i8", "uint32": "<u4"}
_LONGEST_REASON = 300


class Foreign(ValueError):
    """Something that no chargen wrote."""


class Damaged(ValueError):
    """What chargen may have written once, spoilt."""

    def __init__(self, what: str) -> None:
        super().__init__(what[:_LONGEST_REASON])


@dataclass(frozen=True)
class TensorEntry:
    """Where a little-endian tensor lies in its member."""

    offset: int
    shape: tuple[int, ...]
    dtype: str = "float32"

    def to_dict(self) -> dict[str, Any]:
        return {"offset": self.offset, "shape": list(self.shape), "dtype": self.dtype}


@dataclass(frozen=True)
class _Member:
    offset: int  # of its own header
    size: int
    crc: int
    method: int
    flags: int
    is_link: bool


@contextmanager
def opened(path: str, names: Sequence[str]) -> Iterator[Container]:
    """The container at ``path``, which must hold just the members ``names``.

    Raises ``Foreign``, ``Damaged``, or the ``OSError`` of a file that cannot be opened.
    """
    if not stat.S_ISREG(os.stat(path).st_mode) and not os.path.isdir(path):
        raise Foreign("it is no regular file")  # a pipe would be waited for
    with open(path, "rb") as file:
        yield Container(file, os.fstat(file.fileno()).st_size, names)


class Container:
    """The members of a zip file whose records have been checked against its ``size``."""

    def __init__(self, file: BinaryIO, size: int, names: Sequence[str]) -> None:
        self._file = file
        if not _END.size <= size <= LARGEST_FILE:
            raise Foreign("it is no zip archive, or cut short")
        signature, *disks, count, length, start, comment = _END.unpack(
            self._bytes(size - _END.size, _END.size)
        )
        if signature != b"PK\5\6" or comment or start + length + _END.size != size:
            raise Foreign("it is no zip archive, or cut short")
        if disks != [0, 0, count] or count > 8 or length > _LARGEST_DIRECTORY:
            raise Foreign(f"it is no zip archive of {len(names)} members")
        self._members = dict(self._directory(self._bytes(start, length), count))
        if len(self._members) != count or set(self._members) != set(names):
            found = ", ".join(map(repr, self._members)) or "none"
            raise Foreign(f"its members are {found[:_LONGEST_REASON]}")
        for name, member in self._members.items():
            if member.method or member.flags & _ENCRYPTED:
                raise Foreign(f"{name} is compressed or encrypted, which chargen never does")
            if member.flags or member.is_link:
                raise Foreign(f"{name} is a link, or of a kind that chargen never writes")
        self._starts = self._checked_layout(start)

    def _bytes(self, offset: int, size: int) -> bytes:
        self._file.seek(offset)
        data = self._file.read(size)
        if len(data) != size:
            raise Damaged("it ends before its members do")
        return data

    @staticmethod
    def _directory(data: bytes, count: int) -> Iterator[tuple[str, _Member]]:
        at = 0
        for _ in range(count):
            if at + _CENTRAL.size > len(data):
                raise Damaged("its directory is cut short")
            fields = _CENTRAL.unpack_from(data, at)
            signature, _, _, flags, method, _, _, crc, packed_size, size = fields[:10]
            name_length, extra, comment, _, _, attributes, offset = fields[10:]
            if signature != b"PK\1\2":
                raise Damaged("its directory is no list of members")
            at += _CENTRAL.size
            name = data[at : at + name_length].decode("utf-8", "replace")
            at += name_length + extra + comment
            if not method and packed_size != size:
                raise Damaged(f"{name} claims {size} bytes in {packed_size}")
            is_link = stat.S_ISLNK(attributes >> 16)
            yield name, _Member(offset, size, crc, method, flags, is_link)
        if at != len(data):
            raise Damaged("its directory has another length than its members' entries")

    def _checked_layout(self, end: int) -> dict[str, int]:
        """Where each member's data begins; between two members there is nothing."""
        starts, expected = {}, 0
        for name, member in sorted(self._members.items(), key=lambda item: item[1].offset):
            if member.offset != expected or expected + _LOCAL.size > end:
                raise Damaged(f"{name} does not lie where the member before it ends")
            signature, _, flags, method, _, _, crc, packed_size, size, name_length, extra = (
                _LOCAL.unpack(self._bytes(expected, _LOCAL.size))
            )
            starts[name] = expected + _LOCAL.size + name_length + extra
            expected = starts[name] + member.size
            own = (signature, flags, method, crc, packed_size, size)
            if own != (b"PK\3\4", 0, 0, member.crc, member.size, member.size) or expected > end:
                raise Damaged(f"{name} claims {member.size} bytes, and its own header another fact")
            if self._bytes(starts[name] - extra - name_length, name_length) != name.encode():
                raise Damaged(f"{name} has another name in its own header")
        if expected != end:
            raise Damaged("something lies between its members and its directory")
        return starts

    def read(self, name: str, limit: int) -> bytes:
        """The data of a member of at most ``limit`` bytes."""
        member = self._members[name]
        if member.size > limit:
            raise Damaged(f"{name} claims {member.size} bytes, more than it can have")
        data = self._bytes(self._starts[name], member.size)
        if zlib.crc32(data) != member.crc:
            raise Damaged(f"{name} does not match its checksum")
        return data


def packed(members: Mapping[str, bytes]) -> bytes:
    """The zip file of ``members``, all stored, the same for the same members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as file:
        for name, data in members.items():
            file.writestr(zipfile.ZipInfo(name, _ZIP_TIME), data)
    return buffer.getvalue()


def json_object(data: bytes, member: str) -> dict[str, Any]:
    """The JSON object in ``data``: UTF-8, no key twice, no NaN, not deep, not crowded."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            raise ValueError("a key stands twice")
        return result

    def refuse(constant: str) -> Any:
        raise ValueError(f"{constant} is no number")

    try:
        if len(data) > LARGEST_JSON:
            raise ValueError(f"{len(data)} bytes are more than it can have")
        _check_brackets(data)
        value = json.loads(data.decode("utf-8"), object_pairs_hook=once, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{member}: {error}") from None
    if not isinstance(value, dict):
        raise Damaged(f"{member} holds no JSON object")
    return value


def _check_brackets(data: bytes) -> None:
    """Count before anything is built: a megabyte of brackets makes a hundred of objects."""
    brackets = re.sub(rb'"(?:[^"\\]++|\\.)*+"?|[^][{}"]++', b"", data, flags=re.DOTALL)
    if len(brackets) > 2 * _MOST_BRACKETS:
        raise ValueError("it holds more objects than it can have")
    depth = 0
    for bracket in brackets:
        depth += 1 if bracket in b"[{" else -1
        if depth > _DEEPEST_JSON:
            raise ValueError("it is too deep")


def typed(values: Mapping[str, Any], key: str, *kinds: type) -> Any:
    """The entry ``key`` of ``values``, which is of one of ``kinds``, or the file is damaged."""
    value = values.get(key)
    if type(value) not in kinds:
        raise Damaged(f"its entry {key!r} is missing or of the wrong kind")
    return value


def check_format(values: Mapping[str, Any], newest: int, what: str) -> None:
    """Raise ``ModelFileError`` for a format from the future, ``Damaged`` for none."""
    found = values.get("format")
    if type(found) is not int or found < 1:
        raise Damaged(f"its format is {found!r}, expected {newest}")
    if found > newest:
        raise ModelFileError(
            f"a {what} of format {found}; this chargen reads {newest}: upgrade chargen"
        )


def tensors_in(data: bytes, index: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Views of ``data`` by ``index``: name → offset, shape and dtype, as ``TensorEntry.to_dict``
    gives them. Numbers must be finite."""
    tensors, spans = {}, []
    for name, entry in index.items():
        if not isinstance(entry, dict) or entry.get("dtype") not in list(_DTYPES):
            raise Damaged(f"tensor {name} is not of a known dtype")
        shape, offset = entry.get("shape"), entry.get("offset")
        if not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in shape):
            raise Damaged(f"tensor {name} has no shape")
        dtype, count = np.dtype(_DTYPES[entry["dtype"]]), math.prod(shape)
        if type(offset) is not int or not 0 <= offset <= len(data) - dtype.itemsize * count:
            raise Damaged(f"tensor {name} lies outside the file")
        spans.append((offset, offset + dtype.itemsize * count))
        tensors[name] = np.frombuffer(data, dtype, count, offset).reshape(shape)
        if not np.isfinite(tensors[name]).all():
            raise Damaged(f"tensor {name} holds a number that is not finite")
    spans.sort()
    if any(end > start for (_, end), (start, _) in pairwise(spans)):
        raise Damaged("two tensors overlap")
    return tensors
