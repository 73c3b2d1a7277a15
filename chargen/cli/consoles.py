"""Where text goes: stdout as bytes of UTF-8 whatever the locale, and terminals made safe."""

from __future__ import annotations

import codecs
import json
import os
import shlex
import sys
import time
from types import TracebackType
from typing import Any, BinaryIO, Self

from chargen.errors import RunError

__all__ = [
    "TextSink",
    "is_terminal",
    "json_line",
    "one_line",
    "shell_word",
    "silence",
    "sparkline",
    "tell",
    "terminal_safe",
    "write_text",
]

_BLOCK_BYTES = 1 << 13
_FIRST_BLOCK_BYTES = 64
_LONGEST_WAIT = 0.2  # seconds
_BARS = "▁▂▃▄▅▆▇█"

# What a terminal obeys: C0 and C1 controls but for tab and line feed, and the bidirectional
# embeddings, overrides and isolates.
_OBEYED = [
    *[code for code in [*range(0x20), *range(0x7F, 0xA0)] if code not in (0x09, 0x0A)],
    *range(0x202A, 0x202F),
    *range(0x2066, 0x206A),
]
# A carriage return goes unseen, for the sake of text with CRLF line ends.
_SAFE: dict[int, str] = dict.fromkeys(_OBEYED, "\N{REPLACEMENT CHARACTER}") | {0x0D: ""}
_ON_ONE_LINE = {code: repr(chr(code))[1:-1] for code in [*_OBEYED, 0x09, 0x0A, 0x2028, 0x2029]}
_IN_JSON = {code: f"\\u{code:04x}" for code in _OBEYED}


def terminal_safe(text: str) -> str:
    """``text`` with whatever a terminal would obey shown as U+FFFD."""
    return text.translate(_SAFE)


def one_line(text: str) -> str:
    """``text`` with whatever could break the line, or a terminal would obey, escaped."""
    return _encodable(text.translate(_ON_ONE_LINE))


def _encodable(text: str) -> str:
    """``text`` with lone surrogates escaped: the bytes of a file name that is no UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()


def shell_word(word: str) -> str:
    """``word`` quoted for a shell, on one line: in ``$'...'`` where ``one_line`` would escape."""
    if one_line(word) == word:
        return shlex.quote(word)
    return "$'" + "".join(map(_shell_character, word)) + "'"


def _shell_character(character: str) -> str:
    if character in "\\'":
        return f"\\{character}"
    if one_line(character) == character:
        return character
    is_of_bytes = "\udc80" <= character <= "\udcff"
    data = character.encode("utf-8", "surrogateescape" if is_of_bytes else "surrogatepass")
    return "".join(f"\\{byte:03o}" for byte in data)


def tell(message: str) -> None:
    """One line on stderr, with whatever could break it escaped; nothing where it is closed."""
    if sys.stderr is None:
        return
    try:
        sys.stderr.buffer.write(f"{one_line(message)}\n".encode())
        sys.stderr.flush()
    except OSError:  # its reader has left
        silence(2)


def silence(descriptor: int) -> None:
    """Keep Python from writing to a closed or full output once more at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def is_terminal(stream: object) -> bool:
    try:
        return stream is not None and bool(stream.isatty())  # type: ignore[attr-defined]
    except ValueError:  # closed
        return False


def _stdout() -> BinaryIO:
    if sys.stdout is None:
        raise RunError("standard output is closed: there is nowhere to write to")
    return sys.stdout.buffer


def write_text(text: str) -> None:
    """Write text to stdout as UTF-8, ended by a line break; on a terminal, made safe."""
    stream = _stdout()
    if is_terminal(sys.stdout):
        text = terminal_safe(text)
    stream.write(f"{text}\n".encode("utf-8", "backslashreplace"))
    stream.flush()


def json_line(record: dict[str, Any]) -> str:
    """``record`` as JSON, its characters as they are, but for lone surrogates and for what a
    terminal would obey where stdout is one: those are escaped."""
    text = json.dumps(record, ensure_ascii=False)
    return _encodable(text.translate(_IN_JSON) if is_terminal(sys.stdout) else text)


class TextSink:
    """Stdout for text as it is made: at once on a terminal, in blocks in a pipe, the first early.

    Takes bytes; on a terminal, what it would obey is made safe. Leaving it ends the last line.
    """

    def __init__(self) -> None:
        self._stream = _stdout()
        self.is_terminal = is_terminal(sys.stdout)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")  # for a terminal
        self._pending = bytearray()
        self._limit = 1 if self.is_terminal else _FIRST_BLOCK_BYTES
        self._last = b"\n"
        self._color: int | None = None
        self._flushed = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def end_line(self) -> None:
        """End the last line, unless it has ended."""
        if self._last != b"\n":
            self.write(b"\n")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None or issubclass(kind, KeyboardInterrupt):
            self.end_line()
            self.flush()

    def write(self, data: bytes, *, color: int | None = None) -> None:
        """``color`` is one of a terminal's 256; elsewhere, or with ``NO_COLOR``, it is nothing."""
        if not data:
            return
        if color is not None and self.is_terminal and not os.environ.get("NO_COLOR"):
            self.flush()
            self._color = color
        self._pending += data
        self._last = data[-1:]
        late = time.monotonic() - self._flushed > _LONGEST_WAIT
        if len(self._pending) >= self._limit or late:
            self.flush()
            self._limit = 1 if self.is_terminal else _BLOCK_BYTES

    def flush(self) -> None:
        """Write what is pending."""
        data = bytes(self._pending)
        self._pending.clear()
        if self.is_terminal:
            text = terminal_safe(self._decoder.decode(data))
            if self._color is not None and text:
                text = f"\x1b[38;5;{self._color}m{text}\x1b[0m"
                self._color = None
            data = text.encode()
        self._stream.write(data)
        self._stream.flush()
        self._flushed = time.monotonic()


def sparkline(values: list[float]) -> str:
    """``values`` as a row of bars, the smallest the lowest."""
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    return "".join(_BARS[round((value - low) / span * (len(_BARS) - 1))] for value in values)
