"""Pages for the tests: a report on any text by a model of random weights, and a strict reader of
its HTML."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from model_files import RECORD
from networks import random_tensors, small_config

from chargen.archive import Archive
from chargen.model import Model
from chargen.report import Subject, report
from chargen.vocabulary import Vocabulary

VOID = {"meta", "link", "input"}
LIMIT = 1_000_000  # bytes, of a page
FABLE = "The wolf said: “Thank you (for 1 thing).”\n\nA crane, and a wolf; naïve!\n" * 8
HISTORY = [
    {
        "step": 10 * number,
        "loss": 4.0 / number,
        "learning_rate": 0.01 / number,
        "bits_per_char": 5.0 / number + 1,
    }
    for number in range(1, 9)
]
FACTS = {"model": "some.keras", "trained on": "100 characters of some.txt"}


def random_model(
    text: str, cell: str = "lstm", *, kind: str = "char", name: str = "some.keras", **record: Any
) -> Model:
    """A model that knows the characters of ``text``, or bytes, and has learned nothing."""
    vocabulary = Vocabulary.of_bytes() if kind == "byte" else Vocabulary.from_text(text)
    config = small_config(cell, vocabulary_size=len(vocabulary), units=12)
    training = {**RECORD, "tokens": kind, **record}
    tensors = random_tensors(config, scale=0.7)
    return Model(Archive({}, config, vocabulary, training, HISTORY, tensors), Path(name))


def page_of(model: Model, text: str, **changes: Any) -> str:
    options: dict[str, Any] = {
        "facts": FACTS,
        "repeat": "chargen train --steps 80 some.txt",
        "generate": "chargen generate -m some.keras",
    }
    subject = Subject(model.vocabulary.encode(text).astype("uint32"), "some.txt")
    return report(model, subject, **{**options, **changes})


@dataclass
class Node:
    """An element: its children are elements and text."""

    name: str
    attributes: dict[str, str | None]
    children: list[Node | str] = field(default_factory=list)

    def all(self, name: str = "", /, **attributes: str) -> Iterator[Node]:
        """Those below it of that name that have these attributes, in order."""
        for child in self.children:
            if isinstance(child, Node):
                fits = child.name == name or not name
                if fits and attributes.items() <= child.attributes.items():
                    yield child
                yield from child.all(name, **attributes)

    def one(self, name: str = "", /, **attributes: str) -> Node:
        (found,) = self.all(name, **attributes)
        return found

    @property
    def text(self) -> str:
        return "".join(c if isinstance(c, str) else c.text for c in self.children)

    @property
    def classes(self) -> set[str]:
        return set((self.attributes.get("class") or "").split())


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open = [Node("", {})]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), f"{tag}: an attribute twice"
        node = Node(tag, dict(attrs))
        self.open[-1].children.append(node)
        if tag not in VOID:
            self.open.append(node)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().name == tag

    def handle_data(self, data: str) -> None:
        node = self.open[-1]
        if node.name == "pre" and not node.children:
            data = data.removeprefix("\n")  # as browsers do
        node.children.append(data)


def read(page: str) -> Node:
    """The elements of a page in which each one is closed."""
    reader = _Reader()
    reader.feed(page)
    reader.close()
    (root,) = reader.open
    return root


def check_structure(page: Node) -> None:
    """What those need who do not see the page."""
    ids = [node.attributes["id"] for node in page.all() if "id" in node.attributes]
    assert len(set(ids)) == len(ids)
    levels = [int(node.name[1]) for node in page.all() if re.fullmatch("h[1-6]", node.name)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    for one in page.all("table"):
        assert one.one("caption").text
        assert all(head.attributes["scope"] in ("row", "col") for head in one.all("th"))
        widths = {len([c for c in row.children if isinstance(c, Node)]) for row in one.all("tr")}
        assert len(widths) == 1
    for picture in page.all("svg", role="img"):
        first, second = picture.children[:2]
        assert isinstance(first, Node) and isinstance(second, Node)
        assert (first.name, second.name) == ("title", "desc")
        assert first.text and second.text
    pictures = [node for node in page.all("svg") if "role" not in node.attributes]
    inner = [one for picture in page.all("svg", role="img") for one in picture.all("svg")]
    hidden = [one for one in pictures if one.attributes.get("aria-hidden") == "true"]
    assert len(pictures) == len(inner) + len(hidden)
    labels = {label.attributes["for"] for label in page.all("label")}
    assert {slider.attributes["id"] for slider in page.all("input")} == labels
    targets = {str(link.attributes["href"])[1:] for link in page.all("a")}
    targets |= {str(node.attributes["aria-labelledby"]) for node in page.all("section")}
    assert targets <= set(ids)
    assert [link.text for link in page.all("a")] == [head.text for head in page.all("h2")]


def tables_of(page: Node) -> dict[str, list[list[str]]]:
    return {
        one.one("caption").text: [
            [c.text for c in row.children if isinstance(c, Node)] for row in one.all("tr")
        ]
        for one in page.all("table")
    }
