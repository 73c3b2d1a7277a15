"""A zoo of files that are no usable model: each refused cleanly, in one line and at once."""

import hashlib
import io
import json
import random
import struct
import zipfile

import numpy as np
import pytest
from model_files import CONFIG, METADATA, NAMES, WEIGHTS, good_archive, packed, refusal
from refusals import line_of, unprivileged

from chargen.archive import read_archive, write_archive
from chargen.errors import ModelFileError, RunError


@pytest.fixture
def archive():
    return good_archive()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.keras"


@pytest.fixture
def written(archive, path) -> bytes:
    """The bytes of a good file, which stands at ``path``."""
    write_archive(path, archive)
    return path.read_bytes()


def test_no_file(path):
    assert "chargen train CORPUS -o" in refusal(path)


def test_a_folder(path):
    path.mkdir()
    assert "a folder" in refusal(path)


def test_a_file_that_may_not_be_read_is_a_failed_read(written, path):
    path.chmod(0)
    with unprivileged(), pytest.raises(RunError) as caught:
        read_archive(path)
    assert "cannot be read: Permission denied" in line_of(caught, 1)


NO_ARCHIVES = {
    "empty": b"",
    "a line of text": b"no model\n",
    "random bytes": random.Random(0).randbytes(50_000),
    "zeros": bytes(100_000),
    "the magic number of a zip file": b"PK\x03\x04",
    "the end record of an empty zip file": b"PK\x05\x06" + bytes(18),
    "an end record whose directory lies past the end": b"PK\x05\x06"
    + struct.pack("<4H2LH", 0, 0, 3, 3, 200, 10**9, 0),
    "an HDF5 file": b"\x89HDF\r\n\x1a\n" + bytes(1000),
}


@pytest.mark.parametrize("name", NO_ARCHIVES)
def test_no_zip_archive(name, path):
    path.write_bytes(NO_ARCHIVES[name])
    assert "not a chargen model" in refusal(path)


def test_a_model_cut_short(written, path):
    lengths = {len(written) * part // 60 for part in range(60)}
    for length in sorted(lengths | {len(written) - cut for cut in range(1, 60)}):
        path.write_bytes(written[:length])
        refusal(path)


def test_any_byte_changed_is_refused_or_changes_nothing(archive, written, path):
    """Every byte of the zip file's own records, and 150 between them."""
    directory = written.index(b"PK\x01\x02")
    heads = [written.index(name.encode()) for name in NAMES]  # in the members' own heads
    structure = {p for head in heads for p in range(head - 30, head + 20)}
    structure.update(range(directory, len(written)))
    spread = set(range(0, directory, directory // 150))
    assert len(structure | spread) > 300
    num_refused = 0
    for position in sorted(structure | spread):
        changed = bytearray(written)
        changed[position] ^= 0xFF
        path.write_bytes(changed)
        try:
            read = read_archive(path)
        except ModelFileError:
            num_refused += 1
            refusal(path)
            continue
        assert read.members == archive.members
        assert (read.model, read.vocabulary) == (archive.model, archive.vocabulary)
        assert (read.training, read.history) == (archive.training, archive.history)
        for name, tensor in archive.tensors.items():
            np.testing.assert_array_equal(read.tensors[name], tensor)
    assert num_refused > 200


def test_a_stock_keras_file(path):
    from chargen.training.backend import ensure_backend

    ensure_backend()
    import keras

    keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save(path)
    message = refusal(path)
    assert "not a chargen model: Keras wrote it" in message and "chargen train" in message


def test_a_model_saved_again_by_keras(written, path):
    import keras

    keras.saving.load_model(path).save(path)
    message = refusal(path)
    assert "Keras has saved again" in message and "train again" in message


def members_of(archive, *names):
    return [(name, archive.members.get(name, b"x")) for name in names]


MEMBERS = {
    "none": (),
    "one missing": (METADATA, CONFIG),
    "a fourth": (*NAMES, "assets/vocabulary.txt"),
    "a fourth of the same name": (*NAMES, METADATA),
    "one twice, another missing": (METADATA, METADATA, WEIGHTS),
    "a folder": (*NAMES, "assets/"),
    "a name that climbs": (METADATA, CONFIG, f"../{WEIGHTS}"),
    "a name from the root": (METADATA, CONFIG, f"/{WEIGHTS}"),
    "a name with a line break": (METADATA, CONFIG, "model\n.weights.h5"),
    "a name in capitals": (METADATA, CONFIG, WEIGHTS.upper()),
    "a thousand": tuple(map(str, range(1000))),
    "long names": tuple(letter * 60_000 for letter in "abc"),
}


@pytest.mark.parametrize("name", MEMBERS)
def test_members_that_are_not_the_three(name, archive, path):
    path.write_bytes(packed(members_of(archive, *MEMBERS[name])))
    message = refusal(path)
    assert "not a chargen model: " in message
    assert "its members are" in message or "no zip archive of 3 members" in message


@pytest.mark.parametrize("member", NAMES)
@pytest.mark.parametrize("compression", (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
def test_a_compressed_member(member, compression, archive, path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, data in archive.members.items():
            file.writestr(name, data, compression if name == member else zipfile.ZIP_STORED)
    path.write_bytes(buffer.getvalue())
    assert f"{member} is compressed" in refusal(path)


def patched(written: bytes, member: str, at: int, kind: str, *values) -> bytes:
    """The file with values put ``at`` bytes into a member's entry of the directory at the end."""
    changed, entry = bytearray(written), written.index(b"PK\x01\x02")
    while changed[entry + 46 : entry + 46 + len(member)] != member.encode():
        entry = written.index(b"PK\x01\x02", entry + 4)
    struct.pack_into(f"<{kind}", changed, entry + at, *values)
    return bytes(changed)


@pytest.mark.parametrize("member", NAMES)
def test_an_encrypted_member(member, written, path):
    path.write_bytes(patched(written, member, 8, "H", 1))
    assert "encrypted" in refusal(path)


@pytest.mark.parametrize(
    "sizes",
    ((0, 0), (10, 10), (10**9, 10**9), (2**32 - 2,) * 2, (100, 10**9), (10**9, 100)),
    ids=str,
)
@pytest.mark.parametrize("member", NAMES)
def test_sizes_that_lie(member, sizes, written, path):
    path.write_bytes(patched(written, member, 20, "LL", *sizes))
    assert "damaged" in refusal(path)


@pytest.mark.parametrize("offset", (1, 2**31, 2**32 - 2))
@pytest.mark.parametrize("member", NAMES)
def test_a_member_that_lies_elsewhere(member, offset, written, path):
    path.write_bytes(patched(written, member, 42, "L", offset))
    assert "damaged" in refusal(path)


BAD_JSON = {
    "empty": b"",
    "cut short": b'{"a": ',
    "followed by more": b"{} {}",
    "a list": b"[]",
    "null": b"null",
    "a text": b'"{}"',
    "not UTF-8": b'{"a": "\xff"}',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "a key twice": b'{"a": 1, "a": 1}',
    "a key twice, deep inside": b'{"a": [{"b": {"c": 1, "c": 2}}]}',
    "deep lists": b"[" * 200_000 + b"]" * 200_000,
    "deep objects": b'{"a":' * 200_000 + b"1" + b"}" * 200_000,
    "an endless number": b'{"a": ' + b"9" * 100_000 + b"}",
    "huge": b'{"a": "' + b"a" * (1 << 26) + b'"}',
}


@pytest.mark.parametrize("name", BAD_JSON)
@pytest.mark.parametrize("member", (METADATA, CONFIG))
def test_bad_json(member, name, archive, path):
    path.write_bytes(packed({**archive.members, member: BAD_JSON[name]}.items()))
    assert f"damaged model file: {member}" in refusal(path)


@pytest.mark.parametrize("value", (np.nan, np.inf, -np.inf))
@pytest.mark.parametrize("name", ("embedding", "recurrent_2/bias", "head/bias"))
def test_weights_that_are_not_finite(name, value, archive, path):
    metadata = json.loads(archive.members[METADATA])
    weights = bytearray(archive.members[WEIGHTS])
    struct.pack_into("<f", weights, metadata["chargen"]["tensors"][name]["offset"] + 4, value)
    metadata["chargen"]["weights_sha256"] = hashlib.sha256(weights).hexdigest()
    members = {**archive.members, METADATA: json.dumps(metadata), WEIGHTS: bytes(weights)}
    path.write_bytes(packed(members.items()))
    assert f"tensor {name} holds a number that is not finite" in refusal(path)


def test_weights_of_another_file(archive, path):
    *most, last = archive.members[WEIGHTS]
    weights = bytes([*most, last ^ 1])
    path.write_bytes(packed({**archive.members, WEIGHTS: weights}.items()))
    assert "checksum" in refusal(path)
