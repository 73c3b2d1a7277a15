"""The command line: the only folder that may import Click or Rich, print, or exit.

Commands are imported when they are called, so that ``--help`` stays light, and this file alone
turns an error into a status. It knows nothing of tensors.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from importlib import import_module
from typing import Any, NoReturn

import click

from chargen import __version__
from chargen.cli.consoles import NO_STDOUT, silence, tell
from chargen.cli.parsing import Group, NoCommand
from chargen.errors import ChargenError

__all__ = ["cli", "main"]

_COMMANDS = ("train", "generate", "evaluate", "score", "plot", "report", "info", "completion")
_USAGE_STATUS = 2
_FAILURE_STATUS = 1


class _LazyGroup(Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = import_module(f"chargen.cli.{cmd_name}").command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # Click would end with 1
            silence(1)
            return 0
        except KeyboardInterrupt:  # Click would write an empty line first
            die_of(signal.SIGINT)


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-V", "--version", message="chargen %(version)s")
def cli() -> None:
    """Train a character-level recurrent network on any text, and generate new text from it.

    \b
      chargen train corpus.txt
      chargen generate --seed "The quick "
    """


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit with its status."""
    sys.exit(_run(arguments))


def _run(arguments: list[str] | None) -> int:
    _occupy_closed_streams()
    try:
        status = cli.main(arguments, prog_name="chargen", standalone_mode=False)
        has_exited = isinstance(status, int)  # of --help and --version, which write to stdout
        if sys.stdout is not None:
            sys.stdout.flush()
        elif has_exited:
            return _fail(NO_STDOUT, _FAILURE_STATUS)
        return status if has_exited else 0
    except ChargenError as error:
        return _fail(str(error), error.status)
    except NoCommand as error:
        click.echo(error.message, err=True)
        return _USAGE_STATUS
    except click.ClickException as error:
        return _fail(error.format_message(), _USAGE_STATUS)
    except (KeyboardInterrupt, click.Abort):
        die_of(signal.SIGINT)
    except OSError as error:
        silence(1)
        return _fail(f"cannot write the output: {error.strerror or error}", _FAILURE_STATUS)
    except MemoryError:
        return _fail(
            "out of memory; training takes less with smaller --units, --batch-size or"
            " --sequence-length, all else with a shorter text",
            _FAILURE_STATUS,
        )
    except Exception as error:
        return _fail(
            f"unexpected {type(error).__name__}: {_one_line(error)} (CHARGEN_DEBUG=1 shows where)",
            _FAILURE_STATUS,
        )


def _occupy_closed_streams() -> None:
    """Let no file that is opened later take the number of a closed stdin, stdout or stderr: what a
    library writes there would land in it."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the smallest number that is free


def _one_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else "no message"


def _fail(message: str, status: int) -> int:
    if os.environ.get("CHARGEN_DEBUG", "0") not in ("", "0"):
        for line in traceback.format_exc().splitlines():
            tell(line)
    tell(f"chargen: {message}")
    return status


def die_of(number: signal.Signals) -> NoReturn:
    """End by the signal itself, so that a shell loop stops too."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            silence(stream.fileno())
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    os._exit(128 + number)  # where the signal is blocked
