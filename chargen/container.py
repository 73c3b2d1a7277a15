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
    "LARGEST_NUMBER",
    "LARGEST_WHOLE_NUMBER",
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
LARGEST_WHOLE_NUMBER = (1 << 63) - 1

_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_LARGEST_DIRECTORY = 1 << 12
_MOST_MARKS = {b"{": 20_000, b"[": 20_000, b":": 40_000, b",": 300_000}  # in JSON
_DEEPEST_JSON = 32
_LARGEST_RANK = 8
LARGEST_NUMBER = 1e15  # in a tensor: sums of a network's products stay finite in float32
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
    packed_size: int
    crc: int
    method: int
    flags: int
    kind: int  # of file, as in ``st_mode``
    num_extra_bytes: int  # extra fields and a comment


@contextmanager
def opened(path: str, names: Sequence[str]) -> Iterator[Container]:
    """The container at ``path``, which must hold just the members ``names``.

    Raises ``Foreign``, ``Damaged``, or the ``OSError`` of a file that cannot be opened.
    """
    with open(path, "rb", opener=_at_once) as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise Foreign("it is no regular file")
        yield Container(file, found.st_size, names)


def _at_once(path: str, flags: int) -> int:
    """A descriptor of ``path``; the other end of a pipe, or a device, is not waited for."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)


class Container:
    """The members of a zip file whose records have been checked against its ``size``."""

    def __init__(self, file: BinaryIO, size: int, names: Sequence[str]) -> None:
        self._file = file
        if size > LARGEST_FILE:
            raise Foreign(f"it is larger than {LARGEST_FILE:,} bytes")
        if size < _END.size:
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
            if member.flags or member.kind not in (0, stat.S_IFREG) or member.num_extra_bytes:
                raise Foreign(f"{name} is a link, or has flags or fields that chargen never writes")
            if member.packed_size != member.size:
                raise Damaged(f"{name} claims {member.size} bytes in {member.packed_size}")
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
            kind = stat.S_IFMT(attributes >> 16)
            yield (
                name,
                _Member(offset, size, packed_size, crc, method, flags, kind, extra + comment),
            )
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
            starts[name] = expected + _LOCAL.size + name_length
            expected = starts[name] + member.size
            own = (signature, flags, method, extra, crc, packed_size, size)
            told = (b"PK\3\4", 0, 0, 0, member.crc, member.size, member.size)
            if own != told or expected > end:
                raise Damaged(f"{name} claims {member.size} bytes, and its own header another fact")
            if self._bytes(starts[name] - name_length, name_length) != name.encode():
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
    """The JSON object in ``data``: UTF-8, no key twice, not deep, not crowded, and its numbers
    finite; whole ones fit 64 bits."""

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
        for mark, most in _MOST_MARKS.items():  # a megabyte of brackets makes a hundred of objects
            if data.count(mark) > most:
                raise ValueError(f"it holds more of {mark.decode()!r} than it can have")
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=once,
            parse_int=_whole_number,
            parse_float=_finite_number,
            parse_constant=refuse,
        )
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{member}: {error}") from None
    if not isinstance(value, dict):
        raise Damaged(f"{member} holds no JSON object")
    if _is_deep(value):
        raise Damaged(f"{member} is too deep")
    return value


def _whole_number(digits: str) -> int:
    if len(digits) > 20 or abs(value := int(digits)) > LARGEST_WHOLE_NUMBER:
        raise ValueError("a whole number of more than 64 bits")
    return value


def _finite_number(digits: str) -> float:
    if not math.isfinite(value := float(digits)):
        raise ValueError("a number that is not finite")
    return value


def _is_deep(value: Any) -> bool:
    """Whether ``value`` holds more than so many objects and lists within each other."""
    row = [value]
    for _ in range(_DEEPEST_JSON):
        row = [
            item
            for inner in row
            for item in (inner.values() if isinstance(inner, dict) else inner)
            if isinstance(item, dict | list)
        ]
    return bool(row)


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
    spans, tensors = [], {}
    for name, entry in index.items():
        offset, end, shape = _place(name, entry, len(data))
        spans.append((offset, end))
        tensors[name] = np.frombuffer(
            data, _DTYPES[entry["dtype"]], math.prod(shape), offset
        ).reshape(shape)
    if any(end > start for (_, end), (start, _) in pairwise(sorted(spans))):
        raise Damaged("two tensors overlap")
    for name, tensor in tensors.items():
        is_float = tensor.dtype.kind == "f"
        if is_float and not -LARGEST_NUMBER < tensor.min() <= tensor.max() < LARGEST_NUMBER:
            raise Damaged(
                f"tensor {name} holds a number that is not finite, or beyond {LARGEST_NUMBER:g}"
            )
    return tensors


def _place(name: str, entry: Any, size: int) -> tuple[int, int, list[int]]:
    """Where the tensor of an entry of the index begins and ends, and its shape."""
    if not isinstance(entry, dict) or entry.get("dtype") not in list(_DTYPES):
        raise Damaged(f"tensor {name} is not of a known dtype")
    shape, offset = entry.get("shape"), entry.get("offset")
    if (
        not isinstance(shape, list)
        or len(shape) > _LARGEST_RANK
        or not all(type(n) is int and 0 < n <= size for n in shape)
    ):
        raise Damaged(f"tensor {name} has no shape")
    end = np.dtype(_DTYPES[entry["dtype"]]).itemsize * math.prod(shape)
    if type(offset) is not int or not 0 <= offset <= size - end:
        raise Damaged(f"tensor {name} lies outside the file")
    return offset, offset + end, shape
