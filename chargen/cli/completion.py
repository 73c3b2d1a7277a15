"""``chargen completion``: the lines that teach a shell to complete chargen's commands."""

from __future__ import annotations

import click

from chargen.cli.parsing import Command, OneOf

__all__ = ["command"]


@click.command("completion", cls=Command, short_help="Print shell completion.")
@click.argument("shell", type=OneOf(["bash", "zsh", "fish"]), metavar="SHELL")
def command(shell: str) -> None:
    """Print what makes SHELL complete chargen's commands, options and files.

    \b
      eval "$(chargen completion bash)"        # in ~/.bashrc
      eval "$(chargen completion zsh)"         # in ~/.zshrc
      chargen completion fish | source         # in ~/.config/fish/config.fish
    """
    from click.shell_completion import get_completion_class

    from chargen.cli import cli
    from chargen.cli.consoles import write_text

    completion = get_completion_class(shell)
    assert completion is not None  # the three are Click's own
    write_text(completion(cli, {}, "chargen", "_CHARGEN_COMPLETE").source())
