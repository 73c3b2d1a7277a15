"""Files, folders, globs, pipes and standard input, read to the last byte or refused in one line."""

import codecs
import contextlib
import gzip
import os
import pkgutil
from encodings import __path__ as encodings_path
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import line_of, unprivileged

from chargen import reading
from chargen.errors import ChargenError, RunError, TextError, UsageError
from chargen.reading import check_encoding, read_blocks

block_sizes = pytest.mark.parametrize("block_size", [1, 2, 3, 5, 1 << 22])


def small_blocks(size: int) -> contextlib.AbstractContextManager[object]:
    return patch.object(reading, "_BLOCK_BYTES", size)


def text_of(path: Path | str, encoding: str = "utf-8") -> str:
    return "".join(read_blocks(str(path), tokens="char", encoding=encoding))


def bytes_of(path: Path | str) -> bytes:
    return b"".join(read_blocks(str(path), tokens="byte", encoding="utf-8"))


@pytest.fixture
def made(tmp_path):
    """Writes ``data`` under a name in the test's own folder."""

    def make(data: bytes, name: str = "text.txt") -> Path:
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return make


def test_line_ends_and_control_characters_are_kept(made):
    text = "unix\nwindows\r\nold mac\r\r\n\n\x00\x0b\x0c\x1c\x85\u2028end"
    path = made(text.encode())
    assert text_of(path) == text
    assert bytes_of(path) == text.encode()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32", "gb18030", "utf-16-be"])
@settings(deadline=None, max_examples=25)
@given(text=st.text(max_size=40), block_size=st.integers(1, 9))
def test_no_block_border_changes_the_text(encoding, text, block_size):
    text = text.lstrip("\ufeff")
    with TemporaryDirectory() as folder, small_blocks(block_size):
        path = Path(folder, "text")
        path.write_bytes(text.encode(encoding))
        assert text_of(path, encoding) == text
        assert bytes_of(path) == text.encode(encoding)


@block_sizes
def test_one_byte_order_mark_at_the_head_of_a_file_is_dropped(made, block_size):
    with small_blocks(block_size):
        assert text_of(made(b"\xef\xbb\xbfone")) == "one"
        assert text_of(made(b"\xef\xbb\xbf\xef\xbb\xbftwo")) == "\ufefftwo"
        assert text_of(made("in\ufeffside\ufeff".encode())) == "in\ufeffside\ufeff"
        assert text_of(made(b"\xef\xbb\xbf")) == ""
        assert bytes_of(made(b"\xef\xbb\xbfbytes")) == b"\xef\xbb\xbfbytes"


ENCODED = [
    ("Grüße, ça va?\r\n", "latin-1", "Grüße, ça va?\r\n".encode("latin-1")),
    ("Wide ☃ 😀\n", "utf-16", codecs.BOM_UTF16_LE + "Wide ☃ 😀\n".encode("utf-16-le")),
    ("Wide ☃ 😀\n", "utf-16", codecs.BOM_UTF16_BE + "Wide ☃ 😀\n".encode("utf-16-be")),
    ("Wide ☃ 😀\n", "utf-16-le", codecs.BOM_UTF16_LE + "Wide ☃ 😀\n".encode("utf-16-le")),
    ("Wide ☃ 😀\n", "utf-16-be", "Wide ☃ 😀\n".encode("utf-16-be")),
    ("汉字 and 😀", "gb18030", "汉字 and 😀".encode("gb18030")),
    ("日本語 ﾃｽﾄ", "shift_jis", "日本語 ﾃｽﾄ".encode("shift_jis")),
    ("Smart “quotes”", "cp1252", b"Smart \x93quotes\x94"),
]


@block_sizes
@pytest.mark.parametrize(("text", "encoding", "data"), ENCODED)
def test_other_encodings_are_read(made, text, encoding, data, block_size):
    with small_blocks(block_size):
        assert text_of(made(data), encoding) == text


@block_sizes
def test_utf_16_without_a_byte_order_mark_is_refused(made, block_size):
    path = made("no mark".encode("utf-16-le"))
    with small_blocks(block_size), pytest.raises(TextError, match="BOM") as caught:
        text_of(path, "utf-16")
    message = line_of(caught, 3)
    assert str(path) in message
    assert "--encoding" in message


BAD_UTF8 = [  # the data, the offset and line of the error, the byte there
    (b"\xff", 0, 1, "0xff"),
    (b"fine\nfine\r\nbad \xe9t\xe9\n", 15, 3, "0xe9"),
    (b"one\rtwo\rbad \x80", 12, 1, "0x80"),  # a lone carriage return ends no line
    ("ééé\n€\n😀".encode() + b"\xc0\xaf", 15, 3, "0xc0"),
    (b"\xef\xbb\xbfmark \xfe", 8, 1, "0xfe"),
    (b"surrogate \xed\xa0\x80", 10, 1, "0xed"),
    ("cut \n€".encode()[:-1], 5, 2, "0xe2"),  # in the middle of the last character
    ("cut 😀".encode()[:-1], 4, 1, "0xf0"),
    ("cut é".encode()[:-1], 4, 1, "0xc3"),
    ("€".encode()[:-1] + b"tail", 0, 1, "0xe2"),
]


@block_sizes
@pytest.mark.parametrize(("data", "offset", "line", "byte"), BAD_UTF8)
def test_a_bad_byte_is_found_to_the_byte_and_line(made, data, offset, line, byte, block_size):
    path = made(data)
    with small_blocks(block_size), pytest.raises(TextError) as caught:
        text_of(path)
    message = line_of(caught, 3)
    assert f"{path}: byte {byte} at offset {offset} (line {line}) is not utf-8" in message
    assert "--encoding" in message
    assert "--tokens byte" in message
    assert bytes_of(path) == data


@settings(deadline=None, max_examples=100)
@given(st.text(max_size=30), st.text(max_size=10), st.integers(1, 9))
def test_a_bad_byte_is_found_after_any_text(before, after, block_size):
    head = before.encode()
    with TemporaryDirectory() as folder, small_blocks(block_size):
        path = Path(folder, "text")
        path.write_bytes(head + b"\xff" + after.encode())
        with pytest.raises(TextError) as caught:
            text_of(path)
    where = f"byte 0xff at offset {len(head)} (line {1 + before.count(chr(10))}) "
    assert where in str(caught.value)


@block_sizes
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_a_bad_pair_in_utf_16_is_found_to_the_byte_and_line(made, encoding, block_size):
    head = "\ufeffone\ntwo\nthree\n".encode(encoding)
    path = made(head + "\udc00 end".encode(encoding, "surrogatepass"))
    with small_blocks(block_size), pytest.raises(TextError) as caught:
        text_of(path, "utf-16")
    assert f"at offset {len(head)} (line 4) is not utf-16" in line_of(caught, 3)


@pytest.mark.parametrize(
    "encoding", ["rot13", "base64", "hex", "zlib", "klingon", "", "utf-9", "a\0"]
)
def test_what_is_no_text_encoding_is_refused(encoding):
    with pytest.raises(UsageError, match="--encoding") as caught:
        check_encoding(encoding)
    assert repr(encoding) in line_of(caught, 2)


@pytest.mark.parametrize("encoding", ["utf-8", "UTF8", "latin-1", "utf-16", "gb18030", "shift_jis"])
def test_a_text_encoding_is_taken(encoding):
    check_encoding(encoding)


def test_bytes_are_read_as_they_are():
    check_encoding("UTF8", "byte")
    with pytest.raises(UsageError, match=r"^--encoding 'latin-1': bytes"):
        check_encoding("latin-1", "byte")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_every_encoding_of_python_reads_any_bytes_or_refuses_them(made):
    path = made(bytes(range(256)) * 2 + b"\n+2AA- xn--a \x1b$B")
    escaped = []
    for module in pkgutil.iter_modules(encodings_path):
        try:
            check_encoding(module.name)
            text_of(path, module.name)
        except ChargenError as error:
            assert len(str(error).splitlines()) == 1
        except Exception as error:
            escaped.append((module.name, error))
    assert escaped == []


DAMAGE = {
    "cut short": lambda packed: packed[:-12],
    "cut in the header": lambda packed: packed[:5],
    "only the magic": lambda packed: packed[:2],
    "bad checksum": lambda packed: packed[:-8] + bytes([packed[-8] ^ 1]) + packed[-7:],
    "bad length": lambda packed: packed[:-1] + bytes([packed[-1] ^ 1]),
    "bad data": lambda packed: packed[:10] + b"\xff" * 20 + packed[30:],
    "bad method": lambda packed: packed[:2] + b"\x07" + packed[3:],
    "rubbish behind": lambda packed: packed + b"rubbish",
}


@block_sizes
@pytest.mark.parametrize("name", ["text.txt.gz", "no-suffix"])
def test_gzip_is_unpacked_by_its_magic(made, name, block_size):
    text = "ein Text\r\nmit Umlauten: äöü\n" * 20
    with small_blocks(block_size):
        assert text_of(made(gzip.compress(text.encode()), name)) == text
        parts = gzip.compress(b"first ") + gzip.compress(b"second")
        assert text_of(made(parts, name)) == "first second"
        assert text_of(made(gzip.compress("\ufeffmark".encode()), name)) == "mark"


def test_bytes_are_unpacked_only_where_the_name_says_gz(made):
    packed = gzip.compress(b"\xff\x00 bytes")
    assert bytes_of(made(packed, "a.gz")) == b"\xff\x00 bytes"
    assert bytes_of(made(packed, "a.bin")) == packed


@pytest.mark.parametrize("name", ["text.gz", "text"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_gzip_file_is_refused(made, name, damage):
    packed = gzip.compress(os.urandom(3000).hex().encode())
    path = made(DAMAGE[damage](packed), name)
    with small_blocks(100), pytest.raises(RunError, match="damaged gzip") as caught:
        text_of(path)
    assert str(path) in line_of(caught, 1)


def test_a_bad_byte_in_gzip_counts_the_unpacked_bytes(made):
    path = made(gzip.compress(b"a\n" * 500 + b"\xff"))
    with small_blocks(64), pytest.raises(TextError, match=r"offset 1000 \(line 501\)"):
        text_of(path)


def test_what_cannot_be_read_is_refused(tmp_path, monkeypatch):
    (tmp_path / "folder").mkdir()
    (tmp_path / "dangling").symlink_to("nothing")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "closed.txt").write_text("secret")
    (tmp_path / "closed.txt").chmod(0)
    tmp_path.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    for name in ("folder", "dangling", "loop", "closed.txt", "missing"):
        with unprivileged(), pytest.raises(RunError, match=r"cannot be read: [A-Z]") as caught:
            text_of(name)
        assert name in line_of(caught, 1)
