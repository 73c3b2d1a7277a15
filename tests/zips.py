"""Zip files written field by field, so that every record can lie."""

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")


@dataclass(frozen=True)
class Head:
    """What a header says of a member, in the directory or before its data."""

    name: bytes
    crc: int
    packed_size: int
    size: int
    method: int = 0
    flags: int = 0
    extra: bytes = b""
    signature: bytes = b""


@dataclass(frozen=True)
class Entry:
    """A member: its data as they lie there, both its headers, and what stands before it."""

    data: bytes
    local: Head
    central: Head
    comment: bytes = b""
    attributes: int = 0
    system: int = 3  # Unix
    offset: int | None = None  # that the directory tells
    disk: int = 0
    before: bytes = b""
    after: bytes = b""

    def with_both(self, **changes) -> "Entry":
        return replace(
            self, local=replace(self.local, **changes), central=replace(self.central, **changes)
        )

    def with_local(self, **changes) -> "Entry":
        return replace(self, local=replace(self.local, **changes))

    def with_central(self, **changes) -> "Entry":
        return replace(self, central=replace(self.central, **changes))


def entries_of(members: Mapping[str, bytes]) -> list[Entry]:
    """Honest ones."""
    heads = [
        Head(name.encode(), zlib.crc32(data), len(data), len(data))
        for name, data in members.items()
    ]
    return [Entry(data, head, head) for head, data in zip(heads, members.values(), strict=True)]


def zipped(entries, *, before_directory=b"", before_end=b"", comment=b"", **end) -> bytes:
    """The file of ``entries``; ``end`` are fields of the end record that lie: ``disk``, ``count``,
    ``here``, ``length`` and ``start``."""
    file, directory = b"", b""
    for entry in entries:
        file += entry.before
        head, offset = entry.local, len(file)
        sizes = head.crc, head.packed_size, head.size, len(head.name), len(head.extra)
        signature = head.signature or b"PK\3\4"
        file += _LOCAL.pack(signature, 20, head.flags, head.method, 0, 0x21, *sizes)
        file += head.name + head.extra + entry.data + entry.after
        head = entry.central
        sizes = head.crc, head.packed_size, head.size, len(head.name), len(head.extra)
        directory += _CENTRAL.pack(
            *(head.signature or b"PK\1\2", 20 | entry.system << 8, 20, head.flags, head.method),
            *(0, 0x21, *sizes, len(entry.comment), entry.disk, 0, entry.attributes << 16),
            offset if entry.offset is None else entry.offset,
        )
        directory += head.name + head.extra + entry.comment
    file += before_directory
    told = {"disk": 0, "count": len(entries), "length": len(directory), "start": len(file)} | end
    here = told.get("here", told["count"])
    sizes = here, told["count"], told["length"], told["start"], len(comment)
    return (
        file
        + directory
        + before_end
        + _END.pack(b"PK\5\6", told["disk"], told["disk"], *sizes)
        + comment
    )
