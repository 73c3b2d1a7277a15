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
    "NO_STDOUT",
    "TextSink",
    "is_terminal",
    "json_line",
    "one_line",
    "shell_word",
    "shows_color",
    "silence",
    "sparkline",
    "surprisal_color",
    "tell",
    "terminal_safe",
    "write_json",
    "write_text",
]

NO_STDOUT = "standard output is closed: there is nowhere to write to"

_BLOCK_BYTES = 1 << 13
_FIRST_BLOCK_BYTES = 64
_LONGEST_WAIT = 0.2  # seconds
_BARS = "▁▂▃▄▅▆▇█"
# Colours of a terminal's 256, from what was expected to what was not, and the bits they begin at.
_COLORS = ((0.0, 244), (1.0, 252), (2.5, 228), (4.5, 214), (7.0, 203))

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
    """``text`` with whatever could break the line, or a terminal would obey, escaped, and so the
    bytes of a file name that is no UTF-8."""
    line = text.translate(_ON_ONE_LINE)
    try:
        line.encode("utf-8")
    except UnicodeEncodeError:
        line = "".join(map(_encodable, line))
    return line


def _encodable(character: str) -> str:
    r"""A character, but of a lone surrogate an escape: ``\xff`` of the byte that it stands for."""
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("utf-8", "backslashreplace").decode()


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


def shows_color() -> bool:
    """Whether stdout takes colours: a terminal, or whatever it is where ``FORCE_COLOR`` or
    ``CLICOLOR_FORCE`` says so, but never with ``NO_COLOR``."""
    if os.environ.get("NO_COLOR"):
        return False
    forced = [os.environ.get(name, "0") for name in ("FORCE_COLOR", "CLICOLOR_FORCE")]
    return is_terminal(sys.stdout) or any(value not in ("", "0") for value in forced)


def surprisal_color(bits: float) -> int:
    """One of a terminal's 256 colours for a character that surprised a model so much."""
    return [color for least, color in _COLORS if bits >= least][-1]


def _stdout() -> BinaryIO:
    if sys.stdout is None:
        raise RunError(NO_STDOUT)
    return sys.stdout.buffer


def write_text(text: str) -> None:
    """Write text to stdout as UTF-8, ended by a line break; on a terminal, made safe."""
    stream = _stdout()
    if is_terminal(sys.stdout):
        text = terminal_safe(text)
    stream.write(f"{text}\n".encode("utf-8", "backslashreplace"))
    stream.flush()


def json_line(record: dict[str, Any]) -> bytes:
    """``record`` as a line of JSON, its characters as they are, but for lone surrogates and for
    what a terminal would obey where stdout is one: those are escaped."""
    text = json.dumps(record, ensure_ascii=False)
    if is_terminal(sys.stdout):
        text = text.translate(_IN_JSON)
    return text.encode("utf-8", "backslashreplace") + b"\n"


def write_json(record: dict[str, Any]) -> None:
    """Write the `json_line` of ``record`` to stdout."""
    stream = _stdout()
    stream.write(json_line(record))
    stream.flush()


class TextSink:
    """Stdout for text as it is made: at once on a terminal, in blocks in a pipe, the first early.

    Takes bytes. On a terminal, and wherever it is ``shown`` by a reader that obeys a terminal's
    escapes, text is made safe. Leaving it ends the last line.
    """

    def __init__(self, *, shown: bool = False) -> None:
        self._stream = _stdout()
        self._is_terminal = is_terminal(sys.stdout)
        self._is_shown = shown or self._is_terminal
        self._shows_color = shows_color()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")  # of what is shown
        self._pending = bytearray()
        self._limit = 1 if self._is_terminal else _FIRST_BLOCK_BYTES
        self._last = b"\n"
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
        """``color`` is one of a terminal's 256; where text is not shown, or `shows_color` says no,
        it is nothing."""
        if not data:
            return
        self._pending += self._for_eyes(data, color) if self._is_shown else data
        self._last = data[-1:]
        late = time.monotonic() - self._flushed > _LONGEST_WAIT
        if len(self._pending) >= self._limit or late:
            self.flush()
            self._limit = 1 if self._is_terminal else _BLOCK_BYTES

    def _for_eyes(self, data: bytes, color: int | None) -> bytes:
        text = terminal_safe(self._decoder.decode(data))  # nothing, until a character is whole
        if color is not None and text and self._shows_color:
            text = f"\x1b[38;5;{color}m{text}\x1b[0m"
        return text.encode()

    def flush(self) -> None:
        """Write what is pending."""
        data = bytes(self._pending)
        self._pending.clear()
        self._stream.write(data)
        self._stream.flush()
        self._flushed = time.monotonic()


def sparkline(values: list[float]) -> str:
    """``values`` as a row of bars, the smallest the lowest."""
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    return "".join(_BARS[round((value - low) / span * (len(_BARS) - 1))] for value in values)
