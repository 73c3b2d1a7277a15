"""As much of HDF5 as Keras writes: which datasets a file holds, and where their values lie in it.

A model file may come from a stranger, so no HDF5 library is ever run on it. This reader only walks
the structure, within fixed limits, and answers or refuses. It knows superblock version 0, groups
of symbol tables, and contiguous or compact datasets of little-endian integers and IEEE floats; no
soft or external links, chunks, filters or committed types. No byte may belong to two parts, which
excludes cycles and shared objects and bounds the work by the limits below. Fill values and the
attributes of groups are skipped unread; a dataset may have no attribute, for Keras rounds weights
whose ``dtype`` attribute says so. Sections (§) are those of the HDF5 File Format Specification,
version 3.0. This room knows nothing of archives, models or NumPy.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

__all__ = ["Dataset", "read_datasets"]

_MOST_OBJECTS = 10_000
_MOST_PARTS = 150_000  # headers, messages, nodes, links to nodes, heaps and values
_DEEPEST = 32
_LONGEST_PATH = 1024  # bytes
_LARGEST_RANK = 32

_UNDEFINED = 2**64 - 1
_NO_FREE_BLOCK = 1
_DATASPACE, _DATATYPE, _LAYOUT, _CONTINUATION, _SYMBOL_TABLE = 0x01, 0x03, 0x08, 0x10, 0x11
_ATTRIBUTE = 0x0C
_OF_A_DATASET = {_DATASPACE, _DATATYPE, _LAYOUT}
_SKIPPED = {0x00, 0x04, 0x05, 0x0E, 0x12}  # NIL, both fill values, both modification times


@dataclass(frozen=True)
class Dataset:
    """Where an array in C order begins in the file; ``dtype`` is its NumPy name."""

    offset: int
    shape: tuple[int, ...]
    dtype: str


def read_datasets(data: bytes) -> dict[str, Dataset]:
    """The datasets of an HDF5 file by their full path, such as ``layers/lstm/cell/vars/0``.

    Raises ``ValueError``, in one line, for whatever Keras would not have written and for more
    than 10,000 objects or 32 groups within each other.
    """
    file = _File(data)
    found = {}
    objects = [("", file.superblock())]
    for path, entry in objects:
        try:
            messages = file.messages(entry.header)
            if set(messages) == {_SYMBOL_TABLE}:
                for name, child in file.links(messages, entry.cached):
                    objects.append((_below(path, name), child))
                    if len(objects) > _MOST_OBJECTS:
                        raise ValueError(f"the file holds more than {_MOST_OBJECTS:,} objects")
            elif path and entry.cached is None and set(messages) == _OF_A_DATASET:
                found[path] = file.dataset(messages)
            else:
                raise ValueError("neither a group of symbol tables nor a dataset")
        except ValueError as error:
            raise ValueError(f"{path or '/'!r}: {error}") from None
    file.check_overlap()
    return found


class _Entry(NamedTuple):
    """Of a symbol table entry: the object's header, and its B-tree and heap where they are told."""

    name: int
    header: int
    cached: tuple[int, int] | None


class _Span(NamedTuple):
    start: int
    end: int


class _File:
    """The bytes of a file, and which of them a part has been read from."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._ends: dict[int, int] = {}  # of each part, by its start
        self._num_parts = 0
        self._leaf_k = self._internal_k = 0

    def _count(self, num_parts: int = 1) -> None:
        self._num_parts += num_parts
        if self._num_parts > _MOST_PARTS:
            raise ValueError(f"the file has more than {_MOST_PARTS:,} parts")

    def _claim(self, what: str, start: int, size: int) -> _Span:
        """The bytes of a part that was not read before; it must lie within the file."""
        self._count()
        end = start + size
        if not start < end <= len(self._data):
            raise ValueError(f"{what} at byte {start}: empty, or outside of the file")
        if start in self._ends:
            raise ValueError(f"{what} at byte {start}, where another part already begins")
        self._ends[start] = end
        return _Span(start, end)

    def _fields(self, what: str, form: str, span: _Span, at: int = 0) -> tuple[Any, ...]:
        start = span.start + at
        if start + struct.calcsize(form) > span.end:
            raise ValueError(f"{what} at byte {span.start} is cut short")
        return struct.unpack_from(form, self._data, start)

    def check_overlap(self) -> None:
        """Raise ``ValueError`` where two parts share a byte."""
        for (_, end), (start, _) in pairwise(sorted(self._ends.items())):
            if end > start:
                raise ValueError(f"two parts of the file overlap at byte {start}")

    def superblock(self) -> _Entry:
        """The root group's entry (§II.A, version 0; the file must end where it says)."""
        if not self._data.startswith(b"\x89HDF\r\n\x1a\n"):
            raise ValueError("no HDF5 file: its signature is missing")
        span = self._claim("the superblock", 0, 96)
        if self._fields("the superblock", "<BBBxBBB", span, 8) != (0, 0, 0, 0, 8, 8):
            raise ValueError("the superblock is not of version 0 with addresses of 8 bytes")
        self._leaf_k, self._internal_k, flags, base, free, end, driver = self._fields(
            "the superblock", "<HHIQQQQ", span, 16
        )
        if (flags, base, free, driver) != (0, 0, _UNDEFINED, _UNDEFINED):
            raise ValueError("the superblock asks for a base address, free space or a driver")
        if end != len(self._data):
            raise ValueError(f"{len(self._data)} bytes, but the superblock says {end}")
        return self._entry(_Span(56, 96))

    def _entry(self, span: _Span) -> _Entry:
        """A symbol table entry (§III.C)."""
        name, header, cache, tree, heap = self._fields("an entry", "<QQI4xQQ", span)
        if cache not in (0, 1):
            raise ValueError("a soft link" if cache == 2 else f"an entry of unknown kind {cache}")
        return _Entry(name, header, (tree, heap) if cache else None)

    def messages(self, header: int) -> dict[int, _Span]:
        """The messages that matter, by type, of an object header (§IV.A.1.a, version 1).

        Further blocks of messages lie where continuation messages (§IV.A.2.q) say.
        """
        span = self._claim("an object header", header, 16)
        version, expected, size = self._fields("an object header", "<BxH4xI", span)
        if version != 1:
            raise ValueError(f"an object header of unknown version {version}")
        found: dict[int, _Span] = {}
        num_messages, blocks = 0, [(span.end, size)]
        has_attribute = False
        for block in blocks:
            for kind, body in self._block(self._claim("header messages", *block)):
                num_messages += 1
                if kind == _CONTINUATION:
                    start, size = self._fields("a continuation message", "<QQ", body)
                    blocks.append((start, size))
                elif kind in (_DATASPACE, _DATATYPE, _LAYOUT, _SYMBOL_TABLE) and kind not in found:
                    found[kind] = body
                elif kind == _ATTRIBUTE:
                    has_attribute = True
                elif kind not in _SKIPPED:
                    raise ValueError(f"a second or unknown header message of type {kind:#06x}")
        if num_messages != expected:
            raise ValueError(f"{num_messages} header messages, where {expected} were announced")
        if has_attribute and _SYMBOL_TABLE not in found:
            raise ValueError("a dataset with an attribute")
        return found

    def _block(self, block: _Span) -> Iterator[tuple[int, _Span]]:
        """Type and body of the header messages of one block (§IV.A.1.a)."""
        start, end = block
        while start < end:
            self._count()
            kind, size, flags = self._fields("a header message", "<HHB3x", _Span(start, end))
            body = _Span(start + 8, start + 8 + size)
            if body.end > end or size % 8:
                raise ValueError(f"a header message of odd length {size}")
            if flags & ~1:  # bit 0: the message does not change
                raise ValueError(f"a header message that is shared or special: flags {flags:#04x}")
            yield kind, body
            start = body.end

    def links(
        self, messages: dict[int, _Span], cached: tuple[int, int] | None
    ) -> Iterator[tuple[str, _Entry]]:
        """Name and entry of each member of a group (symbol table message, §IV.A.2.r)."""
        tree, heap = self._fields("a symbol table message", "<QQ", messages[_SYMBOL_TABLE])
        if cached not in (None, (tree, heap)):
            raise ValueError("a group whose entry and header disagree")
        names = self._heap(heap)
        for node, left, right in self._tree(tree):
            # A search by name finds what is in order between the keys: all must be.
            last, high = self._name(names, left), self._name(names, right)
            for entry in self._symbols(node):
                name = self._name(names, entry.name)
                if not last < name <= high:
                    raise ValueError("names that are not in order")
                last = name
                yield _text(name), entry

    def _heap(self, address: int) -> _Span:
        """The data segment of a local heap, which holds the names of a group (§III.D)."""
        span = self._claim("a local heap", address, 32)
        signature, version, size, free, start = self._fields("a local heap", "<4sB3xQQQ", span)
        if (signature, version) != (b"HEAP", 0):
            raise ValueError(f"no local heap of version 0 at byte {address}")
        names = self._claim("names", start, size)
        # The library walks the free blocks, and round and round in a circle of them.
        room = size
        while free != _NO_FREE_BLOCK:
            self._count()
            following, length = self._fields("a free block", "<QQ", names, free)
            room -= length
            if length < 16 or room < 0 or free + length > size:
                raise ValueError(f"the free blocks of the local heap at byte {address} do not fit")
            free = following
        return names

    def _name(self, names: _Span, offset: int) -> bytes:
        """A name in a heap: bytes that end with a zero byte (§III.D)."""
        start = names.start + offset
        end = self._data.find(b"\0", start, min(names.end, start + _LONGEST_PATH + 1))
        if end < 0:
            raise ValueError(f"a name without end at byte {start}")
        return self._data[start:end]

    def _tree(self, root: int) -> list[tuple[int, int, int]]:
        """The symbol table nodes of a group, each with the keys on its left and right (§III.A.1).

        The children of a level lie one level lower; a key is the offset of a name in the heap.
        """
        level, keys, children = self._tree_node(root, (_UNDEFINED, _UNDEFINED))
        nodes = list(zip(children, keys[:-1], keys[1:], strict=True))
        while level:
            level -= 1
            below: list[tuple[int, int, int]] = []
            row = [_UNDEFINED, *(address for address, _, _ in nodes), _UNDEFINED]
            for (address, left, right), *siblings in zip(nodes, row, row[2:], strict=False):
                at, keys, children = self._tree_node(address, siblings)
                if (at, keys[0], keys[-1]) != (level, left, right):
                    raise ValueError(f"a B-tree node at byte {address} that does not fit its place")
                below.extend(zip(children, keys[:-1], keys[1:], strict=True))
            nodes = below
        return nodes

    def _tree_node(
        self, address: int, siblings: Sequence[int]
    ) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
        """Level, keys (one more than children) and children of a B-tree node (§III.A.1)."""
        span = self._claim("a B-tree node", address, 24 + 8 * (4 * self._internal_k + 1))
        signature, kind, level, used, *row = self._fields("a B-tree node", "<4sBBHQQ", span)
        if (signature, kind) != (b"TREE", 0) or not min(level, 1) <= used <= 2 * self._internal_k:
            raise ValueError(f"no B-tree node of a group at byte {address}")
        if row != list(siblings):
            raise ValueError(f"a B-tree node at byte {address} with other siblings than its row")
        self._count(used)  # before any is stored
        values = self._fields("a B-tree node", f"<{2 * used + 1}Q", span, 24)
        return level, values[::2], values[1::2]

    def _symbols(self, address: int) -> Iterator[_Entry]:
        """The entries of a symbol table node (§III.B)."""
        span = self._claim("a symbol table node", address, 8 + 40 * 2 * self._leaf_k)
        signature, version, used = self._fields("a symbol table node", "<4sBxH", span)
        if (signature, version) != (b"SNOD", 1) or used > 2 * self._leaf_k:
            raise ValueError(f"no symbol table node at byte {address}")
        for start in range(span.start + 8, span.start + 8 + 40 * used, 40):
            yield self._entry(_Span(start, start + 40))

    def dataset(self, messages: dict[int, _Span]) -> Dataset:
        """What the messages of a dataset say; its values must be as many as its shape asks for."""
        shape = self._shape(messages[_DATASPACE])
        dtype, item_size = self._dtype(messages[_DATATYPE])
        offset, size = self._values(messages[_LAYOUT])
        if size != item_size * math.prod(shape):
            raise ValueError(f"{size} bytes of values for {dtype} of shape {shape}")
        return Dataset(offset, shape, dtype)

    def _shape(self, body: _Span) -> tuple[int, ...]:
        """Dataspace message (§IV.A.2.b, version 1); it must not leave room to grow."""
        version, rank, flags = self._fields("a dataspace message", "<BBB", body)
        if version != 1 or flags & ~1 or rank > _LARGEST_RANK:
            raise ValueError(f"a dataspace of unknown version {version}, flags or rank {rank}")
        shape = self._fields("a dataspace message", f"<{rank}Q", body, 8)
        if flags and shape != self._fields("a dataspace message", f"<{rank}Q", body, 8 + 8 * rank):
            raise ValueError("a dataset that may grow")
        return shape

    def _dtype(self, body: _Span) -> tuple[str, int]:
        """Name and item size of a datatype message (§IV.A.2.d) that is one of those we know."""
        for name, (size, message) in _DTYPES.items():
            if self._data.startswith(message, *body):
                return name, size
        raise ValueError("values that are no little-endian integers or IEEE floats")

    def _values(self, body: _Span) -> tuple[int, int]:
        """Where the values begin and how many bytes they are: layout message (§IV.A.2.i, version
        3), contiguous, or compact and so within the message."""
        version, layout = self._fields("a layout message", "<BB", body)
        if version != 3 or layout not in (0, 1):
            raise ValueError(
                f"a layout of version {version} and class {layout}: chunked or unknown"
            )
        if layout == 0:
            (size,) = self._fields("a layout message", "<H", body, 2)
            if body.start + 4 + size > body.end:
                raise ValueError(f"{size} compact values that run out of their message")
            return body.start + 4, size
        start, size = self._fields("a layout message", "<QQ", body, 2)
        self._claim("values", start, size)
        return start, size


def _below(group: str, name: str) -> str:
    """The path of a member of ``group``."""
    path = f"{group}/{name}" if group else name
    if len(path) > _LONGEST_PATH or path.count("/") >= _DEEPEST:
        raise ValueError(f"longer than {_LONGEST_PATH} characters or deeper than {_DEEPEST} groups")
    return path


def _text(name: bytes) -> str:
    """A link's name, which must be one step of a path; a group of symbol tables has ASCII alone."""
    if not name.isascii() or b"/" in name or name == b".":
        raise ValueError(f"a name that cannot be: {name!r}")
    return name.decode("ascii")


def _datatypes() -> Iterator[tuple[str, tuple[int, bytes]]]:
    """NumPy name, item size and datatype message (§IV.A.2.d, version 1) of what may be read."""
    for size in (1, 2, 4, 8):
        for sign, name in ((0, "uint"), (8, "int")):
            message = struct.pack("<BBxxIHH", 0x10, sign, size, 0, 8 * size)
            yield f"{name}{8 * size}", (size, message)
    for size, mantissa in ((2, 10), (4, 23), (8, 52)):  # IEEE 754, the first bit implied
        bits = 8 * size
        exponent = bits - 1 - mantissa
        message = struct.pack(
            "<BBBxIHHBBBBI",
            *(0x11, 0x20, bits - 1, size, 0, bits),
            *(mantissa, exponent, 0, mantissa, 2 ** (exponent - 1) - 1),
        )
        yield f"float{bits}", (size, message)


_DTYPES = dict(_datatypes())
