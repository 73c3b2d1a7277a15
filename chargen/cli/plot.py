"""``chargen plot``: what a model learned and how, as a picture in a file or in the terminal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from chargen.cli.options import load_models, model_option, models_option, name_of
from chargen.cli.parsing import Group, WholeNumber
from chargen.cli.pictures import (
    check_output,
    draw,
    output_options,
    read_text,
    text_options,
    unit_of,
)
from chargen.errors import UsageError

__all__ = ["command"]

Function = Callable[..., Any]


def _layer_option(function: Function) -> Function:
    return click.option(
        "--layer",
        type=WholeNumber(),
        metavar="N",
        help="The recurrent layer, from 1.  [default: the last]",
    )(function)


def _state_options(function: Function) -> Function:
    cell_state = click.option(
        "--cell-state", is_flag=True, help="Look at the cell state c of an LSTM in place of h."
    )
    return _layer_option(cell_state(function))


@click.group(
    "plot",
    cls=Group,
    options_metavar="",
    subcommand_metavar="KIND [OPTIONS]",
    short_help="Draw what a model learned, and how.",
)
def command() -> None:
    """Draw a model: how it was trained, what it expects, and what goes on inside it.

    With -o the picture is a PNG or SVG file, which needs Matplotlib (pip install 'chargen[plot]');
    without, it is drawn in the terminal.

    \b
      chargen plot curve -m small.keras -m large.keras
      chargen plot surprisal --text story.txt -o surprisal.png
      chargen plot units --text story.txt
      chargen plot unit --unit 17 --text story.txt
      chargen plot memory -m rnn.keras -m lstm.keras --text story.txt -o memory.svg
    """


@command.command("curve", short_help="The figures of the training, and the learning rate.")
@models_option("The model to read; several come into one picture.")
@output_options
def curve(models: tuple[str, ...], output: str | None, force: bool) -> None:
    """Draw the loss in training and the held-out figure, both in bits, and the learning rate.

    \b
      chargen plot curve -m small.keras -m large.keras -o curve.png
    """
    check_output(output, force)
    loaded = load_models(models)
    histories = {name: model.history for name, model in loaded.items()}
    title = f"Training of {', '.join(loaded)}"
    draw(output, "history", histories, unit=unit_of(loaded.values()), title=title)


@command.command("surprisal", short_help="How surprised the model is along a text.")
@model_option
@text_options(2000)
@output_options
def surprisal(model: str, output: str | None, force: bool, **reading: Any) -> None:
    """Draw the surprisal in bits of each character of a text, given all that comes before it.

    A text of up to 480 characters is spelled out under the bars; along a longer one there is a
    moving average.

    \b
      chargen plot surprisal --text story.txt --length 400
    """
    from chargen.evaluation import surprisal_bits

    check_output(output, force)
    loaded = load_models((model,))
    ((name, one),) = loaded.items()
    ((tokens, characters),) = read_text(loaded, **reading)
    values = surprisal_bits(one.engine, tokens, window=one.window)
    draw(
        output,
        "along_text",
        values,
        characters,
        label="surprisal, bits",
        unit=one.vocabulary.unit,
        title=f"Surprisal along {name_of(reading['text'])}, by {name}",
    )


@command.command("unit", short_help="What a hidden unit does along a text.")
@model_option
@click.option(
    "--unit", type=WholeNumber(), required=True, metavar="N", help="The hidden unit, from 0."
)
@_state_options
@text_options(400)
@output_options
def unit(
    model: str,
    unit: int,
    layer: int | None,
    cell_state: bool,
    output: str | None,
    force: bool,
    **reading: Any,
) -> None:
    """Draw the activation of a hidden unit after each character of a text.

    A text of up to 480 characters is spelled out under the bars; along a longer one there is a
    moving average. 'chargen plot units' finds units worth a look.

    \b
      chargen plot unit --unit 17 --text story.txt
    """
    from chargen.inspection import activations

    check_output(output, force)
    loaded = load_models((model,))
    ((name, one),) = loaded.items()
    if not 0 <= unit < one.config.units:
        raise UsageError(
            f"--unit {unit}: expected a whole number from 0 to {one.config.units - 1:,}"
        )
    ((tokens, characters),) = read_text(loaded, **reading)
    found = activations(
        one.config, one.tensors, tokens, layer=layer, cell_state=cell_state, window=one.window
    )
    draw(
        output,
        "along_text",
        found[:, unit].astype(float),
        characters,
        label=f"{'c' if cell_state else 'h'} of unit {unit}",
        unit=one.vocabulary.unit,
        title=f"Unit {unit} of layer {layer or one.config.num_layers} of {name}"
        f" along {name_of(reading['text'])}",
    )


@command.command("units", short_help="Search for hidden units that follow something.")
@model_option
@click.option(
    "--top",
    type=WholeNumber(1),
    default=3,
    show_default=True,
    metavar="N",
    help="How many units to show for each thing that they may follow.",
)
@_state_options
@text_options(10_000)
@output_options
def units(
    model: str,
    top: int,
    layer: int | None,
    cell_state: bool,
    output: str | None,
    force: bool,
    **reading: Any,
) -> None:
    """Search for hidden units that follow something along a text: the position in the line, in
    the word or in the sentence, quotes, brackets, capitals, digits, or what comes next.

    For each of these that the text holds, the units whose activation correlates with it most,
    positively or negatively, are shown with Pearson's correlation.

    \b
      chargen plot units --text story.txt
    """
    from chargen.features import text_features
    from chargen.inspection import activations, find_units

    check_output(output, force)
    loaded = load_models((model,))
    ((name, one),) = loaded.items()
    ((tokens, characters),) = read_text(loaded, **reading)
    found = activations(
        one.config, one.tensors, tokens, layer=layer, cell_state=cell_state, window=one.window
    )
    matches = find_units(found, text_features(characters), top)
    draw(
        output,
        "units",
        matches,
        title=f"Units of layer {layer or one.config.num_layers} of {name}"
        f" along {name_of(reading['text'])}",
    )


@command.command("embedding", short_help="The characters as the model sees them, in a plane.")
@model_option
@output_options
def embedding(model: str, output: str | None, force: bool) -> None:
    """Draw the embedding of the characters along its first two principal components.

    Characters that the model treats alike tend to stand together.

    \b
      chargen plot embedding -o embedding.png
    """
    from chargen.inspection import principal_components
    from chargen.signs import kinds_of, labels_of

    check_output(output, force)
    ((name, one),) = load_models((model,)).items()
    projection = principal_components(one.tensors["embedding"])
    labels, kinds = labels_of(one.vocabulary), kinds_of(one.vocabulary)
    draw(output, "embedding", projection, labels, kinds, title=f"Embedding of {name}")


@command.command("memory", short_help="How far back the model looks.")
@models_option("The model to read; several come into one picture.")
@click.option(
    "--distance",
    type=WholeNumber(1),
    default=100,
    show_default=True,
    metavar="K",
    help="How many characters back to look.",
)
@click.option(
    "--relative", is_flag=True, help="Divide each curve by its value at k = 0, to compare models."
)
@_layer_option
@text_options(5000)
@output_options
def memory(
    models: tuple[str, ...],
    distance: int,
    relative: bool,
    layer: int | None,
    output: str | None,
    force: bool,
    **reading: Any,
) -> None:
    """Draw how far back a model looks: how much what it held k characters before moves its loss.

    For k from 0 to K it is the mean, over 256 places t of the text, of the norm of the gradient
    dloss(t)/dh(t-k), on a logarithmic scale: a straight line down is a gradient that vanishes
    geometrically. A model trained on windows looks no further back than its window.

    \b
      chargen plot memory -m rnn.keras -m lstm.keras --text story.txt -o memory.png
    """
    from chargen.inspection import gradient_norms

    check_output(output, force)
    loaded = load_models(models)
    texts = read_text(loaded, **reading)
    curves = {
        name: gradient_norms(
            model.config,
            model.tensors,
            tokens,
            distance=distance,
            layer=layer,
            window=model.window,
        )
        for (name, model), (tokens, _) in zip(loaded.items(), texts, strict=True)
    }
    verb = "looks" if len(loaded) == 1 else "look"
    title = f"How far back {', '.join(loaded)} {verb} in {name_of(reading['text'])}"
    unit = unit_of(loaded.values())
    draw(output, "memory", curves, relative=relative, unit=unit, title=title)
