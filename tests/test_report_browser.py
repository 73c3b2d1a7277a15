"""The page of ``chargen report`` in a real Chromium: nothing to complain of, on a phone, in the
dark, on paper, by keys, by touch and without its script."""

import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import CHROMIUM, Browser, Tab
from pages import FABLE, page_of, random_model
from test_hostile_text import HOSTILE
from test_report_html import contrast

from chargen.report.theme import DARK, LIGHT

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="there is no chromium here (Debian: apt-get install chromium)"
)

LONG = "W" * 300 + " " + "漢" * 300 + "\n"
TEXTS = {
    "fable": FABLE,
    "hostile": f"<b>&amp;</pre></script>{HOSTILE}" * 2,
    "long": LONG * 2,
    "hebrew": "שלום (עולם), 12 ימים!\nسلام\n" * 20,
}
PHONE = {"width": 375, "height": 700, "mobile": True}
LOOKS: dict[str, dict[str, Any]] = {
    "desktop": {},
    "dark": {"dark": True},
    "phone": PHONE,
    "phone in the dark": {**PHONE, "dark": True},
}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The address of a report on each of the texts."""
    folder = tmp_path_factory.mktemp("pages")
    addresses = {}
    for name, text in TEXTS.items():
        path = folder / f"{name}.html"
        long = {"facts": {"trained on": "a" * 500}, "generate": f"chargen generate -m {'b' * 500}"}
        model = random_model(text, name=("c" * 200) if name == "long" else "some.keras")
        path.write_text(page_of(model, text, **(long if name == "long" else {})), "utf-8")
        addresses[name] = path.as_uri()
    return addresses


def written(folder: Path, html: str) -> str:
    path = folder / "page.html"
    path.write_text(f"<!doctype html><html lang=en><title>a</title>{html}", "utf-8")
    return path.as_uri()


# what is told

CUT_OFF = """
[...document.querySelectorAll("h1, h2, h3, pre, p, section, figure, .tiles div")]
  .filter((one) => one.scrollWidth > one.clientWidth + 1).map((one) => one.outerHTML.slice(0, 200))
"""


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("look", LOOKS)
def test_nothing_is_told_and_nothing_is_fetched(
    name: str, look: str, browser: Browser, pages: dict[str, str]
) -> None:
    tab = browser.open(pages[name], **LOOKS[look])
    assert tab.told() == []
    assert tab.asked_for() == [pages[name]]
    assert tab.evaluate("document.compatMode") == "CSS1Compat"
    width = tab.evaluate("document.documentElement.scrollWidth")
    assert width == LOOKS[look].get("width", 1200)
    tab.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    assert tab.evaluate(CUT_OFF) == []
    assert tab.told() == []


CSP = "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'\">"
COMPLAINTS = {
    "a console error": "<script>console.error('here')</script>",
    "a console message": "<script>console.log('here')</script>",
    "an exception": "<script>undefined.here</script>",
    "a promise that failed": "<script>Promise.reject(new Error('here'))</script>",
    "a script against the policy": f"{CSP}<script>1</script>",
    "a style against the policy": f"{CSP}<p style='color:red'>a",
    "an image against the policy": f"{CSP}<img src=http://localhost:9/a.png alt=a>",
    "a file that is missing": "<img src=missing.png alt=a>",
}


@pytest.mark.parametrize("name", COMPLAINTS)
def test_a_complaint_would_be_heard(name: str, browser: Browser, tmp_path: Path) -> None:
    tab = browser.open(written(tmp_path, COMPLAINTS[name]))
    assert tab.told() != []


def test_a_page_that_is_too_wide_would_be_seen(browser: Browser, tmp_path: Path) -> None:
    tab = browser.open(written(tmp_path, "<pre>" + "a" * 500), **PHONE)
    assert tab.evaluate("document.documentElement.scrollWidth") > 375


def test_a_fetch_would_be_seen(browser: Browser, tmp_path: Path) -> None:
    tab = browser.open(written(tmp_path, "<img src=missing.png alt=a>"))
    assert len(tab.asked_for()) == 2


# how it looks


def pixels(png: bytes) -> Any:
    """The picture as an array (height, width, 3), decoded by hand."""
    place, data, size = 8, b"", (0, 0)
    while place < len(png):
        (length,) = struct.unpack(">I", png[place : place + 4])
        kind, body = png[place + 4 : place + 8], png[place + 8 : place + 8 + length]
        if kind == b"IHDR":
            *size, depth, color = struct.unpack(">IIBB", body[:10])
            assert (depth, color) == (8, 2)
        data += body * (kind == b"IDAT")
        place += length + 12
    width, height = size
    rows = np.frombuffer(zlib.decompress(data), np.uint8).reshape(height, 1 + 3 * width)
    found = np.zeros((height, width, 3), np.uint8)
    above = np.zeros((width, 3), np.int64)
    for number, (kind, *_), row in zip(
        range(height), rows, rows[:, 1:].reshape(height, width, 3).astype(int), strict=True
    ):
        if kind == 1:
            row = np.cumsum(row, axis=0) % 256
        elif kind == 2:
            row = (row + above) % 256
        elif kind > 2:
            row = np.array(_by_neighbours(kind, row.tolist(), above.tolist()))
        found[number] = above = row
    return found


def _by_neighbours(kind: int, row: list[Any], above: list[Any]) -> list[Any]:
    left, corner, made = [0, 0, 0], [0, 0, 0], []
    for values, up in zip(row, above, strict=True):
        pixel = []
        for value, a, b, c in zip(values, left, up, corner, strict=True):
            if kind == 3:
                guess = (a + b) // 2
            else:
                guess = min((a, b, c), key=lambda one: abs(a + b - c - one))
            pixel.append((value + guess) % 256)
        made.append(pixel)
        left, corner = pixel, up
    return made


def color_of(pixel: Any) -> str:
    return "#" + "".join(f"{part:02x}" for part in pixel.tolist())


@pytest.mark.parametrize("look", LOOKS)
def test_it_is_light_or_dark_as_the_reader_wants(
    look: str, browser: Browser, pages: dict[str, str]
) -> None:
    seen = pixels(browser.open(pages["fable"], **LOOKS[look]).picture(400, 60))  # the heading
    assert seen.shape == (60, 400, 3)
    colors, counts = np.unique(seen.reshape(-1, 3), axis=0, return_counts=True)
    expected = DARK if "dark" in look else LIGHT
    assert color_of(colors[counts.argmax()]) == expected["paper"]
    assert color_of(seen[0, 0]) == expected["paper"]
    assert expected["ink"] in {color_of(color) for color in colors}


WRITTEN = """
[...document.querySelectorAll("body *")].filter((one) => one.checkVisibility() &&
  [...one.childNodes].some((child) => child.nodeType === 3 && child.data.trim())
).map((one) => {
  let behind = one, back;
  while ((back = getComputedStyle(behind).backgroundColor) === "rgba(0, 0, 0, 0)")
    behind = behind.parentElement;
  const style = getComputedStyle(one);
  return [one instanceof SVGElement ? style.fill : style.color, back, parseFloat(style.fontSize)];
})
"""


def hexadecimal(color: str) -> str:
    return "#" + "".join(f"{int(part):02x}" for part in re.findall(r"\d+", color)[:3])


@pytest.mark.parametrize("look", LOOKS)
def test_whatever_is_written_has_contrast_and_size(
    look: str, browser: Browser, pages: dict[str, str]
) -> None:
    found = browser.open(pages["fable"], **LOOKS[look]).evaluate(WRITTEN)
    assert len(found) > 500
    pairs = {(hexadecimal(color), hexadecimal(back)) for color, back, _ in found}
    assert len(pairs) > 8
    assert min(contrast(*pair) for pair in pairs) >= 4.5
    assert min(size for _, _, size in found) >= 12


def test_on_paper_it_is_light_and_has_no_slider(browser: Browser, pages: dict[str, str]) -> None:
    tab = browser.open(pages["fable"], dark=True)
    pdf = tab.pdf()
    assert pdf.startswith(b"%PDF-")
    assert len(re.findall(rb"/Type /Page\b", pdf)) > 1
    tab.call(
        "Emulation.setEmulatedMedia",
        media="print",
        features=[{"name": "prefers-color-scheme", "value": "dark"}],
    )
    body = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert hexadecimal(body) == LIGHT["paper"]
    for one in ("#look", "nav", "details"):
        assert not tab.evaluate(f"document.querySelector('{one}').checkVisibility()")
    assert tab.evaluate("document.getElementById('text').checkVisibility()")


def test_text_runs_from_right_to_left_where_it_should(
    browser: Browser, pages: dict[str, str]
) -> None:
    """The first character of a Hebrew line stands at the right, of an English one at the left."""
    first = (
        "((r) => r.x + r.width / 2)(document.querySelector('#text span').getBoundingClientRect())"
    )
    assert browser.open(pages["hebrew"]).evaluate(first) > 600
    assert browser.open(pages["fable"]).evaluate(first) < 600


# what the reader does

TOLD = "document.getElementById('told').innerText.split(/\\s*\\n\\s*|\\t/).join('\\n')"


def title(tab: Tab, place: int) -> str:
    return str(tab.evaluate(f"document.querySelectorAll('#text span')[{place}].title"))


def words(text: str) -> list[str]:
    return text.split()


def press(tab: Tab, key: str, code: int) -> None:
    for kind in ("keyDown", "keyUp"):
        tab.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)


def middle(tab: Tab, place: int) -> dict[str, float]:
    tab.evaluate(
        f"document.querySelectorAll('#text span')[{place}].scrollIntoView({{block: 'center'}})"
    )
    x, y = tab.evaluate(
        "((r) => [r.x + r.width / 2, r.y + r.height / 2])"
        f"(document.querySelectorAll('#text span')[{place}].getBoundingClientRect())"
    )
    return {"x": x, "y": y}


def shown_place(tab: Tab) -> int:
    """Which place is told of: by the slider, by the mark in the text and by what is written."""
    place = int(tab.evaluate("document.getElementById('place').value"))
    marked = "[...document.querySelectorAll('#text span')].map((one) => one.className)"
    classes = tab.evaluate(marked)
    assert [n for n, names in enumerate(classes) if "here" in names.split()] == [place]
    assert words(tab.evaluate("document.getElementById('told').innerText")) == words(
        title(tab, place)
    )
    assert tab.evaluate("document.getElementById('place').ariaValueText") == title(tab, place)
    return place


def test_keys_move_through_the_text(browser: Browser, pages: dict[str, str]) -> None:
    tab = browser.open(pages["fable"], **PHONE)
    assert shown_place(tab) == 1
    for _ in range(200):
        press(tab, "Tab", 9)
        if tab.evaluate("document.activeElement.id") == "place":
            break
    assert tab.evaluate("document.activeElement.id") == "place"
    for _ in range(3):
        press(tab, "ArrowRight", 39)
    assert shown_place(tab) == 4
    press(tab, "ArrowLeft", 37)
    assert shown_place(tab) == 3
    press(tab, "End", 35)
    assert shown_place(tab) == len(FABLE) - 1
    assert tab.told() == []


def test_a_pointer_or_a_finger_shows_a_place(browser: Browser, pages: dict[str, str]) -> None:
    tab = browser.open(pages["fable"])
    tab.call("Input.dispatchMouseEvent", type="mouseMoved", **middle(tab, 100))
    assert shown_place(tab) == 100
    tab = browser.open(pages["fable"], **PHONE)
    tab.call("Emulation.setTouchEmulationEnabled", enabled=True)
    tab.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[middle(tab, 200)])
    tab.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
    assert shown_place(tab) == 200
    panel = tab.evaluate(
        "((r) => [r.top, r.bottom])(document.getElementById('look').getBoundingClientRect())"
    )
    assert 0 < panel[0] < panel[1] <= 700  # in sight, wherever the text stands


def test_without_its_script_the_text_has_titles_and_no_slider(
    browser: Browser, pages: dict[str, str]
) -> None:
    tab = browser.open(pages["fable"], scripts=False)
    tab.call("Emulation.setScriptExecutionDisabled", value=False)  # to look at what there is
    assert not tab.evaluate("document.getElementById('look').checkVisibility()")
    assert "bits" in title(tab, 5)


# what a screen reader is told


def test_everything_has_a_name(browser: Browser, pages: dict[str, str]) -> None:
    tab = browser.open(pages["fable"])
    tab.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    tab.call("Accessibility.enable")
    found: dict[str, list[str]] = {}
    for node in tab.call("Accessibility.getFullAXTree")["nodes"]:
        if node["ignored"]:
            continue
        role, name = node["role"]["value"], node.get("name", {}).get("value", "")
        found.setdefault(role, []).append(name)
        if role == "image":
            assert node["description"]["value"]
    assert found["image"] == [
        *("The curve", "The learning rate"),
        *("Surprisal along the text", "How much the past moves the loss"),
    ]
    assert found["slider"] == ["What it expected: point at a place, or move to it"]
    for role in ("heading", "link", "table", "region", "navigation", "rowheader"):
        assert found[role], role
        assert all(found[role]) or role == "rowheader", role
    assert len(found["region"]) == 6
    assert {"banner", "main", "contentinfo"} <= set(found)
