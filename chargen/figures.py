"""A sheet to draw on: Matplotlib with its own defaults and ours, and a figure as PNG or SVG.

Matplotlib is an extra: it is imported when a picture is made, without pyplot, and whatever the
reader has set in a file of settings has no part in it, so that the same numbers give the same
bytes. This room knows nothing of what is drawn.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from chargen.errors import RunError
from chargen.signs import escaped

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "KINDS",
    "MONO",
    "NEUTRAL",
    "PAPER",
    "SANS",
    "Look",
    "blank",
    "drawable",
    "render",
    "require_matplotlib",
    "settings",
    "svg_element",
]

KINDS = ("png", "svg")
SANS, MONO = "DejaVu Sans", "DejaVu Sans Mono"  # Matplotlib brings both

_WIDTH = 8.0  # inches
_DOTS_PER_INCH = 160
_INKED: tuple[Any, ...] = (
    *("text.color", "axes.edgecolor", "axes.labelcolor", "axes.titlecolor"),
    *("xtick.color", "ytick.color", "grid.color"),
)


@dataclass(frozen=True)
class Look:
    """The colours of text and axes, and of what is behind them (``none``: nothing)."""

    ink: str
    background: str


PAPER = Look("#222222", "#ffffff")
NEUTRAL = Look("#808080", "none")  # legible on white and on black


def require_matplotlib() -> None:
    """Raise ``RunError`` unless Matplotlib can be imported."""
    backend = os.environ.pop("MPLBACKEND", None)  # one that is not there would be an error
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise RunError(
            "a picture in a file needs Matplotlib, which is not installed: pip install"
            " 'chargen[plot]'; without -o/--output it is drawn in the terminal"
        ) from None
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend


@contextmanager
def settings(look: Look) -> Iterator[None]:
    """Matplotlib's defaults and ours in place of the reader's, for as long as it takes."""
    require_matplotlib()
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(
            {
                "font.family": SANS,
                "axes.titlesize": 11,
                "axes.titlelocation": "left",
                "axes.spines.top": False,
                "axes.spines.right": False,
                "axes.axisbelow": True,
                "axes.facecolor": "none",
                "grid.alpha": 0.2,
                "grid.linewidth": 0.6,
                "legend.frameon": False,
                "lines.linewidth": 1.6,
                "lines.markersize": 3.5,
                "svg.hashsalt": "chargen",
                **dict.fromkeys(_INKED, look.ink),
            }
        )
        yield


def blank(look: Look, height: float) -> Figure:
    """An empty figure, ``height`` inches high."""
    from matplotlib.figure import Figure

    return Figure(figsize=(_WIDTH, height), layout="constrained", facecolor=look.background)


def render(figure: Figure, kind: str) -> bytes:
    """A figure as ``png`` or ``svg``, with no date or version in it: the same bytes each time."""
    left_out = {"png": ("Software",), "svg": ("Date", "Creator")}[kind]
    buffer = io.BytesIO()
    with settings(PAPER):
        figure.savefig(
            buffer,
            format=kind,
            dpi=_DOTS_PER_INCH,
            facecolor=figure.get_facecolor(),
            metadata=dict.fromkeys(left_out),
        )
    return buffer.getvalue()


def svg_element(figure: Figure) -> str:
    """A figure as an ``<svg>`` element to stand in an HTML page, whose other parts its style does
    not reach. Several may stand in one page: what has the same name in two is the same."""
    text = render(figure, "svg").decode("utf-8")
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    style = re.compile(r"\s*<defs>\s*<style type=\"text/css\">\*\{([^}]*)\}</style>\s*</defs>")
    if (found := style.search(text)) is not None:
        text = style.sub("", text).replace("<svg ", f'<svg style="{found[1]}" ', 1)
    return text


@cache
def _glyphs(family: str) -> frozenset[int]:
    """The code points that a font has a picture for."""
    from matplotlib.font_manager import findfont, get_font

    return frozenset(get_font(findfont(family)).get_charmap())


def drawable(text: str, family: str = SANS) -> str:
    """``text`` with an escape such as U+4E00 for each character that the font lacks, and with
    nothing that Matplotlib would take for mathematics."""
    glyphs = _glyphs(family)
    shown = (c if ord(c) in glyphs else f"U+{ord(c):04X}" for c in escaped(text))
    return "".join(shown).replace("$", r"\$")
