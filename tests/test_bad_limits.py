"""What a bad file may cost, and that nothing beside it is touched: the whole zoo, read in a process
that counts."""

import json
import os
import subprocess
import sys

import pytest
from bad_files import JSONS, ZIPS
from model_files import KINDS, kind_of, packed
from test_bad_files import MEMBERS, NO_ARCHIVES, members_of

MOST_SECONDS = 1.0  # on the processor, of one file
MOST_MEMORY = 200 << 10  # KB, of the process

# Reads each file that a line of stdin names, and tells what that took, what came of it and what
# the interpreter was asked for meanwhile.
READER = """
import json, sys, time
from chargen.errors import ChargenError
if sys.argv[1] == "model":
    from chargen.model import load as read
else:
    from pathlib import Path
    from chargen.training.checkpoint import read_checkpoint
    read = lambda path: read_checkpoint(Path(path))
asked = []
is_watched = False
def watch(event, arguments):
    if is_watched:
        asked.append([event, *map(repr, arguments[:1])])
sys.addaudithook(watch)
for line in sys.stdin:
    path = line.rstrip("\\n")
    asked.clear()
    began = time.process_time()
    is_watched = True
    try:
        read(path)
        told, status = "read", 0
    except ChargenError as error:
        told, status = str(error), error.status
    is_watched = False
    seconds = time.process_time() - began
    with open("/proc/self/status") as status_of_process:  # ru_maxrss begins with the parent's
        memory = next(int(row.split()[1]) for row in status_of_process if row[:6] == "VmHWM:")
    print(json.dumps([told, status, seconds, memory, asked]), flush=True)
"""


class Reader:
    """A process that reads what it is told to, and the most that it took."""

    def __init__(self, name, path):
        self.kind = kind_of(name)
        self.path = path
        self._process = subprocess.Popen(
            [sys.executable, "-c", READER, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=path.parent,
        )

    def read(self, data: bytes):
        self.path.write_bytes(data)
        return self.read_path(str(self.path))

    def read_path(self, path: str):
        self._process.stdin.write(f"{path}\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self):
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._process.stdout.close()


@pytest.fixture(params=KINDS)
def reader(request, tmp_path):
    found = Reader(request.param, tmp_path / "model.keras")
    # What is imported late is imported by the first file, a good one.
    assert found.read(packed(found.kind.members.items()))[:2] == ["read", 0]
    yield found
    found.close()


def is_nothing_but(asked, path) -> bool:
    """Whether the interpreter was asked to open ``path`` and for nothing else."""
    return {tuple(what) for what in asked} == {("open", repr(path))}


def zoo_of(kind):
    for name, file in ZIPS.items():
        yield name, file(kind.members)
    for name, names in MEMBERS.items():
        yield name, packed(members_of(kind, *names(kind.names)))
    yield from NO_ARCHIVES.items()
    for name, text in JSONS.items():
        for member in kind.json_names:
            yield f"{member}: {name}", packed({**kind.members, member: text()}.items())


def test_every_refusal_is_cheap_and_touches_nothing_else(reader, tmp_path):
    path = str(tmp_path / "model.keras")
    slowest, before = 0.0, sorted(os.listdir(tmp_path))
    for name, data in zoo_of(reader.kind):
        told, status, seconds, memory, asked = reader.read(data)
        assert status == 4, f"{name}: {told}"
        assert seconds < MOST_SECONDS, f"{name}: {seconds:.1f} s"
        assert memory < MOST_MEMORY, f"{name}: {memory >> 10} MB"
        assert is_nothing_but(asked, path), name
        slowest = max(slowest, seconds)
    assert slowest > 0.01  # the clock runs
    assert sorted(os.listdir(tmp_path)) == before


def test_files_without_end_are_cheap(reader, tmp_path):
    sparse, pipe = tmp_path / "sparse", tmp_path / "pipe"
    sparse.touch()
    os.mkfifo(pipe)
    for size in (10**9, 2**31 - 2**20, 10 * 10**9):
        os.truncate(sparse, size)
        for path in (str(sparse), str(pipe), "/dev/zero", "/proc/self/mem"):
            told, status, seconds, memory, asked = reader.read_path(path)
            assert status == 4, told
            assert is_nothing_but(asked, path)
            assert seconds < MOST_SECONDS
            assert memory < MOST_MEMORY


def test_the_watch_sees_what_a_reader_does(reader):
    *_, asked = reader.read_path("/etc/passwd")
    assert is_nothing_but(asked, "/etc/passwd")
    assert not is_nothing_but(asked, str(reader.path))
