"""A page of HTML that needs nothing beside itself: elements, tables, and the document around them.

Whatever is not markup made here is escaped, and what cannot be seen in it, or would turn the text
about, is shown as an escape. The document forbids all network and every script and style but its
own. This room knows nothing of models.
"""

from __future__ import annotations

import base64
import hashlib
import html
import unicodedata
from collections.abc import Iterable, Sequence

from chargen.signs import escaped

__all__ = [
    "JOINERS",
    "Html",
    "command_line",
    "cut",
    "details",
    "document",
    "element",
    "join",
    "number",
    "table",
    "visible",
]

JOINERS = "\u200c\u200d"  # what keeps letters apart or ties signs together: part of how they look
_BLANKS = "\n\t"
_LARGEST_WHOLE = 1e12  # written out
_VOID = {"input", "link", "meta"}

Attribute = str | int | bool | None


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


def visible(text: str) -> str:
    """``text`` with an escape such as ``\\x1b`` for each character that cannot be seen, but for
    blanks, line breaks, tabs and joiners."""
    if text.replace("\n", "").isprintable():
        return text
    return "".join(
        c if c in _BLANKS or c in JOINERS or unicodedata.category(c) == "Zs" else escaped(c)
        for c in text
    )


def join(*parts: str) -> Html:
    """Parts one after the other, those that are not markup escaped."""
    return Html("".join(part if isinstance(part, Html) else _escaped(part) for part in parts))


def _escaped(text: str) -> str:
    return html.escape(visible(text))


def element(name: str, /, *parts: str, **attributes: Attribute) -> Html:
    """An element around ``parts``, those that are not markup escaped.

    Attributes that are None are left out and those that are True have no value; ``class_`` is
    class, and ``aria_label`` is aria-label.
    """
    written = [name]
    for key, value in attributes.items():
        key = key.removesuffix("_").replace("_", "-")
        if value is True:
            written.append(key)
        elif value is not None and value is not False:
            written.append(f'{key}="{_escaped(str(value))}"')
    begin = f"<{' '.join(written)}>"
    if name in _VOID:
        return Html(begin)
    first = "\n" if name == "pre" else ""  # a line break that a browser leaves out
    return Html(f"{begin}{first}{join(*parts)}</{name}>")


def table(
    caption: str, header: Sequence[str], rows: Iterable[Sequence[str]], *, class_: str | None = None
) -> Html:
    """A table whose rows each begin with their header."""
    head = element("tr", *(element("th", cell, scope="col") for cell in header))
    body = [
        element("tr", element("th", first, scope="row"), *(element("td", cell) for cell in others))
        for first, *others in rows
    ]
    return element(
        "div",
        element(
            "table",
            element("caption", caption),
            *([element("thead", head)] if header else []),
            element("tbody", *body),
        ),
        class_=" ".join(["wide", *([class_] if class_ else [])]),
    )


def details(summary: str, *parts: str) -> Html:
    """Something that is shown when asked for."""
    return element("details", element("summary", summary), *parts)


def command_line(command: str) -> Html:
    """A command, in which a line may end between words and, only if it must, within one."""
    words = [element("span", word) for word in command.split(" ")]
    spaced = [part for word in words for part in (" ", word)][1:]
    return element("p", element("code", *spaced), class_="command")


def cut(text: str, most: int) -> str:
    """``text``, or its first ``most`` characters and how many are left out."""
    if len(text) <= most:
        return text
    return f"{text[:most]} … and {len(text) - most:,} characters more"


def number(value: float, digits: int = 5) -> str:
    """A whole number with commas, any other of so many significant digits at most; the minus is a
    true one."""
    if abs(value) < _LARGEST_WHOLE and value == round(value):
        shown = f"{round(value):,}"
    else:
        shown = f"{value:.{digits}g}"
    return shown.replace("-", "−")


def document(title: str, style: str, script: str, *body: str) -> str:
    """The whole page; ``style`` and ``script`` are the only ones that it lets work."""
    policy = (
        f"default-src 'none'; img-src data:; style-src {_hash_of(style)};"
        f" script-src {_hash_of(script)}; base-uri 'none'; form-action 'none'"
    )
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("link", rel="icon", href="data:,"),  # else a browser asks the server for one
        element("style", Html(style)),
    )
    content = element("body", *body, element("script", Html(script)))
    return "<!doctype html>\n" + element("html", head, content, lang="en")


def _hash_of(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"
