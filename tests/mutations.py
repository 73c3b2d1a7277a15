"""Inputs for the readers of files that are not trusted, ways to spoil them, and what must hold.

An input is the parts of a file, each with its length before it: what to do to the finished zip
file, then the members. They are put together with right checksums and lengths, so that what was
spoilt meets the checks behind those too. ``fuzz.py`` lets coverage guide the spoiling; here nothing
knows of it, and a plain test spoils at random.
"""

import hashlib
import json
import random
import re
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from chargen.archive import read_archive, verify_archive
from chargen.cli.info import rows_of
from chargen.container import packed
from chargen.engine import Engine
from chargen.errors import ModelFileError, RunError
from chargen.hdf5 import read_datasets
from chargen.model import Model
from chargen.training.checkpoint import read_checkpoint

ARCHIVE = "metadata.json", "config.json", "model.weights.h5"
STATE = "state.json", "state.bin"
MOST_SECONDS = 1.0  # of one input, on the processor

_SHA256 = re.compile(rb'((?:weights|tensors)_sha256": ?")[0-9a-f]{64}(?=")')
_LENGTH = struct.Struct("<I")
_NUMBERS = [*range(9), 24, 96, 127, 255, 2**15, 2**16 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1]
_VALUES = [
    *(None, True, False, 0, -1, 1, 2, 7, 256, 65_536, 2**31, 2**63 - 1, 2**63, 10**30, 10**400),
    *(-0.0, 0.5, 1.0, 1e-9, 1e15, 1e308, "", "a", "ab", "\ud800", "é", "😀", "\n\x1b[2J", "../x"),
    *("float32", "int64", "byte", "char", "gru", "lstm", "rnn", "Lambda", "keras", "0" * 64),
]
_TOKENS = [
    *(b"1e999", b"-1e999", b"NaN", b"-Infinity", b"-0", b"9" * 5000, b'"a":0,"a":0', b"[[[[[[[["),
    *(b'"\\ud800"', b"\xff", b"\xef\xbb\xbf", b"{}", b"[]", b"null", b'"":0,', b"\\u0000", b"\0"),
]

Bytes = Callable[[bytes, int], bytes]


def joined(parts: list[bytes]) -> bytes:
    return b"".join(_LENGTH.pack(len(part)) + part for part in parts)


def parts_of(data: bytes, count: int) -> list[bytes]:
    """As many parts as asked for, whatever ``data`` is."""
    parts, at = [], 0
    for _ in range(count):
        length = int.from_bytes(data[at : at + 4], "little")
        parts.append(data[at + 4 : at + 4 + length])
        at += 4 + length
    return parts


def file_of(data: bytes, names: tuple[str, ...]) -> bytes:
    """The zip file of an input: its checksums are right, until it is tampered with."""
    tampering, *members = parts_of(data, 1 + len(names))
    told = hashlib.sha256(members[-1]).hexdigest().encode()
    members[0] = _SHA256.sub(lambda match: match[1] + told, members[0], count=1)
    return _tampered(packed(dict(zip(names, members, strict=True))), tampering)


def _tampered(file: bytes, tampering: bytes) -> bytes:
    """Each four bytes of ``tampering`` change one place of the zip file's own records."""
    changed = bytearray(file)
    records = [match.start() for match in re.finditer(rb"PK(?:\x01\x02|\x03\x04|\x05\x06)", file)]
    for at in range(0, min(len(tampering), 64) - 3, 4):
        record, offset, what, value = tampering[at : at + 4]
        if not changed:
            break
        place = min(records[record % len(records)] + offset % 72, len(changed) - 1)
        number = _NUMBERS[value % len(_NUMBERS)]
        if what % 6 == 0:
            changed[place] = value
        elif what % 6 == 1:
            changed[place:place] = bytes(value)
        elif what % 6 == 2:
            del changed[place : place + value]
        elif what % 6 == 3:
            changed[place : place + 2] = (number & 0xFFFF).to_bytes(2, "little")
        elif what % 6 == 4:
            changed[place : place + 4] = (number & 0xFFFFFFFF).to_bytes(4, "little")
        else:
            changed += changed[place : place + value]
    return bytes(changed)


class Reader:
    """One reader, the members of its file, and what it may raise."""

    def __init__(self, names: tuple[str, ...], read: Callable[[Path], None]) -> None:
        self.names = names
        self._read = read

    def examine(self, data: bytes, path: Path) -> bool:
        """Whether the file of the input ``data``, put at ``path``, is read; raises
        ``AssertionError`` for a refusal that is none or takes too long."""
        path.write_bytes(file_of(data, self.names))
        began = time.process_time()
        try:
            self._read(path)
        except (ModelFileError, RunError) as error:
            told = str(error)
            assert error.status == 4 and told.isprintable() and len(told) < 1000, told
            is_read = False
        else:
            is_read = True
        _check_time(began)
        return is_read


def _check_time(began: float) -> None:
    seconds = time.process_time() - began
    assert seconds < MOST_SECONDS, f"{seconds:.1f} s"


def _read_model(path: Path) -> None:
    """A model that is read must also run, and ``info`` must know how to show it."""
    archive = read_archive(path)
    engine = Engine(archive.model, archive.tensors)
    tokens = np.zeros(2, np.int32)
    assert np.isfinite(engine.head(engine.body.run(engine.zero_state(), tokens))).all()
    assert all(value for _, value in rows_of(Model(archive, path)))
    json.dumps([archive.training, archive.history], allow_nan=False)
    verify_archive(archive, path)


def _read_state(path: Path) -> None:
    checkpoint = read_checkpoint(path)
    assert checkpoint.variables
    json.dumps([checkpoint.run.to_dict(), checkpoint.asked, checkpoint.origin], allow_nan=False)


class _Structure:
    """The reader of the structure of weights: bytes alone."""

    names = ("model.weights.h5",)

    def examine(self, data: bytes, path: Path) -> bool:
        weights = parts_of(data, 2)[1]
        began = time.process_time()
        try:
            read_datasets(weights)
        except ValueError as error:
            assert str(error).isprintable() and len(str(error)) < 3000, str(error)
            return False
        finally:
            _check_time(began)
        return True


READERS = {
    "archive": Reader(ARCHIVE, _read_model),
    "state": Reader(STATE, _read_state),
    "hdf5": _Structure(),
}


def spoilt(data: bytes, name: str, most: int, seed: int, any_bytes: Bytes) -> bytes:
    """``data`` with a few places changed; ``any_bytes(part, most)`` changes bytes of no form."""
    random_state = random.Random(seed)
    names = READERS[name].names
    parts = parts_of(data, 1 + len(names))
    for _ in range(random_state.choice((1, 1, 1, 2, 4))):
        at = random_state.randrange(0 if len(names) > 1 else 1, len(parts))
        if not at:
            parts[at] = any_bytes(parts[at], 64)
        elif names[at - 1].endswith(".json") and random_state.random() < 0.8:
            parts[at] = _spoilt_json(parts[at], random_state, any_bytes, most)
        else:
            parts[at] = _spoilt_fields(parts[at], random_state, any_bytes, most)
    return joined(parts)[:most]


def _spoilt_json(data: bytes, random_state: random.Random, any_bytes: Bytes, most: int) -> bytes:
    try:
        value = json.loads(data)
        places = list(_places(value))
    except (ValueError, RecursionError):
        return any_bytes(data, most)
    if random_state.random() < 0.15:
        place = random_state.randrange(len(data) + 1)
        return data[:place] + random_state.choice(_TOKENS) + data[place:]
    if not places:
        return any_bytes(data, most)
    holder, key = random_state.choice(places)
    change = random_state.randrange(6)
    if change == 0:
        del holder[key]
    elif change == 1:
        other, other_key = random_state.choice(places)
        holder[key] = json.loads(json.dumps(other[other_key]))
    elif change == 2 and isinstance(holder[key], int | float):
        holder[key] += random_state.choice((-1, 1, 8, 0.5, 256))
    elif change == 3:
        holder[key] = random_state.choice(([], {}))
    elif change == 4 and isinstance(holder, dict):
        holder[random_state.choice(("a", "format", "\n", "\ud800"))] = holder.pop(key)
    else:
        holder[key] = random_state.choice(_VALUES)
    return json.dumps(value).encode()


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every object or list within ``value`` with each of its keys."""
    waiting = [value]
    for holder in waiting:
        if isinstance(holder, dict | list):
            for key in range(len(holder)) if isinstance(holder, list) else list(holder):
                yield holder, key
                waiting.append(holder[key])


def _spoilt_fields(data: bytes, random_state: random.Random, any_bytes: Bytes, most: int) -> bytes:
    """A field of eight bytes or fewer changed, and the length that HDF5 tells of itself mended."""
    if len(data) < 16 or random_state.random() < 0.3:
        changed = bytearray(any_bytes(data, most))
    else:
        changed = bytearray(data)
        width = random_state.choice((1, 2, 4, 8, 8))
        place = random_state.randrange(0, len(data) - 8, random_state.choice((1, 8)))
        numbers = [random_state.choice(_NUMBERS), random_state.randrange(len(data)) & ~7]
        other = random_state.randrange(0, len(data) - 8, 8)
        numbers.append(int.from_bytes(data[other : other + 8], "little"))
        now = int.from_bytes(data[place : place + width], "little")
        numbers += [now + 1, now - 1, now + 8]
        number = random_state.choice(numbers) % (1 << 8 * width)
        changed[place : place + width] = number.to_bytes(width, "little")
    if changed[:4] == b"\x89HDF" and len(changed) > 48 and random_state.random() < 0.9:
        changed[40:48] = len(changed).to_bytes(8, "little")
    return bytes(changed)


def plainly(random_state: random.Random) -> Bytes:
    """Changes of bytes of no form, where nothing better guides them."""

    def any_bytes(data: bytes, most: int) -> bytes:
        place = random_state.randrange(len(data) + 1)
        rest = place + random_state.choice((0, 1, 4, 16))
        return (
            data[:place] + random_state.randbytes(random_state.choice((0, 1, 4))) + data[rest:]
        )[:most]

    return any_bytes
