"""Files that are no usable model, of the kinds that are of models alone; the others stand in
``test_bad_files``."""

import hashlib
import io
import json
import struct
import zipfile

import numpy as np
import pytest
from model_files import CONFIG, METADATA, NAMES, WEIGHTS, good_archive, packed, refusal

from chargen.archive import write_archive


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


def test_a_stock_keras_file(path):
    from chargen.training.backend import ensure_backend

    ensure_backend()
    import keras

    keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save(path)
    message = refusal(path)
    assert "not a chargen model: Keras wrote it" in message and "chargen train" in message


@pytest.mark.parametrize("num_layers", (2000, 50_000))
def test_a_stock_keras_file_of_a_large_network(num_layers, archive, path):
    layers = [{"class_name": "Dense", "config": {"units": 9}}] * num_layers
    config = {"class_name": "Functional", "config": {"name": "a", "layers": layers}}
    stock = {METADATA: json.dumps({"keras_version": "3.15.0"}), CONFIG: json.dumps(config)}
    path.write_bytes(packed({**archive.members, **stock}.items()))
    assert "Keras wrote it" in refusal(path)


def test_a_model_saved_again_by_keras(written, path):
    import keras

    keras.saving.load_model(path).save(path)
    message = refusal(path)
    assert "Keras has saved again" in message and "train again" in message


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
