"""Where an encoded corpus lies: in a file without a name, and not in memory."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from refusals import line_of, unprivileged

from chargen.corpus import read_corpus
from chargen.errors import RunError


def test_no_named_file_is_left_and_none_stays_open(tmp_path):
    open_files = len(os.listdir("/dev/fd"))
    for text in ("".join(map(chr, range(300))), "ab"):
        corpus = read_corpus(text=text, spool_folder=tmp_path)
        assert os.listdir(tmp_path) == []
        assert corpus.vocabulary.decode(corpus.tokens) == text
    del corpus
    assert len(os.listdir("/dev/fd")) == open_files


def test_a_spool_folder_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "closed").mkdir(mode=0o555)
    tmp_path.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    for folder in ("file", "missing", "closed"):
        with unprivileged(), pytest.raises(RunError, match="cannot hold the encoded") as caught:
            read_corpus(text="text", spool_folder=folder)
        message = line_of(caught, 1)
        assert message.startswith(f"{folder}: ")
        assert "-o/--output" in message


FULL = """
import resource, sys
from chargen.corpus import read_corpus
from chargen.errors import RunError
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
for size in (100_001, 10_000_000):
    try:
        read_corpus(text="ab" * (size // 2 + 1), spool_folder=sys.argv[1])
    except RunError as error:
        print(error)
"""


def test_a_spool_that_cannot_grow_is_a_failed_write(tmp_path):
    command = [sys.executable, "-c", FULL, str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    assert len(lines) == 2
    assert all(line.startswith(f"{tmp_path}: cannot hold the encoded corpus: ") for line in lines)
    assert os.listdir(tmp_path) == []


MEASURED = """
import os, sys, threading, time
from chargen.corpus import read_corpus

def anonymous():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1000 for line in status if line.startswith("RssAnon"))

def watch():
    while True:
        seen.append(anonymous())
        time.sleep(0.002)

corpus, folder, lines = sys.argv[1:]
before = anonymous()
seen = [before]
threading.Thread(target=watch, daemon=True).start()
result = read_corpus([corpus], spool_folder=folder, lines=lines == "lines")
after = anonymous()
assert os.listdir(folder) == []
assert type(result.tokens).__name__ == "memmap"
print(result.tokens.size, after - before, max(seen) - before)
"""


def memory_of(folder: Path, line: str, megabytes: int, lines: str = "") -> tuple[int, float, float]:
    """The characters of a corpus of many a ``line``; by how many megabytes memory that is not a
    file's grew in the end, and at most."""
    corpus, spool = folder / "corpus", folder / "spool"
    spool.mkdir()
    try:
        with open(corpus, "wb") as file:
            for _ in range(megabytes):
                file.write(line.encode() * (1_000_000 // len(line.encode())))
        command = [sys.executable, "-c", MEASURED, str(corpus), str(spool), lines]
        result = subprocess.run(command, capture_output=True, text=True, check=True)
    finally:
        corpus.unlink()
    size, grown, at_most = result.stdout.split()
    return int(size), float(grown), float(at_most)


needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks /proc")


@needs_proc
def test_a_large_corpus_stays_out_of_memory(tmp_path):
    size, grown, at_most = memory_of(tmp_path, "Zwölf Boxkämpfer jagen Viktor.\n", 200)
    assert size > 187_000_000
    assert grown < 60
    assert at_most < 150


@needs_proc
def test_a_corpus_of_long_lines_stays_out_of_memory(tmp_path):
    size, grown, at_most = memory_of(tmp_path, "a long line " * 400 + "\n", 40, "lines")
    assert size > 39_000_000
    assert grown < 60
    assert at_most < 300
