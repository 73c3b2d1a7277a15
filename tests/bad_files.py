"""A zoo of bad files of both kinds that chargen reads: each by its name, as a function of a good
one's members."""

import io
import stat
import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import islice, product
from string import ascii_letters

from model_files import packed
from zips import Entry, Head, entries_of, zipped

Members = Mapping[str, bytes]

ZIP64_END = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 3, 3, 46, 0)
ZIP64_LOCATOR = struct.pack("<4sLQL", b"PK\6\7", 0, 0, 1)
ZIP64_EXTRA = struct.pack("<2H3Q", 1, 24, 10, 10, 0)
OTHER_NAME = b"up" + struct.pack("<HBL", 5 + 4, 1, 0) + b"evil"  # Info-ZIP's Unicode path
FULL = 2**32 - 1


def with_last(change: Callable[[Entry], Entry]) -> Callable[[Members], bytes]:
    """The last member, of the weights, changed."""

    def file(members: Members) -> bytes:
        *most, last = entries_of(members)
        return zipped([*most, change(last)])

    return file


def with_first(change: Callable[[Entry], Entry]) -> Callable[[Members], bytes]:
    def file(members: Members) -> bytes:
        first, *others = entries_of(members)
        return zipped([change(first), *others])

    return file


def of_type(kind: int) -> Callable[[Members], bytes]:
    return with_last(lambda entry: replace(entry, attributes=kind | 0o644))


def local_head(**changes) -> Callable[[Members], bytes]:
    return with_last(lambda entry: entry.with_local(**changes))


def central_head(**changes) -> Callable[[Members], bytes]:
    return with_last(lambda entry: entry.with_central(**changes))


def both_heads(**changes) -> Callable[[Members], bytes]:
    return with_last(lambda entry: entry.with_both(**changes))


def whole(**changes) -> Callable[[Members], bytes]:
    return lambda members: zipped(entries_of(members), **changes)


def same_place_twice(members: Members) -> bytes:
    first, *others = entries_of(members)
    return zipped([first, *(replace(entry, offset=0) for entry in others)])


def inside_another(members: Members) -> bytes:
    """The last member lies within the data of the one before."""
    *most, outer, inner = entries_of(members)
    hidden = zipped([inner]).partition(b"PK\1\2")[0]
    (outer,) = entries_of({outer.local.name.decode(): hidden})
    offset = zipped([*most, outer]).index(hidden)
    return zipped([*most, outer, replace(inner, offset=offset)])


def streamed(members: Members) -> bytes:
    """Sizes behind the data, as ``zip`` writes into a pipe."""

    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def tell(self) -> int:
            raise OSError

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w") as file:
        for name, data in members.items():
            file.writestr(zipfile.ZipInfo(name), data)
    return pipe.getvalue()


def by_zip64(members: Members) -> bytes:
    """As zipfile writes what might have been larger than four gigabytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, data in members.items():
            with file.open(zipfile.ZipInfo(name), "w", force_zip64=True) as member:
                member.write(data)
    return buffer.getvalue()


def bomb(members: Members) -> bytes:
    """The last member: 64 MB of zeros, in a few kilobytes."""
    *most, last = members
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name in most:
            file.writestr(zipfile.ZipInfo(name), members[name])
        with file.open(_deflated(last), "w") as member:
            for _ in range(16):
                member.write(bytes(1 << 22))
    return buffer.getvalue()


def _deflated(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.compress_type = zipfile.ZIP_DEFLATED
    return info


ZIPS: dict[str, Callable[[Members], bytes]] = {
    "prefix data": lambda members: b"#!/bin/sh\n" + packed(members.items()),
    "prefix data, told of": with_first(lambda entry: replace(entry, before=b"#!/bin/sh\n")),
    "trailing data": lambda members: packed(members.items()) + b"\n",
    "a file behind the file": lambda members: packed(members.items()) * 2,
    "a comment": whole(comment=b"hello"),
    "a comment that ends like a zip file": whole(comment=b"PK\5\6" + bytes(18)),
    "a gap before the last member": with_last(lambda entry: replace(entry, before=bytes(4))),
    "a gap behind the first member": with_first(lambda entry: replace(entry, after=bytes(1))),
    "a gap before the directory": whole(before_directory=bytes(16)),
    "a gap before the end": whole(before_end=bytes(16)),
    "a second disk": whole(disk=1),
    "a member of the second disk": whole(here=1),
    "a directory of no length": whole(length=0),
    "a directory of one entry less": whole(count=1),
    "a directory of one entry more": lambda m: zipped(entries_of(m), count=len(m) + 1),
    "a directory from the beginning": whole(start=0),
    "a directory beyond the end": whole(start=2**31),
    "a directory of four gigabytes": whole(length=FULL, start=FULL, count=2**16 - 1),
    "a directory in the middle": lambda m: zipped(
        [
            *entries_of(m)[:1],
            Entry(b"", Head(b"d/", 0, 0, 0), Head(b"d/", 0, 0, 0)),
            *entries_of(m)[1:],
        ]
    ),
    "zip64 records": whole(before_end=ZIP64_END + ZIP64_LOCATOR),
    "zip64 records in the place of the old": whole(
        before_end=ZIP64_END + ZIP64_LOCATOR, count=2**16 - 1, length=FULL, start=FULL
    ),
    "a zip64 locator": whole(before_end=ZIP64_LOCATOR),
    "zip64 sizes": both_heads(size=FULL, packed_size=FULL, extra=ZIP64_EXTRA),
    "a zip64 field that nobody needs": both_heads(extra=ZIP64_EXTRA),
    "by zip64": by_zip64,
    "sizes behind the data": streamed,
    "an extra field in the directory": central_head(extra=b"UT\5\0\1" + bytes(4)),
    "an extra field before the data": local_head(extra=b"UT\5\0\1" + bytes(4)),
    "extra fields in both": both_heads(extra=b"UT\5\0\1" + bytes(4)),
    "an extra field cut short": both_heads(extra=b"U"),
    "an extra field of another name": both_heads(extra=OTHER_NAME),
    "extra fields without end": local_head(extra=bytes(65_535)),
    "a member's comment": with_last(lambda entry: replace(entry, comment=b"hello")),
    "another name before the data": local_head(name=b"../../../etc/passwd"),
    "a name that climbs": both_heads(name=b"../../../etc/passwd"),
    "a name from the root": both_heads(name=b"/etc/passwd"),
    "a name with backslashes": both_heads(name=b"..\\..\\x"),
    "a name with a zero": both_heads(name=b"model.weights.h5\0.txt"),
    "a name that is no UTF-8": both_heads(name=b"\xff\xfe"),
    "a name that clears the screen": both_heads(name=b"\x1b[2J\r\n", packed_size=0),
    "no name": both_heads(name=b""),
    "a link": of_type(stat.S_IFLNK),
    "a folder by its kind": of_type(stat.S_IFDIR),
    "a device": of_type(stat.S_IFCHR),
    "a pipe": of_type(stat.S_IFIFO),
    "encrypted": both_heads(flags=1),
    "strongly encrypted": both_heads(flags=0x41),
    "sizes behind the data, by the flags": both_heads(flags=8),
    "another CRC-32 before the data": local_head(crc=1),
    "another CRC-32": both_heads(crc=1),
    "another size before the data": local_head(size=7),
    "another packed size before the data": local_head(packed_size=7),
    "another method before the data": local_head(method=8),
    "flags before the data": local_head(flags=0x800),
    "no signature before the data": local_head(signature=b"PK\3\5"),
    "no signature in the directory": central_head(signature=b"PK\1\3"),
    "deflated, as it says": both_heads(method=8),
    "a method of the future": both_heads(method=255),
    "deflated to a bomb": bomb,
    "no size": both_heads(size=0, packed_size=0),
    "a size of two gigabytes": both_heads(size=2**31, packed_size=2**31),
    "a size of four gigabytes": both_heads(size=FULL, packed_size=FULL),
    "a size that its packed size is not": both_heads(size=100),
    "an offset past the end": with_last(lambda entry: replace(entry, offset=2**31)),
    "an offset of four gigabytes": with_last(lambda entry: replace(entry, offset=FULL)),
    "all members in one place": same_place_twice,
    "a member inside another": inside_another,
    "members in another order": lambda members: zipped(
        [*entries_of(members)[:-1], replace(entries_of(members)[-1], offset=0)]
    ),
}

MOST = (1 << 22) - 100  # bytes: just less than JSON may have


def _filled(start: bytes, piece: bytes, end: bytes) -> bytes:
    return start + piece * ((MOST - len(start) - len(end)) // len(piece)) + end


def _many_keys() -> bytes:
    names = map("".join, product(ascii_letters, repeat=4))
    return ("{" + ",".join(f'"{name}":0' for name in islice(names, MOST // 9)) + "}").encode()


JSONS: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "a blank": lambda: b" ",
    "cut short": lambda: b'{"a": ',
    "followed by more": lambda: b"{} {}",
    "a list": lambda: b"[]",
    "null": lambda: b"null",
    "a text": lambda: b'"{}"',
    "a number": lambda: b"7",
    "an object without entries": lambda: b"{}",
    "not UTF-8": lambda: b'{"a": "\xff"}',
    "a surrogate in UTF-8": lambda: b'{"a": "\xed\xa0\x80"}',
    "an overlong character": lambda: b'{"a": "\xc0\xaf"}',
    "a byte order mark": lambda: b"\xef\xbb\xbf{}",
    "UTF-16": lambda: '{"a": 1}'.encode("utf-16"),
    "UTF-32": lambda: '{"a": 1}'.encode("utf-32"),
    "a zero byte": lambda: b'{"a": 1}\0',
    "a key twice": lambda: b'{"a": 1, "a": 1}',
    "a key twice, once escaped": lambda: b'{"a": 1, "\\u0061": 1}',
    "a key twice, deep inside": lambda: b'{"a": [{"b": {"c": 1, "c": 2}}]}',
    "a key that is a surrogate": lambda: b'{"\\ud800": 1}',
    "not a number": lambda: b'{"a": NaN}',
    "infinity": lambda: b'{"a": -Infinity}',
    "a number too large": lambda: b'{"a": 1e999}',
    "a negative number too large": lambda: b'{"a": [-1e999]}',
    "a whole number of 65 bits": lambda: b'{"a": 18446744073709551616}',
    "a whole number of 4,000 digits": lambda: b'{"a": -' + b"9" * 4_000 + b"}",
    "a whole number without end": lambda: b'{"a": ' + b"9" * MOST + b"}",
    "a number of many digits": lambda: b'{"a": 0.' + b"1" * (MOST - 20) + b"}",
    "many numbers of many digits": lambda: _filled(b"[", b"9" * 4_300 + b",", b"0]"),
    "deep lists": lambda: b"[" * 200_000 + b"]" * 200_000,
    "deep lists, not closed": lambda: b"[" * 20_000,
    "deep objects": lambda: b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
    "33 objects deep": lambda: b'{"a":' * 33 + b"1" + b"}" * 33,
    "a thousand objects deep": lambda: b'{"a":' * 1000 + b"1" + b"}" * 1000,
    "larger than it can be": lambda: b'{"a": "' + b"a" * (1 << 23) + b'"}',
    "of empty objects": lambda: _filled(b'{"a":[', b"{},", b"0]}"),
    "of empty lists": lambda: _filled(b'{"a":[', b"[],", b"0]}"),
    "of lists of a number": lambda: _filled(b'{"a":[', b"[0],", b"0]}"),
    "of one key": lambda: _filled(b"{", b'"":0,', b'"":0}'),
    "of many keys": _many_keys,
    "of short texts": lambda: _filled(b'{"a":[', b'"ab",', b"0]}"),
    "of short texts of two characters": lambda: _filled(b'{"a":[', '"ab😀",'.encode(), b"0]}"),
    "of floats": lambda: _filled(b'{"a":[', b"1e5,", b"0]}"),
    "of numbers": lambda: _filled(b'{"a":[', b"300,", b"0]}"),
    "of escapes": lambda: _filled(b'{"a":"', b"\\n", b'"}'),
    "of escaped surrogates": lambda: _filled(b'{"a":"', b"\\ud83d", b'"}'),
    "of one long text with one wide character": lambda: _filled('{"a":"😀'.encode(), b"a", b'"}'),
    "of quotes": lambda: b'"' * MOST,
    "of backslashes": lambda: b'"' + b"\\" * MOST,
    "of colons": lambda: b":" * MOST,
    "of commas": lambda: b"," * MOST,
    "of blanks": lambda: b" " * MOST,
    "of zeros": lambda: bytes(MOST),
    "as crowded as it can be": lambda: (
        b'{"a":{'
        + b",".join(b'"k%d":[{}]' % number for number in range(9_000))
        + b'},"b":['
        + b'"ab",' * 280_000
        + b"0]}"
    ),
}
