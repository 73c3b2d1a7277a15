"""``chargen info``: what a model file says about itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from chargen.cli.options import model_option
from chargen.cli.parsing import Command

if TYPE_CHECKING:
    from chargen.model import Model

__all__ = ["command", "repeating_command", "rows_of"]

_OPTIONS = {
    "cell": "--cell",
    "units": "--units",
    "num_layers": "--layers",
    "embedding_dim": "--embedding-dim",
    "dropout": "--dropout",
    "objective": "--objective",
    "batch_size": "--batch-size",
    "sequence_length": "--sequence-length",
    "stride": "--stride",
    "learning_rate": "--learning-rate",
    "epochs": "--epochs",
    "steps": "--steps",
    "patience": "--patience",
    "validate_every": "--validate-every",
    "precision": "--precision",
    "random_seed": "--random-seed",
    "tokens": "--tokens",
    "encoding": "--encoding",
    "val_fraction": "--val-fraction",
    "init": "--init",
}
_CHECKED = (
    *("zip records", "checksums", "JSON", "Keras config", "HDF5 structure against the index"),
    *("finite weights", "finite logits"),
)
_KEPT_BY_INIT = {"cell", "units", "num_layers", "embedding_dim"}


@click.command("info", cls=Command, short_help="Show what a model is and how it was trained.")
@model_option
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object.")
@click.option(
    "--verify",
    is_flag=True,
    help="Check all that the file holds, and the state of the run beside it.",
)
def command(model: str, as_json: bool, verify: bool) -> None:
    """Show a model's architecture, vocabulary, training, curve and held-out figure, and the
    command that repeats its run."""
    from chargen.cli.consoles import write_json, write_text
    from chargen.model import load

    loaded = load(model)
    verified = _verified(loaded) if verify else None
    if as_json:
        told = {} if verified is None else {"verified": verified}
        write_json({**loaded.info(), "command": repeating_command(loaded), **told})
    else:
        rows = [*rows_of(loaded), *(() if verified is None else _rows_of_verified(verified))]
        write_text("\n".join(f"{name:<14}{value}" for name, value in rows))


def _verified(loaded: Model) -> dict[str, Any]:
    """What was checked, and where the resume state stands; raises ``ModelFileError`` where
    something disagrees."""
    loaded.verify()
    return {"checked": list(_CHECKED), "resume_state": _verified_state(loaded)}


def _verified_state(loaded: Model) -> dict[str, int] | None:
    """The step of the state beside the model, which must be of the same run; None without one."""
    from chargen.errors import ModelFileError
    from chargen.training.checkpoint import read_checkpoint, state_path

    path = state_path(loaded.path or "")
    try:
        state = read_checkpoint(path)
    except FileNotFoundError:
        return None
    run_of_state = state.model, state.vocabulary, state.origin["corpus_sha256"]
    if run_of_state != (loaded.config, loaded.vocabulary, loaded.training["corpus_sha256"]):
        raise ModelFileError(
            f"{path}: the state of another run than that of {loaded.path}; remove it, or put the"
            " model back that it belongs to"
        )
    return {"step": state.run.step, "steps": state.run.plan.steps}


def _rows_of_verified(verified: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "verified", ", ".join(verified["checked"])
    state = verified["resume_state"]
    yield (
        "resume state",
        "none beside it"
        if state is None
        else f"verified too, at step {state['step']:,} of {state['steps']:,}",
    )


def rows_of(loaded: Model) -> Iterator[tuple[str, str]]:
    from chargen.cli.consoles import one_line, sparkline

    config, training = loaded.config, loaded.training
    layers = f"{config.num_layers} x {config.units} {config.cell.upper()}"
    yield "model", one_line(f"{loaded.path}")
    yield (
        "architecture",
        f"embedding {config.embedding_dim}, {layers}, dropout {config.dropout:g},"
        f" dense {config.vocabulary_size}",
    )
    yield "parameters", f"{config.num_parameters:,}"
    yield "vocabulary", _vocabulary(loaded)
    corpus = training["corpus"]
    yield (
        "trained on",
        f"{training['characters']:,} {loaded.vocabulary.unit}s of"
        f" {'a text given in Python' if corpus is None else ' '.join(map(one_line, corpus))}",
    )
    objective = (
        "every next character, state carried"
        if loaded.window is None
        else f"the character after each window of {loaded.window}"
    )
    yield "objective", objective
    yield (
        "schedule",
        f"batch {training['batch_size']} x {training['sequence_length']},"
        f" learning rate {training['learning_rate']:g}, best at step {training['best_step']:,}"
        f" of {int(loaded.history[-1]['step']):,}",
    )
    curve = [point["bits_per_char"] for point in loaded.history if "bits_per_char" in point]
    if curve:
        yield "curve", f"{sparkline(curve)}  {curve[0]:.3f} to {min(curve):.3f} bits"
    if training["held_out"] is not None:
        held_out = training["held_out"]
        yield (
            "held out",
            f"{held_out['bits_per_char']:.4f} bits per {loaded.vocabulary.unit}"
            f" on {held_out['characters'] + 1:,}",
        )
    if (repeat := repeating_command(loaded)) is not None:
        yield "repeat", repeat
        if not (training["completed"] and training["as_planned"]):
            yield "", "(not to the byte: the run was stopped or shortened on its way)"


def _vocabulary(loaded: Model) -> str:
    if loaded.vocabulary.kind == "byte":
        return "the 256 bytes"
    characters = "".join(map(chr, loaded.vocabulary.characters))
    shown = characters if len(characters) <= 120 else f"{characters[:120]}…"
    return f"{len(characters):,} characters: {shown.encode('unicode_escape').decode()}"


def repeating_command(loaded: Model) -> str | None:
    """The ``chargen train`` that repeats the run; None where the corpus had no name."""
    from chargen.cli.consoles import shell_word

    settings: dict[str, Any] = {**loaded.config.to_dict(), **loaded.training}
    if settings["corpus"] is None:
        return None
    words = ["chargen", "train"]
    for name, option in _OPTIONS.items():
        value = settings[name]
        if value is not None and not (settings["init"] is not None and name in _KEPT_BY_INIT):
            words += [option, str(value)]
    words += [f"--{flag}" for flag in ("lines", "deterministic") if settings[flag]]
    if any(name.startswith("-") and name != "-" for name in settings["corpus"]):
        words.append("--")
    return " ".join(map(shell_word, [*words, *settings["corpus"]]))
