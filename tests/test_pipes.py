"""Standard input and named pipes: read once, from end to end, in any locale."""

import gzip
import os
import subprocess
import sys
import threading

import pytest

from chargen.reading import expand_sources, read_blocks


@pytest.mark.parametrize("text", ["", "x", "\x1f", "piped text\r\n" * 9999], ids=len)
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_a_named_pipe_is_read_once_from_end_to_end(tmp_path, text, pack):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(pack(text.encode()),), daemon=True)
    writer.start()
    assert expand_sources([pipe]) == [str(pipe)]
    assert "".join(read_blocks(str(pipe), tokens="char", encoding="utf-8")) == text
    writer.join(10)
    assert not writer.is_alive()


STDIN_READER = """
import sys
from chargen.errors import ChargenError
from chargen.reading import expand_sources, read_blocks
try:
    for path in expand_sources(sys.argv[2:]):
        for block in read_blocks(path, tokens=sys.argv[1], encoding="utf-8"):
            data = block if isinstance(block, bytes) else block.encode()
            sys.stdout.buffer.write(data)
except ChargenError as error:
    print(error, file=sys.stderr)
    sys.exit(error.status)
"""


def piped(data: bytes, *arguments: str, shell: str = 'exec "$@"') -> tuple[bytes, bytes, int]:
    """What a process that reads standard input writes: output, errors and status."""
    command = ["sh", "-c", shell, "sh", sys.executable, "-c", STDIN_READER, *arguments]
    locale = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    result = subprocess.run(command, input=data, capture_output=True, env=os.environ | locale)
    return result.stdout, result.stderr, result.returncode


def test_a_dash_is_standard_input_in_utf_8_whatever_the_locale(tmp_path):
    first, last = tmp_path / "first", tmp_path / "last"
    first.write_bytes(b"first ")
    last.write_bytes(b" last")
    text = "\ufeffé 😀\r\n".encode() * 3
    unmarked = text.removeprefix(b"\xef\xbb\xbf")
    assert piped(text, "char", "-") == (unmarked, b"", 0)
    assert piped(gzip.compress(text), "char", "-") == (unmarked, b"", 0)
    assert piped(text, "byte", "-") == (text, b"", 0)
    assert piped(text, "char", str(first), "-", str(last)) == (
        b"first " + unmarked + b" last",
        b"",
        0,
    )


REFUSED = {  # what is piped, how the shell starts the reader, the status, the error
    "bad byte": (b"fine\n\xff", 'exec "$@"', 3, b"standard input: byte 0xff at offset 5 (line 2)"),
    "gzip": (
        gzip.compress(b"cut short")[:-9],
        'exec "$@"',
        1,
        b"standard input: a damaged gzip file",
    ),
    "closed": (b"", 'exec "$@" <&-', 1, b"standard input is closed"),
    "not for reading": (b"", 'exec "$@" 0>/dev/null', 1, b"standard input: cannot be read: Bad"),
}


@pytest.mark.parametrize(("data", "shell", "status", "error"), REFUSED.values(), ids=REFUSED)
def test_an_error_on_standard_input_says_so(data, shell, status, error):
    output, errors, ended = piped(data, "char", "-", shell=shell)
    assert data.startswith(output)
    assert ended == status
    assert errors.startswith(error)
    assert errors.count(b"\n") == 1
