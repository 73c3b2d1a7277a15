"""A zoo of bad files, for each kind that chargen reads: all refused in one line and at once."""

import os
import random
import socket
import struct

import pytest
from bad_files import JSONS, ZIPS
from model_files import KINDS, Kind, kind_of, packed, small_kind_of
from refusals import line_of, unprivileged
from zips import entries_of, zipped

from chargen.errors import ModelFileError, RunError

UNREADABLE = "cannot be read: "


@pytest.fixture(params=KINDS)
def kind(request):
    return kind_of(request.param)


@pytest.fixture(params=KINDS)
def small_kind(request):
    """A kind with a file of so few bytes that each can be tried."""
    return small_kind_of(request.param)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.keras"


def test_the_forger_can_be_honest(kind, path):
    path.write_bytes(zipped(entries_of(kind.members)))
    forged = kind.facts(kind.read(path))
    path.write_bytes(packed(kind.members.items()))
    assert kind.facts(kind.read(path)) == forged


@pytest.mark.parametrize("name", ZIPS)
def test_a_zip_file_that_lies(name, kind, path):
    path.write_bytes(ZIPS[name](kind.members))
    kind.refusal(path)


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
def test_no_zip_archive(name, kind, path):
    path.write_bytes(NO_ARCHIVES[name])
    assert kind.stranger in kind.refusal(path)


def test_any_file_cut_short(small_kind: Kind, path):
    path.write_bytes(packed(small_kind.members.items()))
    for length in reversed(range(path.stat().st_size)):
        os.truncate(path, length)
        with pytest.raises(ModelFileError):
            small_kind.read(path)
    small_kind.refusal(path)


def test_any_byte_changed_is_refused_or_changes_nothing(small_kind: Kind, path):
    """Every byte but those of the last member, of which every hundredth."""
    written = packed(small_kind.members.items())
    facts, last = small_kind.facts, small_kind.members[small_kind.names[-1]]
    path.write_bytes(written)
    expected, start = facts(small_kind.read(path)), written.index(last)
    within = range(start, start + len(last))
    num_refused = num_the_same = 0
    with open(path, "r+b", buffering=0) as file:
        for position in [*(set(range(len(written))) - set(within)), *within[::100]]:
            os.pwrite(file.fileno(), bytes([written[position] ^ 0xFF]), position)
            try:
                read = small_kind.read(path)
            except ModelFileError as error:
                assert str(error).isprintable()
                num_refused += 1
            else:
                assert facts(read) == expected
                num_the_same += 1
            os.pwrite(file.fileno(), written[position : position + 1], position)
    assert facts(small_kind.read(path)) == expected
    # The versions, times and attributes, and the numbers of the disk, of what is inside.
    assert 20 < num_the_same < 30 * len(small_kind.names)
    assert num_refused > 2000


@pytest.mark.parametrize("name", JSONS)
def test_bad_json(name, kind, path):
    for member in kind.json_names:
        path.write_bytes(packed({**kind.members, member: JSONS[name]()}.items()))
        kind.refusal(path)


def test_a_folder(kind, path):
    path.mkdir()
    assert "a folder" in kind.refusal(path)


@pytest.mark.parametrize(
    "name",
    ("/dev/null", "/dev/zero", "/dev/full", "/dev/tty", "/proc/self/mem", "/proc/self/cmdline"),
)
def test_what_is_no_file_of_ours_to_read(name, kind):
    try:
        message = kind.refusal(name)
    except RunError as error:  # a terminal, where there is none
        assert UNREADABLE in str(error)
    else:
        assert "no regular file" in message or "no zip archive" in message


def test_a_pipe_is_not_waited_for(kind, path):
    os.mkfifo(path)
    assert "no regular file" in kind.refusal(path)


def test_a_socket(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a socket's name must be short
    with socket.socket(socket.AF_UNIX) as made, pytest.raises(RunError) as caught:
        made.bind("s")
        kind.read("s")
    assert UNREADABLE in line_of(caught, 1)


@pytest.mark.parametrize("size", (10**9, 10 * 10**9))
def test_gigabytes_of_nothing(size, kind, path):
    path.touch()
    os.truncate(path, size)
    assert kind.stranger in kind.refusal(path)


def test_a_circle_of_links(kind, path):
    path.symlink_to(path)
    with pytest.raises(RunError) as caught:
        kind.read(path)
    assert UNREADABLE in line_of(caught, 1)


def test_a_link_to_a_good_file_is_followed(kind, path, tmp_path):
    (tmp_path / "elsewhere").write_bytes(packed(kind.members.items()))
    path.symlink_to("elsewhere")
    kind.read(path)


def test_a_file_that_may_not_be_read_is_a_failed_read(kind, path):
    path.write_bytes(packed(kind.members.items()))
    path.chmod(0)
    with unprivileged(), pytest.raises(RunError) as caught:
        kind.read(path)
    assert "cannot be read: Permission denied" in line_of(caught, 1)


def members_of(kind, *names):
    return [(name, kind.members.get(name, b"x")) for name in names]


MEMBERS = {
    "none": lambda names: (),
    "one missing": lambda names: names[:-1],
    "one more": lambda names: (*names, "assets/vocabulary.txt"),
    "one more of the same name": lambda names: (*names, names[0]),
    "one twice, another missing": lambda names: (names[0], *names[:-1]),
    "a folder": lambda names: (*names, "assets/"),
    "a name that climbs": lambda names: (*names[:-1], f"../{names[-1]}"),
    "a name from the root": lambda names: (*names[:-1], f"/{names[-1]}"),
    "a name with a line break": lambda names: (*names[:-1], "model\n.weights.h5"),
    "a name in capitals": lambda names: (*names[:-1], names[-1].upper()),
    "a thousand": lambda names: tuple(map(str, range(1000))),
    "long names": lambda names: tuple(letter * 60_000 for letter in "abc"),
}


@pytest.mark.parametrize("name", MEMBERS)
def test_members_that_are_others(name, kind, path):
    path.write_bytes(packed(members_of(kind, *MEMBERS[name](kind.names))))
    message = kind.refusal(path)
    assert kind.stranger in message
    assert "its members are" in message or "no zip archive of" in message
