"""A report: a model and a text as one page of HTML, which needs nothing beside itself.

How the model was trained, what it writes, what it expects of the text, what it is compared with,
and what goes on inside it. What is measured comes from `evaluation`, `inspection` and the model's
own record; here it is only put into words, tables and charts. The same call makes the same page.
This room knows nothing of the command line and writes no file.
"""

from __future__ import annotations

from collections.abc import Mapping

from chargen import __version__
from chargen.blas import single_threaded
from chargen.corpus import Tokens
from chargen.evaluation import Evaluation, baselines, evaluate
from chargen.model import Model
from chargen.report.coloring import share
from chargen.report.comparison import compared
from chargen.report.memory import looking_back
from chargen.report.page import Html, document, element, join
from chargen.report.samples import written
from chargen.report.subject import Subject, own_corpus, own_subject
from chargen.report.surprisal import surprising
from chargen.report.theme import SCRIPT, STYLE
from chargen.report.training import trained
from chargen.report.units import following

__all__ = ["Subject", "own_corpus", "own_subject", "report"]

_MEASURED = 1_000_000  # tokens, from the beginning of the text, that the figures are of


def report(
    model: Model,
    subject: Subject,
    *,
    training: Tokens | None = None,
    facts: Mapping[str, str],
    repeat: str | None,
    generate: str,
) -> str:
    """The page about ``model`` and the text of ``subject``, compared with what is trained on
    ``training`` text.

    ``facts`` are rows of what is known of the training, ``repeat`` the command that repeats it,
    and ``generate`` the command, without its options, that writes with this model. Raises
    ``TextError`` for a text of less than two tokens.
    """
    name = "a model" if model.path is None else model.path.name
    measured = subject.tokens[:_MEASURED]
    found = evaluate(model.engine, measured, window=model.window)
    rivals = baselines(measured, model.vocabulary, training)
    with single_threaded():  # the products of one stream are too small to share
        sections: dict[str, list[Html]] = {
            "How it was trained": [*trained(model, facts, repeat)],
            "What it writes": [*written(model, generate)],
            "What surprises it": [*surprising(model, subject)],
            "What it is compared with": [
                *compared(found.bits_per_char, rivals, model.vocabulary.unit)
            ],
            "Units worth looking at": [*following(model, subject)],
            "How far back it looks": [*looking_back(model, subject)],
        }
    links = [
        element("li", element("a", title, href=f"#part{number}"))
        for number, title in enumerate(sections, 1)
    ]
    parts = [
        element(
            "section",
            element("h2", title, id=f"part{number}"),
            *content,
            aria_labelledby=f"part{number}",
        )
        for number, (title, content) in enumerate(sections.items(), 1)
    ]
    return document(
        f"{name} · chargen report",
        STYLE,
        SCRIPT,
        element(
            "header",
            element("h1", name),
            _summary(model, subject, found),
            element("nav", element("ul", *links), aria_label="Contents"),
        ),
        element("main", *parts),
        element("footer", f"Made by chargen {__version__}; the page needs no network."),
    )


def _summary(model: Model, subject: Subject, found: Evaluation) -> Html:
    unit = model.vocabulary.unit
    tiles = {
        f"bits per {unit}": f"{found.bits_per_char:.4f}",
        "perplexity": f"{found.perplexity:.3f}",
        "right at the first guess": share(found.accuracy),
        "parameters": f"{model.config.num_parameters:,}",
    }
    size = found.characters + 1
    part = "" if size == subject.tokens.size else "the first "
    skipped = f", less {subject.skipped:,} that it does not know" if subject.skipped else ""
    return join(
        element(
            "dl",
            *(
                element("div", element("dt", what), element("dd", value))
                for what, value in tiles.items()
            ),
            class_="tiles",
        ),
        element(
            "p",
            f"Measured on {subject.name}: {part}{size:,} {unit}s{skipped}. {subject.origin}",
        ),
    )
