"""What a model is compared with: others that foresee the same text, by bits per character."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from chargen.report.page import Html, element, table

__all__ = ["compared"]

_THIS_MODEL = "this model"


def compared(bits: float, rivals: Mapping[str, float], unit: str) -> Iterator[Html]:
    """The section; ``bits`` are those of the model, ``rivals`` are `evaluation.baselines`."""
    uniform = f"Uniform is a blind choice among all {unit}s."
    if len(rivals) > 1:
        told = (
            "How well others foresee the same text that were given a text to learn from: n-grams"
            f" with Witten-Bell smoothing, and compressors. {uniform}"
        )
    else:
        told = (
            f"{uniform} --train-text FILE adds n-grams and compressors that are given that text"
            " first."
        )
    yield element("p", told)
    ranking = sorted({**rivals, _THIS_MODEL: bits}.items(), key=lambda item: item[1])
    largest = ranking[-1][1] or 1.0
    rows = [
        (name, f"{of_name:.4f}", _bar(of_name / largest, is_own=name == _THIS_MODEL))
        for name, of_name in ranking
    ]
    yield table(f"Bits per {unit}, the best first", ("", "bits", ""), rows, class_="bars")


def _bar(part: float, *, is_own: bool) -> Html:
    bar = element("rect", width=f"{100 * part:.1f}%", height="100%")
    return element("svg", bar, aria_hidden="true", class_="own" if is_own else None)
