"""The HDF5 reader: it finds what h5py finds, and whatever else it is given it refuses at once."""

import io
import random
import re
import struct
import tempfile
import time
from functools import cache
from importlib import import_module
from pathlib import Path

import h5py
import numpy as np
import pytest
from networks import every_cell, every_depth, random_tensors, small_config, stock_network
from refusals import line_of

from chargen.errors import ModelFileError, RunError
from chargen.hdf5 import Dataset, read_datasets
from chargen.records import check_weight_index, weight_index, weight_paths

DTYPES = ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8")
UNDEFINED = 2**64 - 1
every_dropout = pytest.mark.parametrize("dropout", (0.0, 0.5))


def written(fill, **options) -> bytes:
    """The bytes of the file that ``fill`` writes by h5py."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", **options) as file:
        fill(file)
    return buffer.getvalue()


def found_by_h5py(data: bytes) -> dict[str, Dataset]:
    """The slow twin of ``read_datasets``."""
    found = {}

    def add(path, item):
        if isinstance(item, h5py.Dataset):
            found[path] = Dataset(item.id.get_offset(), item.shape, item.dtype.name)

    with h5py.File(io.BytesIO(data)) as file:
        file.visititems(add)
    return found


def refusal(data: bytes) -> str:
    with pytest.raises(ValueError) as caught:
        read_datasets(data)
    assert type(caught.value) is ValueError
    message = str(caught.value)
    assert message.isprintable() and message
    return message


def answer(data: bytes) -> dict[str, Dataset] | None:
    """What is found, all of it within the file; None where it is refused. At once in any case."""
    began = time.process_time()
    try:
        found = read_datasets(data)
    except ValueError as error:
        assert type(error) is ValueError and str(error).isprintable()
        found = None
    assert time.process_time() - began < 0.5
    for dataset in (found or {}).values():
        size = np.dtype(dataset.dtype).itemsize * int(np.prod(dataset.shape, dtype=object))
        assert 0 < dataset.offset <= len(data) - size
    return found


@cache
def keras_weights(cell, num_layers, dropout) -> bytes:
    config = small_config(cell, num_layers, dropout=dropout)
    network = stock_network(config, random_tensors(config))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.weights.h5"
        network.save_weights(path)
        return path.read_bytes()


@every_dropout
@every_depth
@every_cell
def test_a_keras_network(cell, num_layers, dropout):
    config = small_config(cell, num_layers, dropout=dropout)
    weights = keras_weights(cell, num_layers, dropout)
    found = read_datasets(weights)
    assert found == found_by_h5py(weights)
    index = weight_index(weights, config)
    assert list(index) == list(weight_paths(config)) == list(config.tensor_shapes)
    for name, value in random_tensors(config).items():
        offset, shape = index[name]
        read = np.frombuffer(weights, "<f4", value.size, offset).reshape(shape)
        np.testing.assert_array_equal(read, value)
    check_weight_index(weights, config, index)


@every_dropout
@every_depth
@every_cell
def test_the_path_of_a_tensor_is_that_of_its_layer(cell, num_layers, dropout):
    """Keras writes the name of the layer beside its weights."""
    paths = weight_paths(small_config(cell, num_layers, dropout=dropout))
    with h5py.File(io.BytesIO(keras_weights(cell, num_layers, dropout))) as file:
        for name, path in paths.items():
            group = "/".join(path.split("/")[:2])
            assert file[group]["vars"].attrs["name"] == name.partition("/")[0]


def fill_with(num_links):
    def fill(file):
        for number in range(num_links):
            file[f"a/{number}"] = np.full(3, number, "<f4")
        for number in range(min(num_links, 100)):
            file[f"b/{number % 7}/{number}/c"] = np.float64(number)

    return fill


@pytest.mark.parametrize(
    ("num_links", "levels"), ((0, {0}), (1, {0}), (9, {0}), (300, {0, 1}), (3000, {0, 1, 2}))
)
def test_many_links_in_one_group(num_links, levels):
    data = written(fill_with(num_links))
    found = read_datasets(data)
    assert found == found_by_h5py(data)
    assert len(found) == num_links + min(num_links, 100)
    assert {data[match.start() + 5] for match in re.finditer(b"TREE", data)} == levels


def test_every_dtype_and_rank():
    def fill(file):
        for dtype in DTYPES:
            for rank in range(5):
                file[f"{dtype}/{rank}"] = np.ones((1, 2, 3, 4)[:rank], f"<{dtype}")

    data = written(fill)
    assert len(read_datasets(data)) == 5 * len(DTYPES)
    assert read_datasets(data) == found_by_h5py(data)


def test_what_is_skipped():
    """Attributes, which also ask for further blocks of messages, fill values and times."""

    def fill(file):
        dataset = file.create_dataset("a/b", (3,), "<f4", fillvalue=2, track_times=True)
        dataset[:] = 1
        for item in (file, file["a"]):
            for number in range(40):
                item.attrs[f"name {number}"] = "text" * number
                item.attrs[f"number {number}"] = np.zeros(number)

    data = written(fill)
    assert read_datasets(data) == found_by_h5py(data)


def test_links_that_came_and_went():
    def fill(file):
        fill_with(200)(file)
        for number in range(0, 200, 2):
            del file[f"a/{number}"]
        for number in range(300, 400):
            file[f"a/{number}"] = np.uint8(number - 300)

    data = written(fill)
    assert read_datasets(data) == found_by_h5py(data)


def compact(file):
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_layout(h5py.h5d.COMPACT)
    space = h5py.h5s.create_simple((5,))
    dataset = h5py.h5d.create(file.id, b"a", h5py.h5t.IEEE_F32LE, space, layout)
    dataset.write(space, space, np.arange(5, dtype=np.float32))


def test_compact_values_lie_in_the_header():
    data = written(compact)
    dataset = read_datasets(data)["a"]
    assert (dataset.shape, dataset.dtype) == ((5,), "float32")
    assert np.frombuffer(data, "<f4", 5, dataset.offset).tolist() == [0, 1, 2, 3, 4]


def hard_link(file):
    file["a"] = np.ones(3)
    file["b"] = file["a"]


def cycle(file):
    file.create_group("a")["b"] = file["/"]


def committed(file):
    file["a"] = np.dtype("f4")
    file.create_dataset("b", data=np.ones(3, "f4"), dtype=file["a"])


UNKNOWN = {
    "a soft link": lambda file: file.update({"b": h5py.SoftLink("/a")}),
    "type 0x0002": lambda file: file.update({"b": h5py.ExternalLink("other.h5", "/a")}),
    "where another part already begins": hard_link,
    "'a/b': an object header": cycle,
    "shared or special": committed,
    "chunked": lambda file: file.create_dataset("a", data=np.ones(9), chunks=(3,)),
    "type 0x000b": lambda file: file.create_dataset("a", data=np.ones(9), compression="gzip"),
    "may grow": lambda file: file.create_dataset("a", data=np.ones(9), maxshape=(None,)),
    "outside of the file": lambda file: file.create_dataset("a", (3,)),
    "empty": lambda file: file.create_dataset("a", (0,)),
    "a dataspace of unknown version": lambda file: file.update({"a": h5py.Empty("f4")}),
    "no little-endian": lambda file: file.update({"a": np.ones(3, ">f4")}),
    "or IEEE floats": lambda file: file.update({"a": np.ones(3, complex)}),
    "values that are no": lambda file: file.update({"a": "text"}),
    "an object header of unknown version": lambda file: file.create_group("a", track_order=True),
    "deeper than 32 groups": lambda file: file.create_group("/".join("a" * 33)),
    "longer than 1024": lambda file: file.create_group("a" * 1000 + "/" + "b" * 30),
    "more than 10,000 objects": lambda file: [file.create_group(f"{n}") for n in range(10_000)],
}


@pytest.mark.parametrize("reason", UNKNOWN)
def test_what_keras_never_writes(reason):
    assert reason in refusal(written(UNKNOWN[reason]))


def test_other_versions_of_the_superblock():
    assert "not of version 0" in refusal(written(fill_with(1), libver="latest"))
    assert "signature" in refusal(written(fill_with(1), userblock_size=512))


def test_what_is_just_within_the_limits():
    path = "/".join("a" * 31) + "/" + "b" * 962
    data = written(lambda file: file.update({path: np.ones(2)}))
    assert len(path) == 1024 and list(read_datasets(data)) == [path]


def small_file() -> bytes:
    def fill(file):
        file["a/b"] = np.arange(6, dtype="<f4").reshape(2, 3)
        file["a"].attrs["name"] = "text"

    return written(fill)


def test_every_byte_changed():
    data = small_file()
    num_refused = 0
    for position in range(len(data)):
        for value in {0, 255, data[position] ^ 1, data[position] + 8 & 255}:
            changed = bytearray(data)
            changed[position] = value
            num_refused += answer(bytes(changed)) is None
    assert num_refused > 1000


def test_every_truncation():
    data = small_file()
    for length in range(len(data)):
        refusal(data[:length])
        if length >= 48:  # and the superblock says so
            answer(data[:40] + struct.pack("<Q", length) + data[48:length])


def test_random_mutations():
    rng = random.Random(0)
    sources = [keras_weights("gru", 2, 0.5), small_file(), written(compact)]
    answers = []
    for _ in range(2500):
        data = bytearray(rng.choice(sources))
        words = [at for at in range(0, len(data), 8) if any(data[at : at + 8])]
        for at in rng.choices(words, k=rng.choice((1, 2, 5))):
            other = bytes(data[(there := rng.choice(words)) : there + 8])
            word = rng.choice((0, 1, UNDEFINED, 2**63, 2**32, len(data) - 8, rng.choice(words)))
            data[at : at + 8] = rng.choice((other, struct.pack("<Q", word), rng.randbytes(8)))
        answers.append(answer(bytes(data)))
    assert 200 < answers.count(None) < 2400


def test_no_hdf5_at_all():
    for data in (
        b"",
        b"\x89HDF",
        b"\x89HDF\r\n\x1a\n",
        bytes(5000),
        random.Random(0).randbytes(5000),
    ):
        refusal(data)


def patched(data: bytes, at: int, kind: str, *values: int) -> bytes:
    changed = bytearray(data)
    struct.pack_into(f"<{kind}", changed, at, *values)
    return bytes(changed)


# How far after a signature something is written in the file of fill_with(100). The first TREE, HEAP
# and SNOD are those of the root, whose first member is the group "a"; a text is where it stands.
CIRCLES = {
    "a group in itself": (b"SNOD", 8 + 8, "Q", 96),
    "an entry with the tree of its parent": (b"SNOD", 8 + 24, "Q", "TREE"),
    "a B-tree node that is its own child": (b"TREE", 5, "B", 1),
    "a B-tree node beside itself": (b"TREE", 8, "Q", "TREE"),
    "the heap as a node": (b"TREE", 32, "Q", "HEAP"),
    "names in the header": (b"HEAP", 24, "Q", 96),
}
COUNTS = {
    "children": (b"TREE", 6, "H", 65535),
    "levels": (b"TREE", 5, "B", 255),
    "a key far away": (b"TREE", 40, "Q", 2**63),
    "entries": (b"SNOD", 6, "H", 65535),
    "the length of names": (b"HEAP", 8, "Q", 2**62),
    "a free block far away": (b"HEAP", 16, "Q", 2**62),
    "no names": (b"HEAP", 8, "Q", 0),
    "a name far away": (b"SNOD", 8, "Q", 2**62),
    "an undefined header": (b"SNOD", 8 + 8, "Q", UNDEFINED),
    "a header at the last byte": (b"SNOD", 8 + 8, "Q", -1),
}


@pytest.mark.parametrize("name", CIRCLES | COUNTS)
def test_circles_and_numbers_that_lie(name):
    data = written(fill_with(100))
    signature, at, kind, value = (CIRCLES | COUNTS)[name]
    if isinstance(value, str):
        value = data.index(value.encode())
    value = len(data) - 1 if value == -1 else value
    assert answer(patched(data, data.index(signature) + at, kind, value)) is None


def test_free_blocks_in_a_circle():
    """h5py asks for memory without end when it opens such a group."""
    data = written(fill_with(1))
    size, free, names = struct.unpack_from("<QQQ", data, data.index(b"HEAP") + 8)
    assert 16 <= free < size
    assert "free blocks" in refusal(patched(data, names + free, "Q", free))


def handmade(*blocks: bytes, num_messages: int) -> bytes:
    """A file of nothing but a root header, whose messages are the first of ``blocks``."""
    header = struct.pack("<BxHII4x", 1, num_messages, 1, len(blocks[0])) + b"".join(blocks)
    head = struct.pack("<8s8BHHI", b"\x89HDF\r\n\x1a\n", *(0, 0, 0, 0, 0, 8, 8, 0), 4, 16, 0)
    ends = struct.pack("<4Q", 0, UNDEFINED, 96 + len(header), UNDEFINED)
    return head + ends + struct.pack("<QQ24x", 0, 96) + header


def message(kind: int, body: bytes = b"") -> bytes:
    return struct.pack("<HHB3x", kind, len(body), 0) + body


def continuation(at: int) -> bytes:
    return message(0x10, struct.pack("<QQ", at, 24))


def test_headers_without_end():
    nothing = message(0)
    assert "neither" in refusal(handmade(nothing, num_messages=1))
    assert "were announced" in refusal(handmade(nothing * 3, num_messages=2))
    assert "more than 150,000 parts" in refusal(handmade(nothing * 400_000, num_messages=65535))
    assert "another part" in refusal(handmade(continuation(112), num_messages=1))
    chain = b"".join(continuation(112 + 24 * (n + 1)) for n in range(100_000))
    assert "parts" in refusal(handmade(chain[:24], chain[24:], num_messages=65535))


def test_values_that_overlap_are_refused():
    data = written(lambda file: file.update({"a": np.ones(4, "<f4"), "b": np.ones(4, "<f4")}))
    found = read_datasets(data)
    at = data.index(struct.pack("<BBQQ", 3, 1, found["b"].offset, 16)) + 2
    assert "overlap" in refusal(patched(data, at, "Q", found["a"].offset + 4))
    assert "another part" in refusal(patched(data, at, "Q", found["a"].offset))
    assert "outside" in refusal(patched(data, at, "Q", len(data) - 15))
    assert "bytes of values" in refusal(patched(data, at + 8, "Q", 8))


CONFIG = small_config("lstm", 2, dropout=0.5)


def weights_of(extra=(), **changes) -> bytes:
    """The weights of ``CONFIG`` as h5py writes them, with changes by path and more datasets."""
    tensors = {weight_paths(CONFIG)[name]: value for name, value in random_tensors(CONFIG).items()}
    return written(lambda file: file.update({**tensors, **dict(extra), **changes}))


def test_the_state_of_dropout_may_stand_beside_the_weights():
    states = {f"layers/dropout{n}/seed_generator/vars/0": np.ones(2, "u4") for n in ("", "_1")}
    weights = weights_of(states)
    assert {read_datasets(weights)[path].dtype for path in states} == {"uint32"}
    check_weight_index(weights, CONFIG, weight_index(weights, CONFIG))


@pytest.mark.parametrize("name", CONFIG.tensor_shapes)
def test_an_index_of_another_mind(name):
    weights = weights_of()
    index = weight_index(weights, CONFIG)
    offset, shape = index[name]
    others = [{**index, name: place} for place in ((offset + 4, shape), (offset, (*shape, 1)))]
    others += [{key: place for key, place in index.items() if key != name}]
    others += [{**index, f"{name}_2": (offset, shape)}]
    for other in others:
        with pytest.raises(ModelFileError, match=name if len(other) == len(index) else "tensors"):
            check_weight_index(weights, CONFIG, other)


def test_two_kernels_exchanged():
    """Equal in shape, each in bounds: only the structure tells."""
    weights = weights_of()
    index = weight_index(weights, CONFIG)
    one, two = "recurrent_1/recurrent_kernel", "recurrent_2/recurrent_kernel"
    with pytest.raises(ModelFileError, match=one) as caught:
        check_weight_index(weights, CONFIG, {**index, one: index[two], two: index[one]})
    assert f"at byte {index[two][0]}" in line_of(caught, 4)


HEAD = "layers/dense/vars/1"
OTHER_WEIGHTS = {
    "a dataset too many": lambda: weights_of({"layers/dense/vars/2": np.ones(1, "f4")}),
    "half floats too many": lambda: weights_of({"optimizer/vars/0": np.ones(1, "f2")}),
    "another dtype": lambda: weights_of({HEAD: np.ones(11, "f8")}),
    "whole numbers": lambda: weights_of({HEAD: np.ones(11, "i4")}),
    "another shape": lambda: weights_of({HEAD: np.ones((11, 1), "f4")}),
    "none": lambda: written(lambda file: None),
    "cut short": lambda: weights_of()[:-1],
}


@pytest.mark.parametrize("name", OTHER_WEIGHTS)
def test_weights_of_another_model(name):
    index = weight_index(weights_of(), CONFIG)
    with pytest.raises(ModelFileError) as caught:
        check_weight_index(OTHER_WEIGHTS[name](), CONFIG, index)
    assert line_of(caught, 4).startswith("its ")


def test_weights_that_keras_wrote_in_another_form_are_not_kept(monkeypatch):
    network = stock_network(CONFIG)
    export = import_module("chargen.training.export")
    monkeypatch.setattr(network, "save_weights", lambda path: path.write_bytes(weights_of()[:-1]))
    with pytest.raises(RunError, match="cannot be kept: its weights are not HDF5") as caught:
        export.export(network, CONFIG, None, {}, [])
    line_of(caught, 1)


def test_a_dataset_with_an_attribute_is_refused():
    """Keras would round weights whose ``dtype`` attribute says bfloat16."""

    def fill(file):
        file.create_dataset("a", data=np.ones(3, np.float32)).attrs["dtype"] = "bfloat16"

    with pytest.raises(ValueError, match="a dataset with an attribute"):
        read_datasets(written(fill))
